"""A cast that follows a script: an agent and a seeker whose every word is composed here, for tests of what is around.

As a script it is a run to be killed: `scripted_cast.py FOLDER N SECONDS [WORKERS]`.
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from esc_skills.simulator.agent import AgentReply, UsedSkill
from esc_skills.simulator.casting import Cast
from esc_skills.simulator.emotion import SAGE, Rules
from esc_skills.simulator.engine import LocalEngine
from esc_skills.simulator.needs import Character, HiddenNeed
from esc_skills.simulator.profiles import Person, Profile, ProfileSet, Scene
from esc_skills.simulator.run import RunSettings, simulate
from esc_skills.simulator.seeker import Appraisal, Emotion, Reaction
from esc_skills.skills_bank.models import Message
from esc_skills.skills_bank.taxonomy import Scenario, SupportAction

SECRET = "You want to be told that the blue heron came because of you."
Judge = Callable[[int, random.Random], int]


def profile(number: int = 1, **more: object) -> Profile:
    """A composed profile whose scene holds words that nobody else may get."""
    values = {
        "id": f"composed-{number:03d}",
        "scenario": list(Scenario)[number % len(Scenario)],
        "character": list(Character)[number % 3],
        "need": list(HiddenNeed)[number % 8],
        "person": Person(name=f"Ona {number}", age=30, gender="woman"),
        "scene": Scene(background=SECRET),
        "first_line": f"It is the thing with the letter again, number {number}.",
        "risk": "elevated" if number % 9 == 0 else None,
    }
    return Profile.model_validate(values | more)


def profiles(n: int) -> ProfileSet:
    return ProfileSet(name="composed", profiles=tuple(profile(i) for i in range(1, n + 1)))


class ScriptedSeeker:
    """Moves by what `judge` says of each turn; by default within the rules, by chance."""

    name = "scripted-seeker"

    def __init__(
        self,
        judge: Judge | Iterable[int] | None = None,
        lines: Sequence[str] = (),
        *,
        goodbye_at: int | None = None,
        fails_at: int | None = None,
        error: Exception | None = None,
        seconds: float = 0.0,
    ) -> None:
        changes = list(judge) if judge is not None and not callable(judge) else []
        self._judge: Judge = judge if callable(judge) else self._listed(changes)
        self._lines, self._goodbye_at, self._fails_at, self._error = lines, goodbye_at, fails_at, error
        self._seconds = seconds
        self.emotions: list[Emotion] = []

    @staticmethod
    def _listed(changes: list[int]) -> Judge:
        return lambda number, rng: changes[number - 1] if changes else rng.randint(-10, 10)

    async def opening(self, profile: Profile) -> str:
        if self._fails_at == 0 and self._error is not None:
            raise self._error
        return profile.first_line or "So."

    async def react(self, profile: Profile, talk: Sequence[Message], emotion: Emotion, rng: random.Random) -> Reaction:
        number = len(talk) // 2
        self.emotions.append(emotion)
        if self._seconds:
            time.sleep(self._seconds)
        if self._fails_at == number and self._error is not None:
            raise self._error
        goodbye = self._goodbye_at == number
        text = self._lines[number - 1] if self._lines else f"Turn {number}, draw {rng.randint(0, 10**6)}."
        appraisal = Appraisal(
            content="c", serves="s", inner="i", feeling="f", change=self._judge(number, rng)
        )  # fmt: skip
        return Reaction(
            appraisal=appraisal, text=text, goodbye=goodbye, heard=(SupportAction.RESTATEMENT,), tokens=3, usd=0.5
        )


class ScriptedAgent:
    """Says its lines, or counts; remembers everything it was given."""

    name = "scripted-agent"

    def __init__(self, lines: Sequence[str | Exception] = (), *, draws: int = 1, **reply: object) -> None:
        self._lines, self._draws, self._reply = lines, draws, reply
        self.given: list[tuple[Message, ...]] = []

    async def reply(self, talk: Sequence[Message], rng: random.Random) -> AgentReply:
        self.given.append(tuple(talk))
        number = (len(talk) + 1) // 2
        line = self._lines[number - 1] if self._lines else f"Reply {number} of {rng.random():.6f}."
        for _ in range(self._draws):
            rng.random()
        if isinstance(line, Exception):
            raise line
        skill = UsedSkill(name="calming-dread", score=0.5, uri="skill://calming-dread/SKILL.md")
        values = {
            "text": line,
            "skills": (skill,),
            "followed": "calming-dread",
            "actions": (SupportAction.RESTATEMENT,),
        }
        return AgentReply.model_validate(values | self._reply)


@dataclass(frozen=True)
class ScriptedRecipe:
    """A cast of scripts; `seconds` is how long a seeker thinks, `lift` what is added to each change."""

    seconds: float = 0.0
    lift: int = 0
    asks_models: bool = False
    rules: Rules = SAGE

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Cast]:
        seeker = ScriptedSeeker(lambda _, rng: rng.randint(-10, 10) + self.lift, seconds=self.seconds)
        yield Cast(ScriptedAgent(), seeker, self.rules)


def settings(n: int, **more: object) -> RunSettings:
    values = {
        "esc_skills": "0",
        "agent": "bank",
        "supporter": "local",
        "seeker": "local",
        "agent_name": "scripted-agent",
        "seeker_name": "scripted-seeker",
        "rules": "sage",
        "materials": "0",
        "profiles": "composed",
        "profiles_hash": profiles(n).digest,
        "n": n,
        "seed": 7,
    }
    return RunSettings.model_validate(values | more)


def main() -> None:
    folder, n, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    workers = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    recipe = ScriptedRecipe(seconds=seconds)
    asyncio.run(simulate(folder, settings(n), recipe, profiles(n), LocalEngine(workers), resume=True))


if __name__ == "__main__":
    main()
