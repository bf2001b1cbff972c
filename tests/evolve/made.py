"""Scripted casts whose seekers are moved by what stands in the bank, and composed profiles for them."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from esc_skills.evolve.models import Candidate
from esc_skills.simulator.agent import AgentReply, UsedSkill
from esc_skills.simulator.casting import Cast, CastRecipe
from esc_skills.simulator.emotion import SAGE
from esc_skills.simulator.needs import Character, HiddenNeed
from esc_skills.simulator.profiles import Person, Profile, ProfileSet, Scene
from esc_skills.simulator.seeker import Appraisal, Emotion, Reaction
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.models import Message
from esc_skills.skills_bank.taxonomy import Scenario, SupportAction

DREAD = "calming-dread"
SECRET = "The seeker longs to be told that the lantern was theirs."


def profile(number: int, **more: object) -> Profile:
    """A composed profile; five stand in each situation, six situations in each scenario."""
    situation = number // 5
    values = {
        "id": f"made-{number:03d}",
        "scenario": list(Scenario)[situation // 6 % len(Scenario)],
        "character": list(Character)[number % 3],
        "need": list(HiddenNeed)[number % 8],
        "person": Person(name=f"Imre {number}", age=41, gender="man"),
        "scene": Scene(id=f"situation-{situation}", background=SECRET),
        "first_line": f"It is about the ferry again, number {number}.",
        "risk": "elevated" if number % 7 == 0 else None,
    }
    return Profile.model_validate(values | more)


def profiles(n: int = 90) -> ProfileSet:
    return ProfileSet(name="made", profiles=tuple(profile(i) for i in range(n)))


class _Agent:
    """Follows the one skill; what it says depends on the bank only in so far as `shift` does."""

    name = "scripted-agent"

    def __init__(self, shift: int) -> None:
        self._shift = shift

    async def reply(self, talk: Sequence[Message], rng: random.Random) -> AgentReply:
        return AgentReply(
            text=f"Reply {len(talk)} with {self._shift}.",
            skills=(UsedSkill(name=DREAD, score=0.5, uri=f"skill://{DREAD}/SKILL.md"),),
            followed=DREAD,
            actions=(SupportAction.EMOTIONAL_VALIDATION,),
        )


class _Seeker:
    """Moves by chance and by the number in the reply, which is 0 with the plain bank."""

    name = "scripted-seeker"

    async def opening(self, profile: Profile) -> str:
        return profile.first_line or "So."

    async def react(self, profile: Profile, talk: Sequence[Message], emotion: Emotion, rng: random.Random) -> Reaction:
        shift = int(talk[-1].content.rstrip(".").rsplit(" ", 1)[1])
        change = rng.randint(-8, 8) + shift
        appraisal = Appraisal(content="c", serves="s", inner="i", feeling="f", change=change)
        return Reaction(appraisal=appraisal, text=f"Draw {rng.randint(0, 10**6)}.", goodbye=False, heard=())


@dataclass(frozen=True)
class ScriptedRecipe(CastRecipe):
    """A cast whose seekers gain a turn what the overview of `calming-dread` says after the word `shift`."""

    def names(self) -> tuple[str, str]:
        return _Agent.name, _Seeker.name

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Cast]:
        words = Bank.load(self.bank.folder).texts[DREAD].split()
        shift = int(words[words.index("shift") + 1]) if "shift" in words else 0
        yield Cast(_Agent(shift), _Seeker(), SAGE)


MakeCandidate = Callable[..., Candidate]
