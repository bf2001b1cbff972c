"""What a simulated seeker is to everything else: it opens a talk, and it reacts to a supporter's words.

The shapes hold what SAGE records a turn: how the reply was appraised (what it says, whether it serves the hidden need,
what goes on inside, how it feels, by how much the emotion moves) and what is said aloud. A `Reaction` never leaves the
simulator: of it, a supporter is given `text` alone.
"""

import random
from collections.abc import Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.models import Message
from ..skills_bank.taxonomy import ResponseChange, SeekerState, SupportAction
from .emotion import SAGE, EmotionState, Rules, state_of
from .profiles import Profile


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Emotion(_Frozen):
    """Where the seeker stands before the reply is judged, and how the turn before moved it.

    A seeker keeps nothing between two turns, so that any turn can be played again by itself; what it must know of
    the turn before is here and in the talk.
    """

    points: int
    last: int = Field(description="The change of the turn before; 0 where this is the first reply.")

    @property
    def state(self) -> EmotionState:
        """The state of SAGE that these points are."""
        return state_of(self.points)


def at_start(rules: Rules = SAGE) -> Emotion:
    """Return the emotion before the first reply."""
    return Emotion(points=rules.start, last=0)


class Appraisal(_Frozen):
    """How the seeker takes the supporter's last reply (SAGE's `planning`). For analysts; no supporter sees it."""

    content: str = Field(description="What the reply conveys.")
    serves: str = Field(description="Whether it serves the talk and the hidden need.")
    inner: str = Field(description="What goes on inside.")
    feeling: str = Field(description="How it feels.")
    change: int = Field(description="By how much the emotion moves, within what the rules allow.")


class Reaction(_Frozen):
    """What the seeker makes of a reply, and what it says."""

    appraisal: Appraisal
    text: str = Field(min_length=1, description="What the seeker says; the only field a supporter may see.")
    goodbye: bool = Field(description="Whether the seeker leaves with it.")
    state: SeekerState | None = Field(default=None, description="The state its words show; None where nobody knows.")
    heard: tuple[SupportAction, ...] = Field(default=(), description="What it heard the supporter do.")
    response: ResponseChange | None = Field(default=None, description="How it moved; None where nobody knows.")
    tokens: int = 0
    usd: float | None = Field(default=None, description="What the model calls cost; None where it is not known.")


class Seeker(Protocol):
    """Anybody who can play a profile: rules, or a language model."""

    @property
    def name(self) -> str:
        """What it is and which version, for `run.json`."""
        ...

    async def opening(self, profile: Profile) -> str:
        """Return the first message of the talk."""
        ...

    async def react(self, profile: Profile, talk: Sequence[Message], emotion: Emotion, rng: random.Random) -> Reaction:
        """Judge the last message of `talk`, which is the supporter's, and answer it.

        Args:
            profile: Who is played.
            talk: All messages so far, oldest first.
            emotion: The emotion before this reply is judged.
            rng: All chance comes from it: the same arguments give the same reaction.
        """
        ...
