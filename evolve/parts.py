"""The real parts of an evolution, made from its plan: seekers, analyzer, generator, strategy, guards."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from pathlib import Path

from ..pipeline.jobs import Job
from ..pipeline.llm.client import LLMClient, Role
from ..pipeline.llm.settings import LLMSettings
from ..simulator.casting import CastRecipe
from ..simulator.engine import LocalEngine
from ..simulator.profiles import ProfileSet
from ..skills_bank.bank import Bank
from .acceptance import Paired, Strategy, strategy_named
from .analysis import Analyzer
from .arena import Arena
from .generation import Generator
from .guards import Guards, shared_folder
from .models import Candidate
from .plan import EvolvePlan, llm_settings, profiles_of
from .record import JOURNAL
from .split import Split
from .watch import Watch


class RealParts:
    """`bench.Parts` for a plan."""

    def __init__(self, plan: EvolvePlan, job: Job) -> None:
        """Take the plan, and the job in whose folder the calls to models are kept."""
        self._plan, self._job = plan, job
        self._journal = job.folder / JOURNAL

    @property
    def profiles(self) -> ProfileSet:
        """The profiles of the run."""
        return self._profiles

    @cached_property
    def _profiles(self) -> ProfileSet:
        return profiles_of(self._plan)

    @property
    def strategy(self) -> Strategy:
        """How a candidate is judged."""
        return strategy_named(self._plan.strategy)

    @property
    def joint(self) -> Strategy:
        """How all accepted ones together are judged: once, so that the whole error rate is for it."""
        return Paired(shares=(1.0,))

    def guards(self, split: Split) -> Guards:
        """Make what forbids a candidate whatever it gains."""
        return Guards(split, shared_folder(), self._plan.region)

    @contextmanager
    def arena(self, folder: Path, watch: Watch) -> Iterator[Arena]:
        """Open the place where talks are held, with its processes."""
        with LocalEngine(self._plan.workers) as engine:
            yield Arena(folder, self._recipe(), self.profiles, engine, watch.talk)

    @asynccontextmanager
    async def analyzer(self, bank: Bank) -> AsyncIterator[Analyzer]:
        """Make who reads the talks."""
        if self._plan.analyzer == "local":
            from .local_analyzer import LocalAnalyzer

            yield LocalAnalyzer(bank)
            return
        from .llm_analyzer import LLMAnalyzer

        async with self._client() as client:
            analyzer = LLMAnalyzer(client, self._plan.models[Role.ANALYZER], bank)
            yield analyzer
        if analyzer.failed:
            self._job.note(
                f"{len(analyzer.failed)} talks could not be analyzed, the first: {analyzer.failed[0].reason}"
            )

    @asynccontextmanager
    async def generator(self) -> AsyncIterator[Generator]:
        """Make who writes a text."""
        if self._plan.generator == "local":
            from .local_editor import LocalEditor

            yield LocalEditor()
            return
        from .llm_generator import LLMGenerator

        async with self._client() as client:
            yield LLMGenerator(client, self._plan.models[Role.GENERATOR])

    def screen(self, candidate: Candidate, bank: Bank) -> list[str]:
        """Return the reasons why a text must not stand in a bank."""
        from .screen import screen

        return screen(candidate, bank)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[LLMClient]:
        """Open the door to the models; all doors of a run share its journal, and so its caps."""
        from ..pipeline.llm.door import open_door
        from ..simulator.meter import Metered

        async with open_door(self._settings, self._journal, run=self._job.id) as door:
            yield Metered(door)

    @cached_property
    def _settings(self) -> LLMSettings:
        return llm_settings(self._plan, LLMSettings())

    def _recipe(self) -> CastRecipe:
        plan = self._plan
        return recipe_of(plan, self._settings if plan.simulates_by_models else None, self._journal, self._job.id)


def recipe_of(plan: EvolvePlan, settings: LLMSettings | None, journal: Path | None = None, run: str = "") -> CastRecipe:
    """Return how the cast of a plan is made."""
    from ..simulator.readings import readings_file

    return CastRecipe(
        "bank",
        plan.bank.ref(),
        plan.supporter,
        plan.seeker,
        plan.rules,
        plan.region,
        models=plan.models,
        llm=settings,
        journal=journal,
        run=run,
        readings=readings_file(),
    )
