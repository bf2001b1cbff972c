"""Risk first: patterns and the encoder's risk head over a whole conversation → a `Risk` with fixed text and helplines.

`RiskDesk` is built once and asked once per call. It calls no model: the probabilities of the risk head are handed in,
and without them it answers from the patterns alone and says so. `docs/safety.md` is the protocol it carries out.
"""

import math
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field

from .encoder import RISK_KINDS
from .helplines import Helpline, Region, RiskKind, load_helplines
from .risk_patterns import RANK, About, Ask, Level, RiskPatterns, Signal, load_patterns
from .risk_reader import RiskReader, load_reader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .conversation import Conversation
    from .models import Message

    Floats = NDArray[np.floating]

Source = Literal["patterns", "encoder", "both", "none"]

HINT_TURNS = 6
"""For how many seeker turns a hint, or worry about somebody else, stands without being repeated or denied."""


WEAK_MARGIN = -0.7
"""So far below its threshold the sum may stay where a weak pattern is there too."""


class Thresholds(BaseModel):
    """How the fitted reader and the encoder's risk head are joined, and where the sum counts.

    Log-odds; weights from a logistic regression on `pipeline/risk_lines.dev.jsonl`, thresholds read off its false
    positive rates (docs/safety.md). Without an encoder the reader's own thresholds hold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    any_reader: float = 0.73
    any_encoder: float = 0.40
    any_bias: float = 0.44
    high_reader: float = 1.04
    high_encoder: float = 0.29
    high_bias: float = 0.60
    light: float = Field(default=1.0, description="Taken off where the turn laughs or names an everyday nuisance.")
    denies: float = Field(default=3.0, description="Taken off where the turn plainly denies.")
    elevated: float = Field(default=0.5, description="Raises to elevated without a pattern.")
    high: float = Field(default=-1.0, description="Self-harm above `elevated`, or with a pattern, becomes high.")
    alone: float = Field(default=0.4, description="`elevated` for the reader without an encoder.")
    alone_high: float = Field(default=-0.6, description="`high` for the reader without an encoder.")
    others: float = Field(default=0.8, description="`elevated` for harm to others and abuse.")


class Risk(BaseModel):
    """What a talk says about danger; stands before every other part of an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Level
    kind: RiskKind | None = Field(default=None, description="The gravest kind found; null at level none.")
    trigger: str | None = Field(default=None, description="What was found and in which of the seeker's words.")
    guidance: str = Field(default="", description="For the supporter: what to do now. Fixed text written by people.")
    say: str = Field(default="", description="Fixed words that may be said to the seeker as they stand.")
    helplines: tuple[Helpline, ...] = Field(default=(), description="Lines of the configured region.")
    source: Source = Field(default="none", description="What found it.")
    note: str = Field(default="", description="Limits of this reading: no encoder, another language; may be empty.")


class _Texts(BaseModel):
    """`risk_texts.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    degraded: str
    language: str
    texts: dict[str, "_Text"]


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    guidance: str
    say: str


class _Finding(NamedTuple):
    """The standing reading of one kind of risk."""

    level: Literal["elevated", "high"]
    kind: RiskKind
    about: About
    hint: bool
    """Indirect: a clear denial clears it up."""
    trigger: str
    source: Source
    turn: int
    """Number of the seeker turn, from 0."""


class _Sums(NamedTuple):
    """How far a turn lies above the thresholds; the first three in the order of `RISK_KINDS`."""

    self_harm: float
    harm_to_others: float
    abuse: float
    high: float


_KINDS: tuple[RiskKind, ...] = ("self_harm", "harm_to_others", "abuse")
"""`RISK_KINDS`, typed."""
_SILENT = _Sums(*[-math.inf] * 4)


class RiskDesk:
    """Assesses conversations for one region."""

    def __init__(
        self,
        patterns: RiskPatterns,
        texts: _Texts,
        region: Region,
        reader: RiskReader | None,
        thresholds: Thresholds | None = None,
    ) -> None:
        """Take the loaded parts; nothing is read from disk here. Without a `reader` the patterns stand alone."""
        self._patterns, self._texts, self._region, self._reader = patterns, texts, region, reader
        self._thresholds = thresholds or Thresholds()

    @classmethod
    def load(cls, region: str | None = None, helplines_file: Path | None = None) -> Self:
        """Return a desk with the shipped patterns and texts.

        Args:
            region: Region code of the helplines, e.g. 'US'; default: the file's default, international.
            helplines_file: A file of the form of `helplines.yaml` whose regions replace the shipped ones.

        Raises:
            InputError: Unknown region, or a helplines file that cannot be used.
        """
        return cls(load_patterns(), _load_texts(), load_helplines(helplines_file).region(region), load_reader())

    @property
    def region(self) -> Region:
        """The region whose lines are shown."""
        return self._region

    def assess(self, conversation: "Conversation", probabilities: "Floats | None" = None) -> Risk:
        """Return the risk of a conversation as it stands after the last seeker turn.

        Args:
            conversation: The checked conversation; all of it is read.
            probabilities: Sigmoids of the encoder's risk head for the last seeker turns, (n, 3), newest last; None if
                there is no encoder: the answer then says that it rests on patterns alone.
        """
        rows = _rows(probabilities, len(conversation.seeker_indices))
        standing: dict[RiskKind, _Finding] = {}
        for turn, index in enumerate(conversation.seeker_indices):
            before = conversation.turns[index - 1] if index else None
            row = (
                rows[turn - len(conversation.seeker_indices)]
                if turn >= len(conversation.seeker_indices) - len(rows)
                else None
            )
            self._hear(standing, conversation.turns[index].content, before, row, turn)
        last = len(conversation.seeker_indices) - 1
        return self._answer(_gravest(standing.values(), last), last, self._notes(conversation, probabilities is None))

    def _hear(
        self,
        standing: dict[RiskKind, _Finding],
        text: str,
        before: "Message | None",
        row: list[float] | None,
        turn: int,
    ) -> None:
        """Let one seeker turn change what stands."""
        ask = self._patterns.asked(before.content) if before is not None and before.role == "supporter" else None
        reply = self._patterns.reply(text) if ask else "other"
        denied = ask is not None and reply == "deny" and ask.about in {"present", "past"}
        if ask is not None and denied:
            _deny(standing, ask.kind)
        found = list(self._found(text, row, turn, statistics=not denied))
        if ask is not None and (answer := _answered(ask, reply, text, turn)):
            found.append(answer)
        for finding in found:
            old = standing.get(finding.kind)
            if old is None or _weight(finding) >= _weight(old) or _expired(old, turn):
                standing[finding.kind] = finding

    def _found(self, text: str, row: list[float] | None, turn: int, *, statistics: bool) -> Iterator[_Finding]:
        """Read one turn alone: the patterns, the fitted reader and the encoder."""
        signals = self._patterns.signals(text)
        sums = self._sums(text, row) if statistics else _SILENT
        for column, kind in enumerate(RISK_KINDS):
            best = max(
                (s for s in signals if s.kind == kind and (s.strength != "weak" or sums[column] >= WEAK_MARGIN)),
                key=lambda s: (RANK[s.strength], s.about == "self"),
                default=None,
            )
            grave = kind == "self_harm" and sums.high >= 0
            if best is not None:
                yield _from_signal(best, turn, lifted=grave and best.indirect, agreed=sums[column] >= 0)
            elif sums[column] >= 0:
                level = "high" if grave else "elevated"
                trigger = f"Reads like {kind.replace('_', ' ')}, though no pattern fits: \u201c{_short(text)}\u201d"
                yield _Finding(level, _KINDS[column], "self", True, trigger, "encoder" if row else "patterns", turn)

    def _sums(self, text: str, row: list[float] | None) -> "_Sums":
        """Return how far a turn lies above each threshold, in log-odds; below 0 it does not count."""
        scores = self._reader.read(text) if self._reader else None
        if scores is None:
            return _SILENT
        at = self._thresholds
        light = {"denies": at.denies, "light": at.light, "plain": 0.0}[self._patterns.tone(text)]
        if row is None:
            return _Sums(
                scores.self_harm - light - at.alone,
                scores.harm_to_others - light - at.others,
                scores.abuse - light - at.others,
                scores.high - light - at.alone_high,
            )
        heads = [_log_odds(p) for p in row]
        return _Sums(
            at.any_reader * scores.self_harm + at.any_encoder * heads[0] + at.any_bias - light - at.elevated,
            at.any_reader * scores.harm_to_others + at.any_encoder * heads[1] + at.any_bias - light - at.others,
            at.any_reader * scores.abuse + at.any_encoder * heads[2] + at.any_bias - light - at.others,
            at.high_reader * scores.high + at.high_encoder * heads[0] + at.high_bias - light - at.high,
        )

    def _notes(self, conversation: "Conversation", degraded: bool) -> str:
        notes = [self._texts.degraded] if degraded else []
        if not conversation.is_english:
            notes.append(self._texts.language)
        return " ".join(notes)

    def _answer(self, finding: _Finding | None, last: int, note: str) -> Risk:
        if finding is None:
            return Risk(level="none", note=note)
        key = f"{finding.level}.{finding.kind}"
        other = f"{key}.other"
        text = self._texts.texts[other if finding.about == "other" and other in self._texts.texts else key]
        lines = self._region.lines_for(finding.kind)
        words = {
            "emergency": self._region.emergency,
            "helplines": "; ".join(f"{line.name}: {line.contact}" for line in lines),
        }
        earlier = "" if finding.turn == last else "Earlier in the talk. "
        return Risk(
            level=finding.level,
            kind=finding.kind,
            trigger=earlier + finding.trigger,
            guidance=text.guidance.format(**words),
            say=text.say.format(**words),
            helplines=lines,
            source=finding.source,
            note=note,
        )


def _from_signal(signal: Signal, turn: int, *, lifted: bool, agreed: bool) -> _Finding:
    level = "high" if signal.strength == "high" or (lifted and signal.about == "self") else "elevated"
    trigger = f"{signal.reason} \u201c{signal.excerpt}\u201d"
    source: Source = "both" if agreed else "patterns"
    return _Finding(level, signal.kind, signal.about, signal.indirect, trigger, source, turn)


def _log_odds(p: float) -> float:
    p = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(p / (1 - p))


def _answered(ask: Ask, reply: str, text: str, turn: int) -> _Finding | None:
    """Return what an answer to a direct question about danger tells."""
    level: Literal["elevated", "high"]
    if ask.about == "safety":
        if reply != "deny":
            return None
        level = "high"
    elif reply == "affirm":
        level = "high" if ask.about == "present" else "elevated"
    elif reply in {"partial", "evade"} and ask.about != "other":
        level = "elevated"
    else:
        return None
    did = {"affirm": "Says yes to", "deny": "Says no to", "partial": "Half affirms", "evade": "Evades"}[reply]
    trigger = f"{did} a direct question ({ask.id.replace('_', ' ')}): \u201c{_short(text)}\u201d"
    about: About = "other" if ask.about == "other" else "self"
    return _Finding(level, ask.kind, about, reply == "evade", trigger, "patterns", turn)


def _deny(standing: dict[RiskKind, _Finding], kind: RiskKind) -> None:
    """A clear denial lowers what was disclosed to elevated and clears up what was only hinted at."""
    old = standing.get(kind)
    if old is None or old.about == "other":
        return
    if old.level == "high" and not old.hint:
        standing[kind] = old._replace(level="elevated", trigger=f"{old.trigger} (denied since)")
    elif old.hint:
        del standing[kind]


def _weight(finding: _Finding) -> tuple[int, bool, bool]:
    return RANK[finding.level], finding.about == "self", not finding.hint


def _expired(finding: _Finding, turn: int) -> bool:
    passing = finding.level == "elevated" and (finding.hint or finding.about == "other")
    return passing and turn - finding.turn > HINT_TURNS


def _gravest(findings: Iterable[_Finding], turn: int) -> _Finding | None:
    current = [finding for finding in findings if not _expired(finding, turn)]
    return max(current, key=lambda f: (RANK[f.level], f.about == "self", not f.hint, f.turn), default=None)


def _rows(probabilities: "Floats | None", turns: int) -> list[list[float]]:
    """Return the rows as plain numbers.

    Raises:
        ValueError: Not (n, 3) with n up to the number of seeker turns, or not probabilities.
    """
    if probabilities is None:
        return []
    if probabilities.ndim != 2 or probabilities.shape[1] != len(RISK_KINDS) or len(probabilities) > turns:
        raise ValueError(
            f"probabilities: shape {probabilities.shape}; expected (n, {len(RISK_KINDS)}) with n up to {turns}, the "
            "rows of the last seeker turns."
        )
    rows: list[list[float]] = probabilities.tolist()
    if not all(0 <= p <= 1 for row in rows for p in row):
        raise ValueError("probabilities: values outside 0 to 1; pass the sigmoids of the risk head, not its logits.")
    return rows


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 120 else words[:119].rstrip() + "\u2026"


@cache
def _load_texts() -> _Texts:
    text = files("esc_skills.skills_bank").joinpath("risk_texts.yaml").read_text(encoding="utf-8")
    return _Texts.model_validate(yaml.safe_load(text))
