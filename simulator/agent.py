"""What a support agent is to a session: it gets the words said so far, and gives its next reply.

An agent never gets a profile, so it cannot know the hidden need. How it came to the reply (skills, risk, actions) is
told beside the text, for the record.
"""

import random
from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.models import Message
from ..skills_bank.risk_patterns import Level
from ..skills_bank.taxonomy import SupportAction

Rail = Literal["none", "check", "fixed"]
"""What the risk rail made the agent do: nothing, the safety check before all else, or only the fixed text."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UsedSkill(_Frozen):
    """A skill that was selected for a reply, with its fit to the talk."""

    name: str
    score: float
    uri: str


class AgentReply(_Frozen):
    """One reply and how it came about."""

    text: str = Field(description="What the seeker gets; empty where the agent had nothing to say.")
    actions: tuple[SupportAction, ...] = Field(default=(), description="Intended; empty where the agent does not say.")
    skills: tuple[UsedSkill, ...] = Field(default=(), description="Selected, best first.")
    followed: str | None = Field(default=None, description="The skill whose step this is, where one was followed.")
    risk: Level = "none"
    rail: Rail = "none"
    bank_version: str | None = None
    tokens: int = 0
    usd: float | None = Field(default=None, description="What the model calls cost; None where it is not known.")


class Agent(Protocol):
    """Anybody who can answer a seeker."""

    @property
    def name(self) -> str:
        """What it is and which version, for `run.json`."""
        ...

    async def reply(self, talk: Sequence[Message], rng: random.Random) -> AgentReply:
        """Answer the last message of `talk`, which is the seeker's.

        Args:
            talk: All messages so far, oldest first.
            rng: All chance comes from it: the same arguments give the same reply.
        """
        ...
