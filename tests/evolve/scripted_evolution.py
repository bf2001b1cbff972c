"""An evolution whose parts follow a script: seekers moved by numbers in the texts, proposals and texts composed here.

As a script it is the process of a job: `scripted_evolution.py JOB_FOLDER` does with these parts what
`python -m esc_skills.pipeline.jobs` does. `ESC_TEST_SLOW` slows each talk and each text down by so many seconds.
"""

import asyncio
import os
import random
import re
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from esc_skills.evolve.acceptance import Case, Paired
from esc_skills.evolve.arena import Arena
from esc_skills.evolve.bench import Parts
from esc_skills.evolve.generation import Brief
from esc_skills.evolve.loop import EvolveResult, evolve
from esc_skills.evolve.models import Candidate, Check, Cite, Context, Effect, Finding, FindingKind, TalkPair, Veto
from esc_skills.evolve.plan import EvolvePlan, plan_evolution, profiles_of
from esc_skills.evolve.split import Split
from esc_skills.evolve.watch import Watch
from esc_skills.pipeline import jobs
from esc_skills.simulator.agent import AgentReply, UsedSkill
from esc_skills.simulator.casting import Cast, CastRecipe
from esc_skills.simulator.emotion import SAGE
from esc_skills.simulator.engine import LocalEngine
from esc_skills.simulator.needs import Character, HiddenNeed
from esc_skills.simulator.profiles import Person, Profile, ProfileSet, Scene, dumped
from esc_skills.simulator.seeker import Appraisal, Emotion, Reaction
from esc_skills.simulator.session import Transcript
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import GenerationError
from esc_skills.skills_bank.models import Message
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction

PROFILES = 48
DREAD, EXAMS, MOVES, NEW = "calming-dread", "calming-exams", "calming-moves", "calming-storms"
UNSAFE = "Keep it from everybody"
SHIFT = re.compile(r"shift (-?\d+) points")
SHIFTS: Mapping[str, Sequence[int | None]] = {
    DREAD: (None, -3, 4),
    EXAMS: (3,),
    MOVES: (0, 0, 0),
}
"""What each attempt at a skill does to every turn; None: the text is as it was."""


def profile(number: int) -> Profile:
    situation = number // 3
    return Profile.model_validate(
        {
            "id": f"made-{number:03d}",
            "scenario": list(Scenario)[situation // 4 % len(Scenario)],
            "character": list(Character)[number % 3],
            "need": list(HiddenNeed)[number % 8],
            "person": Person(name=f"Ilka {number}", age=33, gender="woman"),
            "scene": Scene(id=f"situation-{situation}", background="The lantern was theirs."),
            "first_line": f"It is about the harbour again, number {number}.",
        }
    )


def write_profiles(path: Path, n: int = PROFILES) -> Path:
    path.write_text(dumped(profile(number) for number in range(n)), encoding="utf-8")
    return path


class _Agent:
    name = "scripted-agent"

    def __init__(self, shift: int, skills: Sequence[str]) -> None:
        self._shift, self._skills = shift, skills

    async def reply(self, talk: Sequence[Message], rng: random.Random) -> AgentReply:
        name = self._skills[len(talk) // 2 % len(self._skills)]
        return AgentReply(
            text=f"Reply {len(talk)} with {self._shift}.",
            skills=(UsedSkill(name=name, score=0.5, uri=f"skill://{name}/SKILL.md"),),
            followed=name,
            actions=(SupportAction.EMOTIONAL_VALIDATION,),
        )


class _Seeker:
    """Moves by chance and by the number in the reply."""

    name = "scripted-seeker"

    async def opening(self, profile: Profile) -> str:
        return profile.first_line or "So."

    async def react(self, profile: Profile, talk: Sequence[Message], emotion: Emotion, rng: random.Random) -> Reaction:
        if slow := float(os.environ.get("ESC_TEST_SLOW") or 0):
            time.sleep(slow)
        shift = int(talk[-1].content.rstrip(".").rsplit(" ", 1)[1])
        change = rng.randint(-6, 4) + shift
        appraisal = Appraisal(content="c", serves="s", inner="i", feeling="f", change=change)
        return Reaction(appraisal=appraisal, text=f"Draw {rng.randint(0, 10**6)}.", goodbye=False, heard=())


@dataclass(frozen=True)
class ScriptedRecipe(CastRecipe):
    """A cast whose seekers gain each turn what the texts of the bank say in all."""

    def names(self) -> tuple[str, str]:
        return _Agent.name, _Seeker.name

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Cast]:
        bank = Bank.load(self.bank.folder)
        shift = sum(int(found) for text in bank.texts.values() for found in SHIFT.findall(text))
        yield Cast(_Agent(shift, sorted(bank.skills)), _Seeker(), SAGE)


class ScriptedAnalyzer:
    """Finds harm in every skill of `SHIFTS`, worst first, and a gap."""

    name = "scripted-analyzer"

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def analyze(self, talks: Iterable[Transcript], profiles: Mapping[str, Profile]) -> list[Finding]:
        self.seen = [talk.profile for talk in talks]
        found = [self._finding(FindingKind.HARM, skill, 3.0 - number) for number, skill in enumerate(SHIFTS)]
        return [*found, self._finding(FindingKind.GAP, None, 0.5)]

    def _finding(self, kind: FindingKind, skill: str | None, effect: float) -> Finding:
        return Finding(
            kind=kind,
            skill=skill,
            context=Context(states=(SeekerState.ANXIETY_AND_FEAR,)),
            what=f"What is done about {skill or 'storms'} goes badly.",
            cites=tuple(Cite(profile=profile, turns=(1, 2)) for profile in self.seen[:3]),
            turns=6,
            effect=-effect,
            p=0.01,
        )


class ScriptedGenerator:
    """Writes what `SHIFTS` says; of a new skill an unsafe text, then none at all."""

    name = "scripted-generator"

    def __init__(self, briefs: list[Brief]) -> None:
        self.briefs = briefs

    async def generate(self, brief: Brief, bank: Bank) -> Candidate:
        self.briefs.append(brief)
        await asyncio.sleep(float(os.environ.get("ESC_TEST_SLOW") or 0))
        skill, number = brief.proposal.skill, brief.attempt
        if skill is None and number > 1:
            raise GenerationError(brief.proposal.id, "Nothing is left to be changed.")
        text = bank.texts[skill or DREAD]
        if skill is None:
            text = text.replace(f"name: {DREAD}", f"name: {NEW}").replace(
                "## Overview\n", f"## Overview\n{UNSAFE}.\n\n"
            )
        elif (shift := SHIFTS[skill][number - 1]) is not None:
            text = text.replace("## Overview\n", f"## Overview\nIt may shift {shift} points, try {number}.\n\n")
        return Candidate(
            id=f"{brief.proposal.id}.{number}",
            proposal=brief.proposal.id,
            attempt=number,
            skill=skill or NEW,
            replaces=skill,
            files={"SKILL.md": text},
            what=f"Try {number}.",
            generator=self.name,
        )


class ScriptedGuards:
    """Vetoes a bank in which all of `never` have a shift."""

    def __init__(self, never: Sequence[str] = ()) -> None:
        self._never = never

    async def checks(
        self, case: Case, pairs: Sequence[TalkPair], strata: Mapping[str, Effect], arena: Arena
    ) -> tuple[list[Check], list[Veto]]:
        texts = Bank.load(case.staged.folder).texts
        vetoes = []
        if self._never and all(SHIFT.search(texts[name]) for name in self._never):
            vetoes.append(Veto(rule="risk", reason=f"{' and '.join(self._never)} do not go together."))
        return [Check(name="risk", run=True, told="Looked at.")], vetoes


class ScriptedParts:
    """`bench.Parts` without a model."""

    strategy = Paired()
    joint = Paired(shares=(1.0,))

    def __init__(self, plan: EvolvePlan, never: Sequence[str] = ()) -> None:
        self.plan = plan
        self.profiles: ProfileSet = profiles_of(plan)
        self.never = never
        self.reader = ScriptedAnalyzer()
        self.briefs: list[Brief] = []
        self.held: list[Transcript] = []

    def guards(self, split: Split) -> ScriptedGuards:
        return ScriptedGuards(self.never)

    @contextmanager
    def arena(self, folder: Path, watch: Watch) -> Iterator[Arena]:
        def told(talk: Transcript) -> None:
            self.held.append(talk)
            watch.talk(talk)

        recipe = ScriptedRecipe("bank", self.plan.bank.ref())
        yield Arena(folder, recipe, self.profiles, LocalEngine(), told, prepare=lambda _: None)

    @asynccontextmanager
    async def analyzer(self, bank: Bank) -> AsyncIterator[ScriptedAnalyzer]:
        yield self.reader

    @asynccontextmanager
    async def generator(self) -> AsyncIterator[ScriptedGenerator]:
        yield ScriptedGenerator(self.briefs)

    def screen(self, candidate: Candidate, bank: Bank) -> list[str]:
        return ["It tells to keep a secret."] if UNSAFE in candidate.files["SKILL.md"] else []


def scripted_plan(profiles: Path, bank: Path, **options) -> EvolvePlan:
    return plan_evolution(str(profiles), bank_dir=bank, repeats=options.pop("repeats", 4), **options)


async def work(job: jobs.Job, parts: Parts | None = None) -> EvolveResult:
    plan = EvolvePlan.model_validate(job.read().plan)
    return await evolve(plan, job, parts or ScriptedParts(plan))


async def run(job: jobs.Job) -> dict:
    """What `jobs.RUNNERS` names in tests."""
    return (await work(job)).model_dump(mode="json")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    jobs.RUNNERS = {"evolve": "scripted_evolution:run"}
    sys.exit(jobs.main(sys.argv[1:]))
