"""One conversation between a simulated seeker and a support agent, by SAGE's rules, with a record of every turn.

The seeker opens. Each supporter reply is judged and answered, until the emotion ends the talk, the seeker says
goodbye, or the last round is reached: the reply of that round gets no answer and no score.

SAGE says nothing of what can go wrong on the way; here it becomes part of the record and never stops a run:

- a reply without words reaches the seeker as `SILENCE`, and so does a reply that a model refused to give;
- a seeker that says the same again is noted and the talk goes on, since the rounds bound it;
- a seeker that a model refuses to play ends the talk, and so does a server that does not take a request: the emotion
  stays where it was last scored.
"""

import hashlib
import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.errors import LLMAnswerError, LLMRefused
from ..skills_bank.models import Message
from ..skills_bank.risk_patterns import Level
from ..skills_bank.taxonomy import ResponseChange, Scenario, SeekerState, SupportAction
from .agent import Agent, AgentReply, Rail, UsedSkill
from .emotion import SAGE, EmotionState, End, Rules, clipped, end_of, moved, state_of
from .meter import Tally, tally
from .needs import Character, HiddenNeed
from .profiles import Profile
from .seeker import Appraisal, Emotion, Reaction, Seeker

SCHEMA = 1
"""Version of a line of `transcripts.jsonl`."""
SILENCE = "\u2026"
REFUSED = "refused"
NOT_TAKEN = "the server does not take the request"
_CENTS = 6
"""Digits kept of a sum of money."""


class Oddity(StrEnum):
    """Something that SAGE's rules do not foresee."""

    EMPTY_REPLY = "empty_reply"
    REFUSED_REPLY = "refused_reply"
    EMPTY_SEEKER = "empty_seeker"
    REPEATED_SEEKER = "repeated_seeker"
    REFUSED_SEEKER = "refused_seeker"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spent(_Frozen):
    """What the model calls of one side took."""

    tokens: int = 0
    usd: float | None = Field(default=None, description="None where nothing was paid or a price was not known.")


class TurnRecord(_Frozen):
    """One supporter reply and what it did; the fields about the seeker are null where it was not answered."""

    number: int = Field(ge=1, description="Place among the supporter's replies.")
    supporter: str = Field(description="The reply as the agent gave it; empty where it gave none.")
    actions: tuple[SupportAction, ...] = Field(default=(), description="What the agent meant to do.")
    heard: tuple[SupportAction, ...] = Field(default=(), description="What the seeker heard it do.")
    skills: tuple[UsedSkill, ...] = ()
    followed: str | None = None
    bank_version: str | None = None
    risk: Level = Field(default="none", description="What the agent read in the talk before this reply.")
    rail: Rail = "none"
    seeker: str | None = Field(default=None, description="The seeker's answer.")
    appraisal: Appraisal | None = Field(default=None, description="The scorer's analysis and the seeker's thoughts.")
    change: int | None = Field(default=None, description="The change that counted, clipped.")
    points: int = Field(description="The emotion after this turn.")
    emotion: EmotionState
    state: SeekerState | None = None
    response: ResponseChange | None = None
    goodbye: bool = False
    oddities: tuple[Oddity, ...] = ()
    agent_spent: Spent = Spent()
    seeker_spent: Spent = Spent()

    @property
    def scored(self) -> bool:
        """Whether the seeker judged this reply."""
        return self.change is not None


class Transcript(_Frozen):
    """One whole conversation."""

    format: Literal[1] = SCHEMA
    profile: str
    repeat: int = Field(ge=0, description="How often this profile was talked to before in the run.")
    seed: int
    source: str
    language: str
    scenario: Scenario | None
    character: Character
    need: HiddenNeed
    risk: Literal["elevated"] | None = Field(description="The risk hint that stands in the profile.")
    start: int
    opening: str
    turns: tuple[TurnRecord, ...]
    points: int = Field(description="The emotion after the last scored turn.")
    emotion: EmotionState
    end: Literal[End.SUCCESS, End.FAILURE, End.GOODBYE, End.ROUNDS, "refused"]
    trouble: str | None = Field(default=None, description="Why a model did not answer; quotes nothing of the talk.")

    @property
    def key(self) -> tuple[str, int]:
        """What a conversation is known by in its run."""
        return self.profile, self.repeat

    @property
    def changes(self) -> tuple[int, ...]:
        """The changes that were scored."""
        return tuple(turn.change for turn in self.turns if turn.change is not None)

    @property
    def trajectory(self) -> tuple[int, ...]:
        """The emotion at the start and after each scored turn."""
        return (self.start, *(turn.points for turn in self.turns if turn.scored))

    @property
    def spent(self) -> Spent:
        """What both sides took."""
        parts = [spent for turn in self.turns for spent in (turn.agent_spent, turn.seeker_spent) if spent.tokens]
        unknown = not parts or any(spent.usd is None for spent in parts)
        usd = None if unknown else round(sum(spent.usd or 0.0 for spent in parts), _CENTS)
        return Spent(tokens=sum(spent.tokens for spent in parts), usd=usd)


def conversation_seed(run_seed: int, profile: str, repeat: int) -> int:
    """Return the seed of one conversation: of the run, the profile and the repeat, never of the order.

    Two runs on one seed thus draw the same numbers for the same seeker, whichever agent or bank they try (common
    random numbers), and a conversation that is run again comes out the same.
    """
    text = f"{run_seed}\0{profile}\0{repeat}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def _rng(seed: int, who: str, turn: int) -> random.Random:
    """Return the numbers one side draws in one turn.

    Each side and turn has its own, so that an agent that draws once more does not change what its seeker draws.
    """
    return random.Random(f"{seed}/{who}/{turn}")


async def converse(
    profile: Profile, agent: Agent, seeker: Seeker, *, seed: int, repeat: int = 0, rules: Rules = SAGE
) -> Transcript:
    """Hold one conversation and return its record.

    Args:
        profile: Whom the seeker plays; the agent never gets it.
        agent: Who answers.
        seeker: Who plays.
        seed: See `conversation_seed`.
        repeat: How often the profile was talked to before in the run.
        rules: The emotion's rules.

    Raises:
        BudgetError: A cap is reached; the conversation has to be held again.
        LLMUnavailable: A server failed; likewise.
    """
    session = _Session(profile, agent, seeker, seed, rules)
    end = await session.run()
    return Transcript(
        profile=profile.id,
        repeat=repeat,
        seed=seed,
        source=profile.source,
        language=profile.language,
        scenario=profile.scenario,
        character=profile.character,
        need=profile.need,
        risk=profile.risk,
        start=rules.start,
        opening=session.opening,
        turns=tuple(session.turns),
        points=session.points,
        emotion=state_of(session.points),
        end=end,
        trouble=session.trouble,
    )


class _Session:
    """The talk as it goes on."""

    def __init__(self, profile: Profile, agent: Agent, seeker: Seeker, seed: int, rules: Rules) -> None:
        self._profile, self._agent, self._seeker = profile, agent, seeker
        self._seed, self._rules = seed, rules
        self._talk: list[Message] = []
        self.opening = ""
        self.points = rules.start
        self._last = 0
        self.turns: list[TurnRecord] = []
        self.trouble: str | None = None

    async def run(self) -> "End | Literal['refused']":
        """Talk until the end, and say which it was."""
        try:
            self.opening = (await self._seeker.opening(self._profile)).strip() or SILENCE
        except (LLMAnswerError, LLMRefused) as error:
            self.trouble = _said(error)
            return REFUSED
        self._say("seeker", self.opening)
        for number in range(1, self._rules.rounds + 1):
            end = await self._turn(number)
            if end is not None:
                return end
        return End.ROUNDS

    async def _turn(self, number: int) -> "End | Literal['refused'] | None":
        record = await self._supporter(number)
        if self.trouble == NOT_TAKEN:
            self.turns.append(record)
            return REFUSED
        if number == self._rules.rounds:
            self.turns.append(record)  # the last message of a full talk is never scored
            return End.ROUNDS
        with tally() as spent:
            try:
                emotion = Emotion(points=self.points, last=self._last)
                reaction = await self._seeker.react(
                    self._profile, tuple(self._talk), emotion, _rng(self._seed, "seeker", number)
                )
            except (LLMAnswerError, LLMRefused) as error:
                self.trouble = _said(error)
                odd = (*record.oddities, Oddity.REFUSED_SEEKER)
                self.turns.append(record.model_copy(update={"oddities": odd, "seeker_spent": _spent(spent)}))
                return REFUSED
        self.turns.append(self._scored(record, reaction, spent))
        return end_of(self.points, number, goodbye=reaction.goodbye, rules=self._rules)

    async def _supporter(self, number: int) -> TurnRecord:
        """Let the agent answer."""
        odd: tuple[Oddity, ...] = ()
        with tally() as spent:
            try:
                reply = await self._agent.reply(tuple(self._talk), _rng(self._seed, "agent", number))
            except (LLMAnswerError, LLMRefused) as error:
                self.trouble = _said(error)
                reply, odd = AgentReply(text=""), (Oddity.REFUSED_REPLY,)
        text = reply.text.strip()
        if not text and not odd:
            odd = (Oddity.EMPTY_REPLY,)
        self._say("supporter", text or SILENCE)
        return TurnRecord(
            number=number,
            supporter=text,
            actions=reply.actions,
            skills=reply.skills,
            followed=reply.followed,
            bank_version=reply.bank_version,
            risk=reply.risk,
            rail=reply.rail,
            points=self.points,
            emotion=state_of(self.points),
            oddities=odd,
            agent_spent=_spent(spent, reply.tokens, reply.usd),
        )

    def _scored(self, record: TurnRecord, reaction: Reaction, spent: Tally) -> TurnRecord:
        """Move the emotion by what the seeker made of the reply, and let it answer."""
        change = clipped(reaction.appraisal.change, self._rules)
        self.points, self._last = moved(self.points, change, self._rules), change
        text = reaction.text.strip()
        odd = list(record.oddities)
        if not text:
            odd.append(Oddity.EMPTY_SEEKER)
        elif _plain(text) in {_plain(message.content) for message in self._talk if message.role == "seeker"}:
            odd.append(Oddity.REPEATED_SEEKER)
        self._say("seeker", text or SILENCE)
        return record.model_copy(
            update={
                "seeker": text,
                "appraisal": reaction.appraisal,
                "change": change,
                "points": self.points,
                "emotion": state_of(self.points),
                "heard": reaction.heard,
                "state": reaction.state,
                "response": reaction.response,
                "goodbye": reaction.goodbye,
                "oddities": tuple(odd),
                "seeker_spent": _spent(spent, reaction.tokens, reaction.usd),
            }
        )

    def _say(self, role: Literal["seeker", "supporter"], text: str) -> None:
        self._talk.append(Message(role=role, content=text))


def messages(transcript: Transcript) -> Sequence[Message]:
    """Return the talk as both sides had it."""
    talk = [Message(role="seeker", content=transcript.opening)] if transcript.opening else []
    for turn in transcript.turns:
        talk.append(Message(role="supporter", content=turn.supporter or SILENCE))
        if turn.seeker is not None:
            talk.append(Message(role="seeker", content=turn.seeker or SILENCE))
    return talk


def _plain(text: str) -> str:
    return " ".join("".join(c for c in text.lower() if c.isalnum() or c.isspace()).split())


def _said(error: LLMAnswerError | LLMRefused) -> str:
    return error.reason if isinstance(error, LLMAnswerError) else NOT_TAKEN


def _spent(counted: Tally, tokens: int = 0, usd: float | None = None) -> Spent:
    """Return what was counted at the client; where nothing was, what the side itself says."""
    if not counted.calls:
        return Spent(tokens=tokens, usd=usd)
    return Spent(tokens=counted.tokens, usd=None if counted.usd is None else round(counted.usd, _CENTS))
