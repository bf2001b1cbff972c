"""SAGE's emotion rules as pure functions: where a seeker starts, how a change moves it, which state that is, what ends.

Source: SAGE (Zhang et al. 2025, "Sentient Agent as a Judge", arXiv 2505.02847), the published simulator of
Tencent/digitalhuman (MIT): start 40, an integer change clipped to [-10, 10], capped at 100, states at 100, 70, 40 and
10, at most 10 replies. RLVER (Wang et al. 2025, arXiv 2507.03112) forks it for training: start 30, no clip, 8 replies,
over at 0. Neither code holds the number from below; see `SAGE`.
"""

import re
from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.errors import InputError


class EmotionState(StrEnum):
    """The five states of SAGE, best first."""

    S = "S"
    A = "A"
    B = "B"
    C = "C"
    F = "F"

    @property
    def recorded(self) -> str:
        """The name in SAGE's files, e.g. `Emotion-B`."""
        return f"Emotion-{self.value}"


class End(StrEnum):
    """Why a conversation is over."""

    SUCCESS = "success"
    FAILURE = "failure"
    GOODBYE = "goodbye"
    ROUNDS = "rounds"


_LEAST: tuple[tuple[EmotionState, int], ...] = (
    (EmotionState.S, 100),
    (EmotionState.A, 70),
    (EmotionState.B, 40),
    (EmotionState.C, 10),
)


class Rules(BaseModel):
    """One set of the machine's parameters; every number is an emotion point unless it says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    start: int
    clip: int | None = Field(default=None, ge=1, description="Largest change of one turn, up or down.")
    cap: int = Field(description="Highest value; the published codes clamp only here.")
    floor: int | None = Field(default=None, description="Lowest value; none: the number may go below 0.")
    ends_from: int | None = Field(default=None, description="The seeker is content at this value and leaves.")
    ends_below: int = Field(description="The seeker gives up below this value.")
    rounds: int = Field(ge=1, description="Supporter replies at most. The last one gets no answer and no score.")

    @property
    def messages(self) -> int:
        """Messages at most, the preset first line included."""
        return 2 * self.rounds


SAGE = Rules(name="sage", start=40, clip=10, cap=100, floor=0, ends_from=100, ends_below=10, rounds=10)
"""The protocol of SAGE's leaderboard.

The published code has no floor. None is needed: a talk is over below 10 and a turn takes at most 10, so 0 is the least
that can be reached, and the saved runs show it. `floor` states that for callers that go on after an end.
"""

RLVER = Rules(name="rlver", start=30, clip=None, cap=100, floor=None, ends_from=None, ends_below=1, rounds=8)
"""The training variant: over at 0 or less (the values are whole, so below 1); at 100 only a goodbye ends the talk."""

RULES = {rules.name: rules for rules in (SAGE, RLVER)}

SUCCESS_FROM, FAILURE_BELOW = 100, 10
"""SAGE's outcome of a talk by its last scored value. "Exceeds 100" can only mean 100: the value is capped there."""


def rules_named(name: str) -> Rules:
    """Return a set of rules by name.

    Raises:
        InputError: There is none of that name.
    """
    if name not in RULES:
        raise InputError(f"No emotion rules are named {name!r}; use one of {', '.join(RULES)}.")
    return RULES[name]


def clipped(change: int, rules: Rules = SAGE) -> int:
    """Return `change` within what one turn may do."""
    return change if rules.clip is None else max(-rules.clip, min(rules.clip, change))


def moved(points: int, change: int, rules: Rules = SAGE) -> int:
    """Return the emotion after one scored turn: clipped, capped, and held at the floor where there is one."""
    after = min(rules.cap, points + clipped(change, rules))
    return after if rules.floor is None else max(rules.floor, after)


def state_of(points: int) -> EmotionState:
    """Return the state: S from 100, A from 70, B from 40, C from 10, F below. The same for both sets of rules."""
    return next((state for state, least in _LEAST if points >= least), EmotionState.F)


def end_of(points: int, replies: int, *, goodbye: bool = False, rules: Rules = SAGE) -> End | None:
    """Say why a conversation is over, or None while it goes on.

    Args:
        points: The emotion after the last scored turn.
        replies: How many supporter replies there were, the unscored last one included.
        goodbye: Whether the seeker has just said goodbye.
        rules: The parameters.

    The value is looked at first: a content seeker who says goodbye is a success, not merely gone.
    """
    if rules.ends_from is not None and points >= rules.ends_from:
        return End.SUCCESS
    if points < rules.ends_below:
        return End.FAILURE
    if goodbye:
        return End.GOODBYE
    return End.ROUNDS if replies >= rules.rounds else None


def trajectory(changes: Iterable[int], rules: Rules = SAGE) -> tuple[int, ...]:
    """Return the emotion at the start and after each change, whether or not the talk would have ended on the way."""
    points = [rules.start]
    for change in changes:
        points.append(moved(points[-1], change, rules))
    return tuple(points)


def is_success(points: int) -> bool:
    """Whether a talk that ends at `points` counts as Success."""
    return points >= SUCCESS_FROM


def is_failure(points: int) -> bool:
    """Whether a talk that ends at `points` counts as Failure."""
    return points < FAILURE_BELOW


_CHINESE_FAREWELL = re.compile("再见|拜拜")
"""The two words SAGE's prompt has a seeker leave with."""
_LEAD_IN = r"(?:ok|okay|well|right|alright|so|anyway|and|but|thanks|thank you|thx|fine|again|then|for now|sorry)"
_FAREWELL = (
    r"(?:good[- ]?bye|bye(?:[- ]?bye)?|farewell|so long|see (?:you|ya)|take care|good ?night|talk (?:to you )?later)"
)
_TAIL = r"(?:\s+(?:now|then|for now|again|and thanks|and thank you|later|soon|everyone|you too|of yourself))*"
_ENGLISH_FAREWELL = re.compile(rf"(?:^|[.!?,;:)\n…—-]\s*)(?:{_LEAD_IN}\W+)*{_FAREWELL}{_TAIL}\W*$", re.IGNORECASE)


def says_goodbye(text: str) -> bool:
    """Whether a seeker's message takes leave.

    In Chinese by SAGE's two words. In English only a farewell that closes the message and begins a clause counts: who
    mourns that "he never said goodbye" is not leaving.
    """
    return bool(_CHINESE_FAREWELL.search(text) or _ENGLISH_FAREWELL.search(text.strip()))
