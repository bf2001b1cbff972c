"""The labels of the corpus: ids and codes, no text. They ship as one Parquet file, from which the units are rebuilt.

One row is one turn. Codes are places in the id lists that the file's own metadata carries, so that a taxonomy whose
entries were reordered cannot change what an old file says. `utterances` of a turn are `[begin, end)` indices into the
dialogue of the corpus, which is how a user's own copy of ESConv is joined to the labels.
"""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from ..skills_bank.errors import CorpusError
from ..skills_bank.taxonomy import TAXONOMY_VERSION, ResponseChange, Scenario, SeekerState, SupportAction

Split = Literal["train", "valid", "failed"]
Flag = Literal["self_harm", "harm_or_abuse"]
SPLITS: tuple[Split, ...] = ("train", "valid", "failed")
FLAGS: tuple[Flag, ...] = ("self_harm", "harm_or_abuse")
BUILD_SPLITS: tuple[Split, ...] = ("train", "failed")
"""What the bank is built from. `valid` is for tuning alone."""
SPEAKERS = ("seeker", "supporter")
Source = Literal["ESConv", "FailedESConv", "other"]
OTHER_SPLIT = "other"
"""Split of a dialogue that is from elsewhere."""
_SOURCES: dict[str, Source] = {"train": "ESConv", "valid": "ESConv", "test": "ESConv", "failed": "FailedESConv"}
_NONE = -1
_MOST = 3  # at most three scenarios a dialogue and three actions a turn (annotation guidelines)


def source_of(split: str) -> Source:
    """Return the corpus whose split this is."""
    return _SOURCES.get(split, "other")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TurnLabels(_Frozen):
    """The labels of one turn: a state (and flags) for the seeker, actions and a change for the supporter."""

    turn: int
    speaker: Literal["seeker", "supporter"]
    utterances: tuple[int, int]
    state: SeekerState | None = None
    actions: tuple[SupportAction, ...] = ()
    change: ResponseChange | None = None
    flags: tuple[Flag, ...] = ()


class DialogueLabels(_Frozen):
    """The labels of one dialogue; the first scenario is the primary one."""

    id: str
    split: str
    """One of `SPLITS` for the shipped labels; anything else for dialogues that were annotated since."""
    scenarios: tuple[Scenario, ...]
    turns: tuple[TurnLabels, ...]

    @property
    def source(self) -> Source:
        """Corpus the dialogue comes from."""
        return source_of(self.split)


def read_annotations(folder: Path, splits: Iterable[Split] = SPLITS) -> list[DialogueLabels]:
    """Read the annotation JSONL files `<split>.jsonl` of `folder`.

    Raises:
        CorpusError: A file is absent, or a line of it is no labelled dialogue.
    """
    found: list[DialogueLabels] = []
    for split in splits:
        path = folder / f"{split}.jsonl"
        if not path.is_file():
            raise CorpusError(f"No annotations at {path}. Pass the folder that holds {split}.jsonl.")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                found.append(DialogueLabels(split=split, **json.loads(line)))
            except (ValueError, TypeError, ValidationError) as error:
                raise CorpusError(f"{path}, line {number}: not a labelled dialogue ({error}).") from error
    return found


def _code(kind: Any, value: str | None) -> int:
    return _NONE if value is None else list(kind).index(value)


def _padded(kind: Any, values: Sequence[str]) -> list[int]:
    return [_code(kind, value) for value in values] + [_NONE] * (_MOST - len(values))


def write_labels(labels: Iterable[DialogueLabels], path: Path) -> None:
    """Write `labels` as the compact Parquet file (zstd, codes in the narrowest integer).

    Raises:
        CorpusError: A dialogue is of no split of ours.
    """
    rows: list[tuple[Any, ...]] = []
    for dialogue in labels:
        if dialogue.split not in SPLITS:
            raise CorpusError(f"{dialogue.id} is of split {dialogue.split!r}; the labels file holds {SPLITS} alone.")
        head = (dialogue.id, SPLITS.index(dialogue.split), *_padded(Scenario, dialogue.scenarios))
        for turn in dialogue.turns:
            flags = sum(1 << FLAGS.index(flag) for flag in turn.flags)
            rows.append((
                *head, turn.turn, SPEAKERS.index(turn.speaker), *turn.utterances, _code(SeekerState, turn.state),
                *_padded(SupportAction, turn.actions), _code(ResponseChange, turn.change), flags,
            ))  # fmt: skip
    columns = list(zip(*rows, strict=True))
    arrays = [pa.array(columns[0], pa.string()).dictionary_encode()]
    arrays += [pa.array(column, kind) for column, (_, kind) in zip(columns[1:], _COLUMNS[1:], strict=True)]
    codes = {
        "taxonomy": TAXONOMY_VERSION, "splits": SPLITS, "flags": FLAGS, "speakers": SPEAKERS,
        "scenarios": list(Scenario), "states": list(SeekerState), "actions": list(SupportAction),
        "changes": list(ResponseChange),
    }  # fmt: skip
    table = pa.table(dict(zip([name for name, _ in _COLUMNS], arrays, strict=True)))
    table = table.replace_schema_metadata({"esc_codes": json.dumps(codes)})
    pq.write_table(table, path, compression="zstd", compression_level=19)


_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("dialogue", pa.string()),
    ("split", pa.int8()),
    *((f"scenario_{i}", pa.int8()) for i in range(_MOST)),
    ("turn", pa.int16()),
    ("speaker", pa.int8()),
    ("begin", pa.int16()),
    ("end", pa.int16()),
    ("state", pa.int8()),
    *((f"action_{i}", pa.int8()) for i in range(_MOST)),
    ("change", pa.int8()),
    ("flags", pa.int8()),
)


def shipped_labels_path() -> Path:
    """Return where the shipped Parquet file lies."""
    return Path(str(files("esc_skills.pipeline").joinpath("data/labels.parquet")))


@lru_cache(maxsize=4)
def load_labels(path: Path | None = None) -> tuple[DialogueLabels, ...]:
    """Read the labels of every split from the Parquet file (default: the shipped one).

    Raises:
        CorpusError: The file is absent, or is no labels file of ours.
    """
    path = path or shipped_labels_path()
    if not path.is_file():
        raise CorpusError(f"No labels at {path}. Run `esc-skills build units --shared DIR` to write them.")
    try:
        table = pq.read_table(path)
        codes = json.loads((table.schema.metadata or {})[b"esc_codes"])
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise CorpusError(f"{path} is no labels file: {error!r}.") from error
    rows = zip(*(table.column(name).to_pylist() for name, _ in _COLUMNS), strict=True)
    heads: dict[str, tuple[str, list[str]]] = {}
    turns: dict[str, list[TurnLabels]] = {}
    for dialogue, split, s0, s1, s2, turn, speaker, begin, end, state, a0, a1, a2, change, flags in rows:
        heads.setdefault(
            dialogue, (codes["splits"][split], [codes["scenarios"][s] for s in (s0, s1, s2) if s != _NONE])
        )
        turns.setdefault(dialogue, []).append(
            TurnLabels(
                turn=turn,
                speaker=codes["speakers"][speaker],
                utterances=(begin, end),
                state=None if state == _NONE else codes["states"][state],
                actions=tuple(codes["actions"][a] for a in (a0, a1, a2) if a != _NONE),
                change=None if change == _NONE else codes["changes"][change],
                flags=tuple(flag for i, flag in enumerate(codes["flags"]) if flags >> i & 1),
            )
        )
    return tuple(
        DialogueLabels(id=dialogue, split=split, scenarios=tuple(scenarios), turns=tuple(turns[dialogue]))  # pyright: ignore[reportArgumentType]
        for dialogue, (split, scenarios) in heads.items()
    )
