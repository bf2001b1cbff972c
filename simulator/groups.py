"""The known-groups check through words: agents that do one kind of thing talk to the shipped evaluation profiles.

Unlike `validity.groups`, nothing is handed over as a label: the agents speak, and the local seeker hears what it hears.
"""

import asyncio
from collections.abc import Callable, Sequence
from statistics import fmean, stdev

from .casting import AgentName, CastRecipe
from .emotion import is_failure, is_success
from .profiles import Profile, load_profiles
from .session import Transcript, conversation_seed, converse
from .sources import settle_bank
from .validity import Words

AGENTS: tuple[AgentName, ...] = ("only-advice", "only-questions", "only-reassurance", "no-skill", "bank")
SEED = 7
REPEATS = 3


def talk_through(say: Callable[[str], None] = lambda _: None, profiles: Sequence[Profile] = ()) -> tuple[Words, ...]:
    """Hold `REPEATS` talks per profile with each agent, all on the same seeds; default: the evaluation profiles."""
    some = profiles or load_profiles("evaluation").profiles
    return asyncio.run(_all(some, say))


async def _all(profiles: Sequence[Profile], say: Callable[[str], None]) -> tuple[Words, ...]:
    found: list[Words] = []
    bank = settle_bank()
    for agent in AGENTS:
        say(f"talking: {agent}")
        async with CastRecipe(agent=agent, bank=bank).open() as cast:
            talks = [
                await converse(p, cast.agent, cast.seeker, seed=conversation_seed(SEED, p.id, n), repeat=n)
                for p in profiles
                for n in range(REPEATS)
            ]
        found.append(summed(agent, talks))
    return tuple(found)


def summed(agent: str, talks: Sequence[Transcript]) -> Words:
    """Return an agent's figures over its talks."""
    changes = [change for talk in talks for change in talk.changes]
    finals = [talk.points for talk in talks]
    by_profile: dict[str, list[int]] = {}
    for talk in talks:
        by_profile.setdefault(talk.profile, []).append(talk.points)
    means = [fmean(points) for points in by_profile.values()]
    scored = [turn for talk in talks for turn in talk.turns if turn.scored and turn.actions]
    meant = [action in turn.heard for turn in scored for action in turn.actions]
    return Words(
        agent=agent,
        talks=len(talks),
        change=round(sum(changes) / max(len(changes), 1), 2),
        final=round(fmean(finals), 1),
        error=round(stdev(means) / len(means) ** 0.5, 1) if len(means) > 1 else 0.0,
        understood=round(sum(meant) / max(len(meant), 1), 3),
        success=sum(map(is_success, finals)),
        failure=sum(map(is_failure, finals)),
    )
