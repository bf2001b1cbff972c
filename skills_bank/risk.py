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

from .encoder import RISK_OUTPUTS
from .helplines import Helpline, Region, RiskKind, load_helplines
from .risk_patterns import RANK, About, Level, RiskPatterns, Signal, load_patterns
from .risk_reader import RiskReader, load_reader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .conversation import Conversation
    from .models import Message

    Floats = NDArray[np.floating]

Source = Literal["patterns", "encoder", "both", "none"]

CLEARLY = 1.5
"""So far above the threshold the sum lifts even a sign that is no mere hint, such as a disclosure in the past tense."""
HINT_TURNS = 6
"""For how many seeker turns a hint, or worry about somebody else, stands without being repeated or denied."""
TIMES_ASKED = 2
"""An answer that stays unclear is followed by the question once more, in other words; then the talk goes on."""


class Join(BaseModel):
    """How the signs of one turn are joined: a sum of log-odds, fitted by `pipeline/risk_fit.py` (`risk_join.json`).

    Signs: the strongest pattern, the n-gram reader, the encoder's risk head. Above 0 the sum counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: float
    reader: float
    encoder: float
    weak: float
    elevated: float
    high: float
    """Added for a pattern of that strength."""
    light: float
    """Taken off where the turn laughs or names an everyday nuisance."""
    denies: float
    """Taken off where the turn plainly denies."""

    def sum(self, strength: str, tone: str, reader: float, encoder: float) -> float:
        """Return the sum; `reader` and `encoder` are log-odds, 0 where absent."""
        pattern = {"none": 0.0, "weak": self.weak, "elevated": self.elevated, "high": self.high}[strength]
        doubt = {"plain": 0.0, "light": self.light, "denies": self.denies}[tone]
        return self.bias + self.reader * reader + self.encoder * encoder + pattern - doubt


class Joins(BaseModel):
    """`risk_join.json`: for any level and for level high, with the encoder and without it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    any: Join
    high: Join
    any_alone: Join
    high_alone: Join
    veto: float = Field(description="A pattern below level high counts for nothing where the sum is lower than this.")


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
    asked: bool = Field(
        default=False,
        description="At level elevated: the safety question has been put since the last sign, and denied or put twice. "
        "It need not come first again before there is a new sign.",
    )
    note: str = Field(default="", description="Limits of this reading: no encoder, another language; may be empty.")


class _Texts(BaseModel):
    """`risk_texts.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    degraded: str
    language: str
    asked: str
    texts: dict[str, "_Text"]


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    guidance: str
    say: str
    asks: Literal["", "present", "safety", "other"] = ""
    """What `say` asks about, in the sense of `Ask.about`; empty where it asks nothing."""

    @property
    def begins(self) -> str:
        """How a reply that says it begins: its first sentence."""
        return self.say.split(". ")[0]


class _Question(NamedTuple):
    """A direct question about danger that the supporter put."""

    id: str
    kind: RiskKind
    about: Literal["present", "past", "safety", "other"]


class _Inquiry(NamedTuple):
    """How far one kind of risk has been asked about since its last sign."""

    times: int = 0
    denied: bool = False

    @property
    def settled(self) -> bool:
        """Denied, or asked twice: the question need not come first again."""
        return self.denied or self.times >= TIMES_ASKED


class _Talk(NamedTuple):
    """What has been heard so far, by kind of risk."""

    standing: "dict[RiskKind, _Finding]"
    inquiries: dict[RiskKind, _Inquiry]


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


_KINDS: tuple[RiskKind, ...] = ("self_harm", "harm_to_others", "abuse")
"""`RISK_KINDS`, typed."""
HIGH_COLUMN = RISK_OUTPUTS.index("high")


class RiskDesk:
    """Assesses conversations for one region."""

    def __init__(
        self,
        patterns: RiskPatterns,
        texts: _Texts,
        region: Region,
        reader: RiskReader | None,
        joins: Joins,
    ) -> None:
        """Take the loaded parts; nothing is read from disk here. Without a `reader` the patterns stand alone."""
        self._patterns, self._texts, self._region, self._reader = patterns, texts, region, reader
        self._joins = joins

    @classmethod
    def load(cls, region: str | None = None, helplines_file: Path | None = None) -> Self:
        """Return a desk with the shipped patterns and texts.

        Args:
            region: Region code of the helplines, e.g. 'US'; default: the file's default, international.
            helplines_file: A file of the form of `helplines.yaml` whose regions replace the shipped ones.

        Raises:
            InputError: Unknown region, or a helplines file that cannot be used.
        """
        return cls(
            load_patterns(), _load_texts(), load_helplines(helplines_file).region(region), load_reader(), load_joins()
        )

    def with_joins(self, joins: Joins) -> "RiskDesk":
        """Return the same desk with other weights; for fitting them."""
        return RiskDesk(self._patterns, self._texts, self._region, self._reader, joins)

    def with_parts(self, patterns: RiskPatterns, reader: RiskReader) -> "RiskDesk":
        """Return the same desk with other patterns and another reader; for fitting the weights."""
        return RiskDesk(patterns, self._texts, self._region, reader, self._joins)

    @property
    def region(self) -> Region:
        """The region whose lines are shown."""
        return self._region

    def assess(self, conversation: "Conversation", probabilities: "Floats | None" = None) -> Risk:
        """Return the risk of a conversation as it stands after the last seeker turn.

        Args:
            conversation: The checked conversation; all of it is read.
            probabilities: Sigmoids of the encoder's risk head for the last seeker turns, (n, 4), newest last; None if
                there is no encoder: the answer then says that it rests on patterns alone.
        """
        rows = _rows(probabilities, len(conversation.seeker_indices))
        talk = _Talk({}, {})
        for turn, index in enumerate(conversation.seeker_indices):
            before = conversation.turns[index - 1] if index else None
            row = (
                rows[turn - len(conversation.seeker_indices)]
                if turn >= len(conversation.seeker_indices) - len(rows)
                else None
            )
            self._hear(talk, conversation.turns[index].content, before, row, turn)
        last = len(conversation.seeker_indices) - 1
        return self._answer(talk, last, self._notes(conversation, probabilities is None))

    def _hear(
        self,
        talk: _Talk,
        text: str,
        before: "Message | None",
        row: list[float] | None,
        turn: int,
    ) -> None:
        """Let one seeker turn change what stands."""
        ask = self._question(before.content) if before is not None and before.role == "supporter" else None
        reply = self._patterns.reply(text) if ask else "other"
        denied = ask is not None and reply == "deny" and ask.about in {"present", "past"}
        if ask is not None and denied:
            _deny(talk.standing, ask.kind)
        found = list(self._found(text, row, turn, statistics=not denied))
        for finding in found:
            talk.inquiries.pop(finding.kind, None)  # a new sign: ask again
        if ask is not None:
            times = talk.inquiries.get(ask.kind, _Inquiry()).times + 1
            signed = any(finding.kind == ask.kind for finding in found)
            talk.inquiries[ask.kind] = _Inquiry(times, not signed and _reassures(ask, reply))
            if answer := _answered(ask, reply, text, turn):
                found.append(answer)
        for finding in found:
            old = talk.standing.get(finding.kind)
            if old is None or _weight(finding) >= _weight(old) or _expired(old, turn):
                talk.standing[finding.kind] = finding

    def _question(self, text: str) -> _Question | None:
        """Return what a supporter turn asks: one of the fixed texts, or what the patterns find."""
        plain = " ".join(text.split())
        for key, fixed in self._texts.texts.items():
            if fixed.asks and plain.startswith(fixed.begins):
                kind: RiskKind = next(kind for kind in _KINDS if kind in key)
                return _Question(key, kind, fixed.asks)
        ask = self._patterns.asked(text)
        return _Question(ask.id, ask.kind, ask.about) if ask else None

    def _found(self, text: str, row: list[float] | None, turn: int, *, statistics: bool) -> Iterator[_Finding]:
        """Read one turn alone: the patterns, the fitted reader and the encoder, joined for each kind."""
        signals = self._patterns.signals(text)
        scores = self._reader.read(text) if self._reader and statistics else None
        tone = self._patterns.tone(text)
        for column, kind in enumerate(_KINDS):
            best = max(
                (s for s in signals if s.kind == kind),
                key=lambda s: (RANK[s.strength], s.about == "self"),
                default=None,
            )
            strength = best.strength if best else "none"
            if scores is None:  # an answer too short to be read by itself, or a denial: the patterns alone
                if best is not None and strength != "weak":
                    yield _from_signal(best, turn, lifted=False, agreed=False)
                continue
            any_sum = self._sum("any", (strength, tone), scores[column], row, column)
            high_sum = self._sum("high", (strength, tone), scores.high, row, HIGH_COLUMN)
            grave = high_sum >= 0 and any_sum >= 0
            if best is not None and strength != "weak" and (strength == "high" or any_sum >= self._joins.veto):
                # What a guard has lowered, an attempt long past say, no statistics over the same words lifts again.
                lifted = grave and not best.lowered and (best.indirect or high_sum >= CLEARLY)
                yield _from_signal(best, turn, lifted=lifted, agreed=any_sum >= 0)
            elif any_sum >= 0:
                level = "high" if grave else "elevated"
                trigger = (
                    f"Reads like {kind.replace('_', ' ')}, though no clear pattern fits: \u201c{_short(text)}\u201d"
                )
                yield _Finding(level, kind, "self", True, trigger, "encoder" if row else "patterns", turn)

    def _sum(
        self, what: Literal["any", "high"], said: tuple[str, str], reader: float, row: list[float] | None, at: int
    ) -> float:
        if row is None:
            join = self._joins.any_alone if what == "any" else self._joins.high_alone
            return join.sum(*said, reader, 0.0)
        join = self._joins.any if what == "any" else self._joins.high
        return join.sum(*said, reader, log_odds(row[at]))

    def _notes(self, conversation: "Conversation", degraded: bool) -> str:
        notes = [self._texts.degraded] if degraded else []
        if not conversation.is_english:
            notes.append(self._texts.language)
        return " ".join(notes)

    def _answer(self, talk: _Talk, last: int, note: str) -> Risk:
        finding = _gravest(talk.standing.values(), last)
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
        asked = finding.level == "elevated" and talk.inquiries.get(finding.kind, _Inquiry()).settled
        guidance = text.guidance.format(**words)
        return Risk(
            level=finding.level,
            kind=finding.kind,
            trigger=earlier + finding.trigger,
            guidance=f"{self._texts.asked} {guidance}" if asked else guidance,
            say=text.say.format(**words),
            helplines=lines,
            source=finding.source,
            asked=asked,
            note=note,
        )


def _from_signal(signal: Signal, turn: int, *, lifted: bool, agreed: bool) -> _Finding:
    level = "high" if signal.strength == "high" or (lifted and signal.about == "self") else "elevated"
    trigger = f"{signal.reason} \u201c{signal.excerpt}\u201d"
    source: Source = "both" if agreed else "patterns"
    return _Finding(level, signal.kind, signal.about, signal.indirect, trigger, source, turn)


def log_odds(p: float) -> float:
    """Return log(p / (1 - p)), kept within about 9."""
    p = min(max(p, 1e-4), 1 - 1e-4)
    return math.log(p / (1 - p))


def _answered(ask: _Question, reply: str, text: str, turn: int) -> _Finding | None:
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


def _reassures(ask: _Question, reply: str) -> bool:
    """Whether an answer denies the danger: a no, or a yes to whether they are safe."""
    return reply == ("affirm" if ask.about == "safety" else "deny")


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
        ValueError: Not (n, 4) with n up to the number of seeker turns, or not probabilities.
    """
    if probabilities is None:
        return []
    if probabilities.ndim != 2 or probabilities.shape[1] != len(RISK_OUTPUTS) or len(probabilities) > turns:
        raise ValueError(
            f"probabilities: shape {probabilities.shape}; expected (n, {len(RISK_OUTPUTS)}) with n up to {turns}, the "
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
def load_joins() -> Joins:
    """Return the shipped way of joining the signs."""
    text = files("esc_skills.skills_bank").joinpath("risk_join.json").read_text(encoding="utf-8")
    return Joins.model_validate_json(text)


@cache
def _load_texts() -> _Texts:
    text = files("esc_skills.skills_bank").joinpath("risk_texts.yaml").read_text(encoding="utf-8")
    return _Texts.model_validate(yaml.safe_load(text))
