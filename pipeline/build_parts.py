"""The real parts of a build, made from its plan: annotator, writer, encoder, engine."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from .annotator import Annotator
from .build_plan import BuildPlan, llm_settings
from .corpus import Dialogue
from .engine import Engine, LocalEngine
from .llm.client import LLMRequest, Role
from .llm.settings import LLMSettings
from .writers import SkillWriter

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder

WORKERS = 1
"""Dialogues read at the same time: a build takes one core and leaves the others to serving."""
JOURNAL = "journal.db"


@lru_cache(maxsize=1)
def _encoder() -> "Encoder":
    from ..skills_bank.encoder import Encoder

    return Encoder.load(threads=1)


def annotation_requests(
    model: str, dialogues: Iterable[Dialogue]
) -> Iterator[tuple[LLMRequest, type[BaseModel] | None]]:
    """Yield the call that the annotation of each dialogue would send first, with the schema of its answer."""
    from .llm.scripted import ScriptedClient
    from .llm_annotator import LLMAnnotator, answer_schema

    def nothing_is_sent(request: LLMRequest) -> str:
        raise AssertionError(f"{request.prompt} was to be planned, not sent")

    annotator = LLMAnnotator(ScriptedClient(nothing_is_sent), model)
    for dialogue in dialogues:
        turns = dialogue.turns()
        yield annotator.request(dialogue), answer_schema(turns[0].speaker, len(turns))


class Recipe(BaseModel):
    """An `AnnotatorRecipe` of the plan. The key of a server is read from the environment of whoever opens it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: BuildPlan
    job: str
    journal: Path

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Annotator]:
        """Make the annotator."""
        if self.plan.annotator == "local":
            from .local_annotator import LocalAnnotator

            yield LocalAnnotator.load(_encoder(), workers=WORKERS)
            return
        from .llm.door import open_door
        from .llm_annotator import LLMAnnotator

        settings = llm_settings(self.plan, LLMSettings())
        async with open_door(settings, self.journal, run=self.job) as door:
            yield LLMAnnotator(door, settings.model_for(Role.ANNOTATOR))


class RealParts:
    """`build.Parts` of a plan."""

    def __init__(self, plan: BuildPlan, folder: Path) -> None:
        """Take the plan and the job's folder; the journal of calls lies beside all jobs, so that they share answers."""
        self._plan, self._job = plan, folder.name
        self._journal = folder.parent / JOURNAL

    @property
    def engine(self) -> Engine:
        """Where annotation runs."""
        if self._plan.engine == "local":
            return LocalEngine()
        from .ray_engine import RayEngine, RaySettings

        settings = RaySettings()
        return RayEngine(settings.ray_address, settings.ray_in_flight)

    @property
    def recipe(self) -> Recipe:
        """How the annotator is made."""
        return Recipe(plan=self._plan, job=self._job, journal=self._journal)

    @property
    def encoder(self) -> "Encoder":
        """The shipped encoder, with one thread."""
        return _encoder()

    @property
    def writer_reads(self) -> bool:
        """Whether the writer reads dossiers with snippets."""
        return self._plan.writer == "llm"

    async def prefetch(self, dialogues: Iterable[Dialogue]) -> None:
        """Annotate through the Message Batches API into the journal, where the plan wants that."""
        settings = llm_settings(self._plan, LLMSettings()) if self._plan.annotator == "llm" else None
        if settings is None or not settings.llm_batch:
            return
        from .llm.batches import prefetch
        from .llm.door import open_door

        wanted = annotation_requests(settings.model_for(Role.ANNOTATOR), dialogues)
        async with open_door(settings, self._journal, run=self._job) as door:
            await prefetch(door, wanted, poll=settings.llm_batch_poll)

    def writer(self, corpus: frozenset[int]) -> AbstractAsyncContextManager[SkillWriter]:
        """Make the writer."""
        return self._llm_writer(corpus) if self._plan.writer == "llm" else self._local_writer()

    @asynccontextmanager
    async def _local_writer(self) -> AsyncIterator[SkillWriter]:
        from .local_writer import LocalWriter

        yield LocalWriter()

    @asynccontextmanager
    async def _llm_writer(self, corpus: frozenset[int]) -> AsyncIterator[SkillWriter]:
        from .llm.door import open_door
        from .llm_writer import LLMWriter

        settings = llm_settings(self._plan, LLMSettings())
        async with open_door(settings, self._journal, run=self._job) as door:
            yield LLMWriter(door, settings.model_for(Role.WRITER), corpus=corpus)

    def spending(self) -> list[str]:
        """Say what each model took in this job, over all its attempts."""
        if not self._plan.asks_models or not self._journal.is_file():
            return []
        from .llm.journal import Journal

        journal = Journal(self._journal, self._job)
        try:
            totals = journal.totals()
        finally:
            journal.close()
        return [
            f"{total.role} ({total.model}): {total.calls:,} paid calls, {total.failed:,} failed, "
            f"{total.tokens.total:,} tokens, " + ("cost unknown" if total.usd is None else f"${total.usd:,.2f}")
            for total in totals
        ]
