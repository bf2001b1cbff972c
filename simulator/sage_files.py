"""Recorded SAGE runs as published: read them, replay their changes by our rules, and count SAGE's figures.

A file holds one talk a line: `history` alternates seeker (`user`) and supporter (`assistant`) from the seeker's preset
line on; every later seeker message carries `emotion-point` and `planning.change`. `emo_point` and `emo_state` of the
record are those of the last scored turn. A turn's own state stands nowhere as a field; where the seeker's `thinking`
names it (`Emotion-B`), that is compared too.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.errors import InputError
from .emotion import (
    SAGE,
    End,
    Rules,
    clipped,
    end_of,
    is_failure,
    is_success,
    moved,
    says_goodbye,
    state_of,
    trajectory,
)
from .needs import Character, HiddenNeed, read_character, read_need
from .profiles import Skipped

K = TypeVar("K")
T = TypeVar("T")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScoredTurn(_Frozen):
    """A seeker turn with the score it was given; `message` is its place in the talk, from 1."""

    message: int
    change: int
    points: int
    states_named: frozenset[str] = Field(description="States that the seeker's thinking names, e.g. 'Emotion-B'.")
    goodbye: bool


class Talk(_Frozen):
    """One recorded conversation without its words."""

    id: str
    need: HiddenNeed
    character: Character
    start: int
    turns: tuple[ScoredTurn, ...]
    replies: int = Field(description="Supporter replies, the unscored last one included.")
    points: int = Field(description="`emo_point` of the record.")
    state: str = Field(description="`emo_state` of the record, e.g. 'Emotion-B'.")
    oddities: tuple[tuple[int, str], ...] = Field(description="Messages of unusual form, which changes no number.")


class Deviation(_Frozen):
    """Where a record differs from what the rules say, and why."""

    talk: str
    message: int | None = Field(description="Place in the talk, from 1; None: the record as a whole.")
    what: str
    reason: str


class Figures(_Frozen):
    """SAGE's figures over some talks."""

    talks: int
    mean: float = Field(description="Mean of the last scored value.")
    success: int
    failure: int
    turns: int
    mean_change: float = Field(description="Mean change over scored turns.")
    negative_share: float = Field(description="Share of scored turns with a change below 0.")
    zero_share: float


class Replay(_Frozen):
    """One file, replayed."""

    file: str
    rules: str
    figures: Figures
    by_need: dict[HiddenNeed, Figures]
    by_character: dict[Character, Figures]
    ends: dict[str, int] = Field(description="How the talks ended, by our rules.")
    turns_with_state: int = Field(description="Scored turns whose thinking names a state, which was compared.")
    deviations: tuple[Deviation, ...]
    oddities: dict[str, tuple[str, ...]] = Field(description="Unusual forms and the talks that hold them.")
    skipped: tuple[Skipped, ...]


def read_talks(path: Path) -> tuple[tuple[Talk, ...], tuple[Skipped, ...]]:
    """Read a file of recorded talks; records that cannot be read are named.

    Raises:
        InputError: There is no such file, or it holds no recorded talk.
    """
    if not path.is_file():
        raise InputError(f"No recorded SAGE file at {str(path)!r}.")
    talks: dict[str, Talk] = {}
    skipped: list[Skipped] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            talk = _talk(line)
            if talk.id in talks:
                raise InputError(f"id {talk.id!r} stands in the file twice; the first one is kept")
            talks[talk.id] = talk
        except InputError as error:
            skipped.append(Skipped(where=f"{path.name}, line {number}", reason=str(error)))
    if not talks:
        why = f": {skipped[0].where}: {skipped[0].reason}" if skipped else "; it is empty"
        raise InputError(f"{path} holds no recorded SAGE talk{why}.")
    return tuple(talks.values()), tuple(skipped)


def replay(path: Path, rules: Rules = SAGE) -> Replay:
    """Replay the recorded changes of a file by `rules` and count its figures from the replayed values."""
    talks, skipped = read_talks(path)
    ends = Counter(str(_end(talk, rules) or "none") for talk in talks)
    odd: dict[str, list[str]] = defaultdict(list)
    for talk in talks:
        for what in sorted({what for _, what in talk.oddities}):
            odd[what].append(talk.id)
    return Replay(
        file=path.name,
        rules=rules.name,
        figures=figures(talks, rules),
        by_need=_grouped(talks, HiddenNeed, lambda talk: talk.need, rules),
        by_character=_grouped(talks, Character, lambda talk: talk.character, rules),
        ends=dict(sorted(ends.items())),
        turns_with_state=sum(bool(turn.states_named) for talk in talks for turn in talk.turns),
        deviations=tuple(deviation for talk in talks for deviation in deviations(talk, rules)),
        oddities={what: tuple(ids) for what, ids in sorted(odd.items())},
        skipped=skipped,
    )


def figures(talks: Sequence[Talk], rules: Rules = SAGE) -> Figures:
    """Return SAGE's figures of some talks, at least one, from values replayed by `rules`."""
    finals = [replayed(talk, rules)[-1] for talk in talks]
    changes = [clipped(turn.change, rules) for talk in talks for turn in talk.turns]
    n = max(1, len(changes))
    return Figures(
        talks=len(talks),
        mean=sum(finals) / len(finals),
        success=sum(map(is_success, finals)),
        failure=sum(map(is_failure, finals)),
        turns=len(changes),
        mean_change=sum(changes) / n,
        negative_share=sum(change < 0 for change in changes) / n,
        zero_share=sum(change == 0 for change in changes) / n,
    )


def replayed(talk: Talk, rules: Rules = SAGE) -> tuple[int, ...]:
    """Return the value at the start and after each scored turn, from the recorded changes alone."""
    return trajectory((turn.change for turn in talk.turns), rules)


def deviations(talk: Talk, rules: Rules = SAGE) -> list[Deviation]:
    """Return everything in which a record differs from the rules.

    Each turn is replayed from the value recorded before it, so that one slip is named once and not on every turn after.
    """
    found: list[Deviation] = []

    def add(message: int | None, what: str, reason: str) -> None:
        found.append(Deviation(talk=talk.id, message=message, what=what, reason=reason))

    if talk.start != rules.start:
        add(1, f"starts at {talk.start}", f"{rules.name} starts at {rules.start}")
    before = talk.start
    for turn in talk.turns:
        if clipped(turn.change, rules) != turn.change:
            add(turn.message, f"change {turn.change:+d}", f"beyond ±{rules.clip}: recorded before it was clipped")
        after = moved(before, turn.change, rules)
        if after != turn.points:
            add(turn.message, f"emo_point {turn.points}", f"{before} {turn.change:+d} gives {after} by the rules")
        state = state_of(turn.points).recorded
        if turn.states_named and state not in turn.states_named:
            named = ", ".join(sorted(turn.states_named))
            add(turn.message, f"thinking names {named}", f"{turn.points} is {state}")
        before = turn.points
    if talk.points != before:
        add(None, f"emo_point {talk.points}", f"its last scored turn has {before}")
    if talk.state != state_of(talk.points).recorded:
        add(None, f"emo_state {talk.state}", f"{talk.points} is {state_of(talk.points).recorded}")
    return found + _wrong_ends(talk, rules)


def _wrong_ends(talk: Talk, rules: Rules) -> list[Deviation]:
    """Return where a talk went on after its end, or stopped without one."""
    found = [
        Deviation(talk=talk.id, message=turn.message, what="the talk goes on", reason=f"it was over by {end}")
        for replies, turn in enumerate(talk.turns[:-1], start=1)
        if (end := end_of(turn.points, replies, goodbye=turn.goodbye, rules=rules))
    ]
    if talk.replies > rules.rounds:
        reason = f"{rules.name} allows {rules.rounds}"
        found.append(Deviation(talk=talk.id, message=None, what=f"{talk.replies} supporter replies", reason=reason))
    if _end(talk, rules) is None:
        reason = f"value, goodbye and {rules.rounds} rounds do not end it; cut off or lost"
        found.append(Deviation(talk=talk.id, message=None, what=f"stops after {talk.replies} replies", reason=reason))
    return found


def _end(talk: Talk, rules: Rules) -> End | None:
    last = talk.turns[-1] if talk.turns else None
    points = last.points if last else talk.start
    return end_of(points, talk.replies, goodbye=bool(last and last.goodbye), rules=rules)


def _grouped(talks: Sequence[Talk], keys: Iterable[K], key: Callable[[Talk], K], rules: Rules) -> dict[K, Figures]:
    groups = {value: [talk for talk in talks if key(talk) == value] for value in keys}
    return {value: figures(group, rules) for value, group in groups.items() if group}


_STATE = re.compile(r"Emotion-[SABCF]")


def _talk(line: str) -> Talk:
    """Read one record.

    Raises:
        InputError: It is no record of a talk; the message says why and quotes no text of it.
    """
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"not JSON ({error})") from None
    if not isinstance(record, dict):
        raise InputError(f"a JSON {type(record).__name__}, not an object")
    name = str(record.get("id", "without id"))
    history = _need(record, "history", list, name)
    for i, message in enumerate(history):
        role = ("user", "assistant")[i % 2]
        if not isinstance(message, dict) or message.get("role") != role or not isinstance(message.get("content"), str):
            raise InputError(f"record {name}: message {i + 1} is not one of role {role!r} with a text")
    if not history:
        raise InputError(f"record {name}: 'history' is empty")
    return Talk(
        id=_need(record, "id", str, name),
        need=read_need(_need(record, "task", str, name)),
        character=read_character(_need(record, "character", str, name)),
        start=_need(history[0], "emotion-point", int, f"{name}, message 1"),
        turns=tuple(_turn(message, i + 1, name) for i, message in enumerate(history) if i and i % 2 == 0),
        replies=len(history) // 2,
        points=_need(record, "emo_point", int, name),
        state=_need(record, "emo_state", str, name),
        oddities=tuple((i + 1, what) for i, message in enumerate(history) for what in _oddities(message)),
    )


_FIELDS = {"role", "content", "emotion-point", "thinking", "planning"}


def _oddities(message: Mapping[str, Any]) -> list[str]:
    """Return in what a message departs from the usual form; none of it touches a number."""
    found = [f"{message['role']} messages carry {field!r}" for field in sorted(set(message) - _FIELDS)]
    planning = message.get("planning")
    if isinstance(planning, dict) and any("Change:" in str(text) for text in planning.values()):
        found.append("parts of the appraisal run into each other")
    return found


def _turn(message: Mapping[str, Any], number: int, name: str) -> ScoredTurn:
    where = f"{name}, message {number}"
    return ScoredTurn(
        message=number,
        change=_need(_need(message, "planning", dict, where), "change", int, where),
        points=_need(message, "emotion-point", int, where),
        states_named=frozenset(_STATE.findall(str(message.get("thinking", "")))),
        goodbye=says_goodbye(message["content"]),
    )


def _need(record: Mapping[str, Any], field: str, kind: type[T], where: str) -> T:
    value = record.get(field)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"record {where}: field {field!r} is missing or no {kind.__name__}")
    return value
