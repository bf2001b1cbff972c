"""What an analyzer is, and a run's talks as moments: one supporter reply each, with all that was known before it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from ..simulator.agent import Rail
from ..simulator.local_seeker import FAULTS
from ..simulator.needs import Character, HiddenNeed
from ..simulator.profiles import Profile
from ..simulator.session import Transcript
from ..skills_bank.risk_patterns import Level
from ..skills_bank.taxonomy import Scenario, SeekerState, SupportAction
from .models import Cite, Finding

StateReader = Callable[[str], SeekerState]
"""Says which state the words of a seeker show."""


class Analyzer(Protocol):
    """Anybody who can say what the talks of a run show about its bank."""

    @property
    def name(self) -> str:
        """Who it is, with the version of what decides its findings."""
        ...

    async def analyze(self, talks: Iterable[Transcript], profiles: Mapping[str, Profile]) -> list[Finding]:
        """Return what the talks show.

        Args:
            talks: Whole conversations of one run.
            profiles: Whom they were held with, by id.
        """
        ...


class Moment(NamedTuple):
    """One reply, what it answered, and what came of it."""

    talk: tuple[str, int]
    number: int
    scenario: Scenario | None
    character: Character
    need: HiddenNeed
    state: SeekerState
    """Of the seeker's words that were answered."""
    points: int
    """The emotion before the reply."""
    last: int
    """The change of the turn before; 0 at the first."""
    followed: str | None
    score: float | None
    """Of the skill that was followed, or else of the best one; None where none was selected."""
    actions: tuple[SupportAction, ...]
    """What the agent meant to do; where it does not say, what the seeker heard."""
    change: int | None
    """None where the seeker gave no answer."""
    risk: Level
    rail: Rail
    checked: bool
    """Whether safety had been checked in this talk by the end of this reply."""
    text: str
    """The reply."""
    heard: tuple[SupportAction, ...] = ()
    """What the seeker heard; empty where it does not say."""
    off_topic: bool = False
    """Whether the seeker said that the reply seemed to be about something else."""


def moments_of(talks: Iterable[Transcript], read: StateReader) -> Iterator[Moment]:
    """Yield every reply of the talks.

    Args:
        talks: The conversations.
        read: Asked for a state where the record holds none: for openings, and wherever a model plays the seeker.
    """
    for talk in talks:
        state, points, last = read(talk.opening), talk.start, 0
        checked = False
        for turn in talk.turns:
            actions = turn.actions or turn.heard
            checked = checked or turn.rail != "none" or SupportAction.SAFETY_CHECK_AND_REFERRAL in actions
            scores = {used.name: used.score for used in turn.skills}
            yield Moment(
                talk=talk.key,
                number=turn.number,
                scenario=talk.scenario,
                character=talk.character,
                need=talk.need,
                state=state,
                points=points,
                last=last,
                followed=turn.followed,
                score=scores.get(turn.followed or "", max(scores.values(), default=None)),
                actions=actions,
                change=turn.change,
                risk=turn.risk,
                rail=turn.rail,
                checked=checked,
                text=turn.supporter,
                heard=turn.heard,
                off_topic=turn.appraisal is not None and FAULTS["off_topic"] in turn.appraisal.content,
            )
            if turn.seeker is not None:
                state = turn.state or read(turn.seeker)
                points, last = turn.points, turn.change or 0


def cites_of(moments: Iterable[Moment]) -> tuple[Cite, ...]:
    """Return where these replies stand, by talk."""
    turns: dict[tuple[str, int], set[int]] = defaultdict(set)
    for moment in moments:
        turns[moment.talk].add(moment.number)
    return tuple(
        Cite(profile=profile, repeat=repeat, turns=tuple(sorted(turns[profile, repeat])))
        for profile, repeat in sorted(turns)
    )
