"""Read ESConv in any of the forms it is spread in, scrubbed and with its label variants brought to one form.

Known forms: our JSONL (`{"id", "split", "dialog": [{"speaker", "content", "strategy"}]}` a line), the original
`ESConv.json` and `FailedESConv.json` of thu-coai (one list, roles also named speaker/listener), and the lines of the
Hugging Face data set's `train|valid|test.txt` (`{"dialog": [{"text", "speaker": "usr" | "sys"}]}`).
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.errors import CorpusError
from ..skills_bank.taxonomy import ESCONV_STRATEGIES
from .labels import SPLITS, DialogueLabels, load_labels, source_of
from .scrub import Kind, scrub

Form = Literal["jsonl", "original", "hugging-face"]
Speaker = Literal["seeker", "supporter"]
_SPEAKERS: dict[str, Speaker] = {
    "seeker": "seeker", "usr": "seeker", "user": "seeker", "speaker": "seeker",
    "supporter": "supporter", "sys": "supporter", "system": "supporter", "listener": "supporter",
}  # fmt: skip
_STRATEGIES: dict[str, str] = {name.lower(): name for name in ESCONV_STRATEGIES} | {
    "other": "Others", "questions": "Question", "approval and reassurance": "Affirmation and Reassurance",
    "affirmation & reassurance": "Affirmation and Reassurance", "direct guidance": "Providing Suggestions",
    "providing suggestions or information": "Providing Suggestions", "restatement": "Restatement or Paraphrasing",
    "paraphrasing": "Restatement or Paraphrasing", "reflection of feeling": "Reflection of feelings",
    "self disclosure": "Self-disclosure",
}  # fmt: skip
"""ESConv's eight strategies and the variants met in FailedESConv and in derived data sets (lower case → canonical)."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Utterance(_Frozen):
    """One message of a dialogue; `strategy` is the supporter's own label, `feedback` the seeker's 1-5 rating."""

    speaker: Speaker
    content: str
    strategy: str | None = None
    feedback: int | None = Field(default=None, ge=1, le=5)


class Turn(_Frozen):
    """Consecutive utterances of one speaker; `utterances` is `[begin, end)` in the dialogue."""

    number: int
    speaker: Speaker
    utterances: tuple[int, int]
    content: str


class Dialogue(_Frozen):
    """One conversation of the corpus."""

    id: str
    source: Literal["ESConv", "FailedESConv", "other"]
    split: str
    situation: str = ""
    problem_type: str = ""
    emotion_type: str = ""
    utterances: tuple[Utterance, ...]

    def turns(self) -> tuple[Turn, ...]:
        """Return the dialogue as turns, numbered from 1."""
        found: list[Turn] = []
        begin = 0
        for _, group in groupby(self.utterances, key=lambda utterance: utterance.speaker):
            parts = list(group)
            end = begin + len(parts)
            found.append(
                Turn(
                    number=len(found) + 1,
                    speaker=parts[0].speaker,
                    utterances=(begin, end),
                    content=" ".join(part.content for part in parts),
                )
            )
            begin = end
        return tuple(found)

    def text(self, utterances: tuple[int, int]) -> str:
        """Return the utterances `[begin, end)` as one string."""
        return " ".join(utterance.content for utterance in self.utterances[slice(*utterances)])


class Skipped(_Frozen):
    """A dialogue that was left out, where it stands and why."""

    where: str
    reason: str


class Corpus(_Frozen):
    """What was read from one or more files, with everything that was changed or left out on the way."""

    dialogues: tuple[Dialogue, ...]
    forms: dict[str, Form]
    skipped: tuple[Skipped, ...] = ()
    scrubbed: dict[Kind, int] = Field(default_factory=dict)
    renamed: dict[str, int] = Field(default_factory=dict, description="Strategy variants brought to ESConv's names.")

    def by_id(self) -> dict[str, Dialogue]:
        """Return the dialogues by id."""
        return {dialogue.id: dialogue for dialogue in self.dialogues}


class _Malformed(Exception):
    """A dialogue that cannot be used; the message is the reason that is counted."""


class CorpusReader:
    """Reads files one dialogue at a time and keeps the counts; the dialogues themselves are handed out, not kept.

    `skipped`, `scrubbed`, `renamed` and `forms` say what `Corpus` says, of what was read so far.
    """

    def __init__(self) -> None:
        self.scrubbed: Counter[Kind] = Counter()
        self.renamed: Counter[str] = Counter()
        self.skipped: list[Skipped] = []
        self.forms: dict[str, Form] = {}
        self._seen: set[str] = set()

    def read(self, *paths: Path) -> Iterator[Dialogue]:
        """Yield the dialogues of files, or folders of files, in any known form.

        Files of lines are read line by line; a file that is one JSON list is held whole while it is read.

        Raises:
            CorpusError: A path holds no file, or a file holds not one usable dialogue (raised at its end).
        """
        for path in (file for given in paths for file in _files(given)):
            found, skips = 0, len(self.skipped)
            for i, (form, record, fallback) in enumerate(_records(path)):
                dialogue = self._take(f"{path.name}, dialogue {i + 1}", fallback, record)
                if dialogue is None:
                    continue
                found += 1
                if self.forms.get(path.name) != "hugging-face":  # one such line tells the form of the file
                    self.forms[path.name] = form
                yield dialogue
            if not found:
                reasons = Counter(skip.reason for skip in self.skipped[skips:])
                why = "; ".join(f"{reason} ({n}x)" for reason, n in reasons.most_common(3)) or "it is empty"
                raise CorpusError(
                    f"{path} is no dialogue corpus: {why}. See docs/build.md for the forms that are read."
                )

    def _take(self, where: str, fallback: Mapping[str, str], record: Any) -> Dialogue | None:
        try:
            dialogue = self._dialogue(record, fallback)
            if dialogue.id in self._seen:
                raise _Malformed("an id that was read before")
        except _Malformed as error:
            self.skipped.append(Skipped(where=where, reason=str(error)))
            return None
        self._seen.add(dialogue.id)
        return dialogue

    def _dialogue(self, record: Any, fallback: Mapping[str, str]) -> Dialogue:
        if not isinstance(record, dict):
            raise _Malformed("not an object")
        raw = record.get("dialog")
        if not isinstance(raw, list):
            raise _Malformed("no list `dialog`")
        # A blank message is nothing anybody said; the labels do not count it either.
        utterances = tuple(self._utterance(item) for item in raw if not _is_blank(item))
        for speaker in ("seeker", "supporter"):
            if all(utterance.speaker != speaker for utterance in utterances):
                raise _Malformed(f"no {speaker} in it")
        head = {**fallback, **{key: value for key in ("id", "source", "split") if (value := record.get(key))}}
        if head["source"] not in {"ESConv", "FailedESConv"}:
            head["source"] = "other"
        fields = {key: self._clean(str(record.get(key) or "")) for key in ("situation", "problem_type", "emotion_type")}
        return Dialogue.model_validate({**head, **fields, "utterances": utterances})

    def _utterance(self, item: Any) -> Utterance:
        if not isinstance(item, dict):
            raise _Malformed("an utterance that is not an object")
        notes = item.get("annotation")
        notes = {**item, **notes} if isinstance(notes, dict) else item
        speaker = _SPEAKERS.get(str(item.get("speaker")).lower())
        if speaker is None:
            raise _Malformed("an unknown speaker")
        content = item.get("content", item.get("text"))
        if not isinstance(content, str):
            raise _Malformed("an utterance without text")
        return Utterance(
            speaker=speaker,
            content=self._clean(content.strip()),
            strategy=self._strategy(notes.get("strategy")) if speaker == "supporter" else None,
            feedback=_feedback(notes.get("feedback")) if speaker == "seeker" else None,
        )

    def _strategy(self, raw: Any) -> str | None:
        if raw is None or raw == "":
            return None
        name = _STRATEGIES.get(re.sub(r"\s+", " ", str(raw).strip().lower()))
        if name is None:
            raise _Malformed("an unknown strategy")
        if name != raw:
            self.renamed[f"{raw} → {name}"] += 1
        return name

    def _clean(self, text: str) -> str:
        clean, counts = scrub(text)
        self.scrubbed.update(counts)
        return clean


def _is_blank(item: Any) -> bool:
    content = item.get("content", item.get("text")) if isinstance(item, dict) else None
    return isinstance(content, str) and not content.strip()


def _feedback(raw: Any) -> int | None:
    """Return the rating as a number; FailedESConv holds some that are no rating, which count as none given."""
    text = str(raw).strip()
    return int(text) if text in {"1", "2", "3", "4", "5"} else None


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines that hold anything; only a line end ends one, since a JSON string may hold U+2028 as it is."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from (line for line in file if not line.isspace())
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is no text file in UTF-8 ({error.reason} at byte {error.start}).") from error


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _whole(path: Path) -> list[Any] | None:
    """Return the file as one JSON list, or None where it is none; other files are not read beyond their first line."""
    if not next(_lines(path), "").lstrip().startswith("["):
        return None
    value = _parsed("".join(_lines(path)))
    return value if isinstance(value, list) else None


def _is_hugging_face(record: Any) -> bool:
    turns = record.get("dialog") if isinstance(record, dict) else None
    return bool(isinstance(turns, list) and turns and isinstance(turns[0], dict) and "text" in turns[0])


def _original_head(path: Path) -> Callable[[int], dict[str, str]]:
    """Return id, source and split by place: ids of the labels are the dialogue's place in the original files."""
    if "failed" in path.name.lower():
        return lambda i: {"id": f"esconv-failed-{i:03d}", "source": "FailedESConv", "split": "failed"}
    known = {labels.id: labels.split for labels in load_labels()}
    return lambda i: {
        "id": f"esconv-{i:04d}", "source": "ESConv", "split": known.get(f"esconv-{i:04d}", "test"),
    }  # fmt: skip


def _split_of(path: Path) -> str:
    return next((split for split in (*SPLITS, "test") if split in path.stem.lower()), path.stem)


def _split_head(path: Path) -> Callable[[int], dict[str, str]]:
    """Return id, source and split by line: our labels keep the order of the Hugging Face splits."""
    split = _split_of(path)
    ids = [labels.id for labels in load_labels() if labels.split == split]
    return lambda i: {
        "id": ids[i] if i < len(ids) else f"{path.stem}-{i:04d}", "source": source_of(split), "split": split,
    }  # fmt: skip


def _own_head(path: Path) -> Callable[[int], dict[str, str]]:
    """Return what a line of our own form is called that says nothing of itself: it is nobody's known dialogue."""
    return lambda i: {"id": f"{path.stem}-{i:04d}", "source": "other", "split": path.stem}


def _records(path: Path) -> Iterator[tuple[Form, Any, dict[str, str]]]:
    """Yield each record with the form it has, and what it is called where it does not say so itself."""
    if (whole := _whole(path)) is not None:
        # Numbering by place is ESConv's alone: somebody else's list of dialogues must not pass for it.
        head = _original_head(path) if "esconv" in path.name.lower() else _own_head(path)
        for i, record in enumerate(whole):
            yield "original", record, head(i)
        return
    theirs, own = _split_head(path), _own_head(path)
    for i, line in enumerate(_lines(path)):
        record = _parsed(line)
        if _is_hugging_face(record):
            yield "hugging-face", record, theirs(i)
        else:
            yield "jsonl", record, own(i)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(p for p in path.glob("*") if p.suffix in {".jsonl", ".json", ".txt"}) if path.is_dir() else []
    if not found:
        raise CorpusError(f"No corpus at {path}: expected a .jsonl, .json or .txt file, or a folder that holds some.")
    return found


def read_corpus(*paths: Path) -> Corpus:
    """Read files, or folders of files, in any known form.

    A malformed dialogue is skipped and named in `Corpus.skipped`.

    Raises:
        CorpusError: A path holds no file, or a file holds not one usable dialogue.
    """
    reader = CorpusReader()
    dialogues = tuple(reader.read(*paths))
    return Corpus(
        dialogues=dialogues,
        forms=reader.forms,
        skipped=tuple(reader.skipped),
        scrubbed=dict(reader.scrubbed),
        renamed=dict(reader.renamed),
    )


def iter_corpus(*paths: Path) -> Iterator[Dialogue]:
    """Yield the dialogues of `paths` one at a time; use a `CorpusReader` to learn what was skipped on the way.

    Raises:
        CorpusError: A path holds no file, or a file holds not one usable dialogue.
    """
    return CorpusReader().read(*paths)


def misfits(labels: Iterable[DialogueLabels], dialogues: Mapping[str, Dialogue]) -> list[Skipped]:
    """Return the labelled dialogues whose text is absent or split into other turns than the labels say."""
    found: list[Skipped] = []
    for labelled in labels:
        dialogue = dialogues.get(labelled.id)
        if dialogue is None:
            found.append(Skipped(where=labelled.id, reason="not in the corpus"))
        elif [(t.speaker, t.utterances) for t in dialogue.turns()] != [
            (t.speaker, t.utterances) for t in labelled.turns
        ]:
            found.append(Skipped(where=labelled.id, reason="turns differ from the labels"))
    return found
