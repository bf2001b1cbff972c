"""From raw dialogues to a new version of a bank, phase after phase; a build that was killed goes on where it was.

    <job>/annotations.jsonl   one line per dialogue, as it was labelled (ids and codes, no text)
    <job>/vectors-<hash>/     vectors of the seeker lines, a chunk per file; the hash is that of the labels
    <job>/skills/<cluster>.json   each skill as it was written, with the hash of the facts it was written from
    <job>/bank/               the skills that passed, as they were handed to the bank
    <job>/report.md           what was found

Every phase reads what it did before and does the rest. Nothing that is hashed holds a time or a path, so a build that
was killed and resumed gives the same bank as one that ran through.
"""

import asyncio
import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..skills_bank.bank import Bank
from ..skills_bank.errors import BudgetError, CorpusError, EscError, LLMAnswerError, SkillParseError, SkillWriteError
from ..skills_bank.files import read_bank_files, replace_durably
from ..skills_bank.index import FacetIndex, TextEncoder
from ..skills_bank.models import InterventionUnit, Skill
from ..skills_bank.place import BankPlace, find_bank
from ..skills_bank.store import VersionInfo
from ..skills_bank.validate import SKILL_FILE, problems_in_bank
from .annotations import AnnotationFile
from .annotator import NotAnnotated, stream
from .build_plan import BuildPlan
from .build_report import BuildFacts, Left, Written, render
from .clusters import Clustering
from .corpus import CorpusReader, Dialogue
from .dossiers import moments
from .engine import AnnotatorRecipe, Engine
from .jobs import Job
from .labels import DialogueLabels
from .overlap import RUN, corpus_runs, runs
from .prototypes import prototypes
from .situations import embed_lines, group, labels_hash, lines_of
from .units import units_of
from .writers import DossierFacts, SkillWriter, gather, skill_files

logger = logging.getLogger(__name__)

MOST_FAILED = 0.5
"""Share of dialogues that may fail. Beyond it something is wrong with more than a dialogue, say a server that is gone,
and a bank of the rest would not be what was asked for."""
AT_ONCE = 6
"""Skills that are written at the same time; the pace of the calls is the door's business."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BuildResult(_Frozen):
    """What a build gives back."""

    bank_version: str = Field(description="The version that holds the skills; a running server serves it by itself.")
    bank: str = Field(description="The bank's folder.")
    skills: int
    left_out: int = Field(description="Situations without a valid skill; the report says why.")
    dialogues: int = Field(description="Dialogues that were annotated.")
    failed_dialogues: int = Field(description="Dialogues that could not be annotated; the report says why.")
    prototypes: int
    report: str = Field(description="Path of report.md.")


class Parts(Protocol):
    """What does the work of a build; `build_parts.py` has the real ones."""

    @property
    def engine(self) -> Engine:
        """Where annotation runs."""
        ...

    @property
    def recipe(self) -> AnnotatorRecipe:
        """How the annotator is made."""
        ...

    @property
    def encoder(self) -> TextEncoder:
        """What embeds the seeker lines and the new skills."""
        ...

    @property
    def writer_reads(self) -> bool:
        """Whether the writer reads dossiers with snippets, so that what it writes may repeat them."""
        ...

    async def prefetch(self, dialogues: Iterable[Dialogue]) -> None:
        """Have the answers about `dialogues` ready before they are asked for, where the plan wants that."""
        ...

    def writer(self, corpus: frozenset[int]) -> AbstractAsyncContextManager[SkillWriter]:
        """Make the writer; none of the corpus's runs of words may stand in what it writes."""
        ...

    def spending(self) -> list[str]:
        """Say, a line each, what the model calls took; empty where there were none."""
        ...


class _SavedSkill(_Frozen):
    facts: str
    skill: Skill


@dataclass(frozen=True)
class _Read:
    """What one pass over the corpus showed."""

    ids: tuple[str, ...]
    skipped: Counter[str]
    masked: dict[str, int]


@dataclass(frozen=True)
class _Situations:
    """What the labels gave."""

    units: list[InterventionUnit]
    clustering: Clustering


async def run(job: Job) -> dict:
    """Do a build job with its real parts; named in `jobs.RUNNERS`."""
    from .build_parts import RealParts

    plan = BuildPlan.model_validate(job.read().plan)
    return (await build_all(plan, job, RealParts(plan, job.folder))).model_dump(mode="json")


async def build_all(plan: BuildPlan, job: Job, parts: Parts) -> BuildResult:
    """Build a bank from raw dialogues and make it a new version.

    Args:
        plan: What to do.
        job: Where to keep what is done, and to say how far it is.
        parts: What does the work.

    Raises:
        CorpusError: The corpus gives no bank.
        EscError: A phase cannot go on; what was done is kept.
    """
    try:
        return await _Build(plan, job, parts).work()
    except BudgetError as error:
        hint = "A limit that was given with the build is raised by its own: resume with a higher one."
        raise BudgetError(f"{error} {hint}") from None


class _Build:
    def __init__(self, plan: BuildPlan, job: Job, parts: Parts) -> None:
        self.plan, self.job, self.parts = plan, job, parts
        self.folder = job.folder

    async def work(self) -> BuildResult:
        self.job.advance("reading")
        self.plan.check_corpus()
        self._prepare_bank()
        read = await asyncio.to_thread(self._look_through)
        labels, failed = await self._annotate(read)
        found = await asyncio.to_thread(self._situations, labels)
        facts = self._facts(labels, found)
        skills, unwritten = await self._write(facts)
        written, unfit = await asyncio.to_thread(self._check, facts, skills)
        name, about = await self._annotator()
        told = BuildFacts(
            job=self.job.id,
            plan=self.plan,
            annotator=name,
            about=about,
            dialogues=len(labels),
            failed=tuple(failed),
            skipped=dict(read.skipped),
            masked=read.masked,
            units=tuple(found.units),
            clustering=found.clustering,
            written=tuple(written),
            left=(*unwritten, *unfit),
            spending=tuple(self.parts.spending()),
        )
        return self._finish(told)

    def _prepare_bank(self) -> None:
        """Make the user's copy of the shipped bank now, not with the commit.

        A running server then looks at that copy long before the new version comes, and does not throw away the vectors
        that `_warm_index` lays ready for it.
        """
        place = find_bank(self.plan.bank)
        if place.kind == "shipped":
            place.store().init_from(place.shipped)

    # --- reading and annotating -------------------------------------------------------------------------------------

    def _dialogues(self) -> Iterator[Dialogue]:
        return CorpusReader().read(*self.plan.paths)

    def _look_through(self) -> _Read:
        reader, ids = CorpusReader(), list[str]()
        for dialogue in reader.read(*self.plan.paths):
            ids.append(dialogue.id)
            self._on("reading", len(ids))
        return _Read(tuple(ids), Counter(skip.reason for skip in reader.skipped), {**reader.scrubbed})

    async def _annotate(self, read: _Read) -> tuple[list[DialogueLabels], list[NotAnnotated]]:
        """Label what is not labelled yet; return all labels in the order of the corpus, and what has none."""
        with AnnotationFile(self.folder / "annotations.jsonl") as kept:
            self.job.advance("annotating", len(kept.labels), len(read.ids))
            if len(kept.labels) < len(read.ids):
                await self.parts.prefetch(self._without(kept))
                todo = stream(self._without(kept))
                async with aclosing(self.parts.engine.annotate(self.parts.recipe, todo)) as annotations:
                    async for annotation in annotations:
                        kept.add(annotation)
                        self.job.advance("annotating", len(kept.labels) + len(kept.failed), len(read.ids))
        labels = [kept.labels[name] for name in read.ids if name in kept.labels]
        failed = [kept.failed[name] for name in read.ids if name in kept.failed]
        if len(failed) > MOST_FAILED * len(read.ids):
            reasons = Counter(one.reason for one in failed).most_common(3)
            told = "; ".join(f"{why} ({n}x)" for why, n in reasons)
            raise CorpusError(
                f"{len(failed)} of {len(read.ids)} dialogues could not be annotated: {told}. Mend that and resume job "
                f"{self.job.id}; they are tried again."
            )
        return labels, failed

    def _without(self, kept: AnnotationFile) -> Iterator[Dialogue]:
        """Yield the dialogues that are not labelled yet; those that failed before are tried again."""
        done = set(kept.labels)
        return (dialogue for dialogue in self._dialogues() if dialogue.id not in done)

    async def _annotator(self) -> tuple[str, str]:
        async with self.parts.recipe.open() as annotator:
            return annotator.name, annotator.about()

    # --- situations -------------------------------------------------------------------------------------------------

    def _situations(self, labels: Sequence[DialogueLabels]) -> _Situations:
        units = [unit for labelled in labels for unit in units_of(labelled)]
        digest = labels_hash(labels)
        lines = lines_of({labelled.id: labelled for labelled in labels}, self._dialogues())
        total = sum(turn.change is not None for labelled in labels for turn in labelled.turns)
        done = 0

        def progress(n: int) -> None:
            nonlocal done
            done += n
            self._on("embedding", done, total)

        self._on("embedding", 0, total)
        folder = self.folder / f"vectors-{digest[:12]}"
        vectors = dict(embed_lines(lines, self.parts.encoder, folder, progress))
        self._on("grouping")
        clustering, note = group(units, labels, vectors, self.parts.encoder, self.plan.skills, digest)
        if note:
            self.job.note(note)
        return _Situations(units, clustering)

    def _facts(self, labels: Sequence[DialogueLabels], found: _Situations) -> list[DossierFacts]:
        kept = prototypes(found.units)
        names = " + ".join(file.path.name for file in self.plan.corpus)
        source = f"{names}, labelled by the {self.plan.annotator} annotator"
        if not self.parts.writer_reads:
            return gather(found.clustering, kept, source=source)
        dialogues = {dialogue.id: dialogue for dialogue in self._dialogues()}
        quotable = moments(labels, dialogues, {labelled.split for labelled in labels})
        return gather(found.clustering, kept, units=found.units, found=quotable, source=source)

    # --- skills -----------------------------------------------------------------------------------------------------

    async def _write(self, facts: Sequence[DossierFacts]) -> tuple[dict[str, Skill], list[Left]]:
        """Write the skill of each cluster by itself, then those anew whose name another one has."""
        self.job.advance("writing", 0, len(facts))
        (self.folder / "skills").mkdir(exist_ok=True)
        skills: dict[str, Skill] = {}
        left: list[Left] = []
        corpus = await asyncio.to_thread(self._runs) if self.parts.writer_reads else frozenset[int]()
        async with self.parts.writer(corpus) as writer:
            turns = asyncio.Semaphore(AT_ONCE)

            async def one(its: DossierFacts) -> None:
                async with turns:
                    try:
                        skills[its.cluster.id] = self._saved(its) or await self._new(writer, its)
                    except (SkillWriteError, LLMAnswerError, SkillParseError) as error:
                        left.append(Left(cluster=its.cluster.id, label=its.cluster.label, reason=str(error)))
                self.job.advance("writing", len(skills) + len(left), len(facts))

            try:
                async with asyncio.TaskGroup() as tasks:
                    for its in facts:
                        tasks.create_task(one(its))
            except ExceptionGroup as group_:  # all of one kind, mostly: a server that is gone, a cap that is reached
                raise group_.exceptions[0] from None
            await self._tell_apart(writer, facts, skills, left)
        order = [its.cluster.id for its in facts]
        if not skills:
            raise EscError("No skill could be written: " + "; ".join(one.reason for one in left[:3]))
        return {name: skills[name] for name in order if name in skills}, sorted(left, key=lambda one: one.cluster)

    async def _tell_apart(
        self, writer: SkillWriter, facts: Sequence[DossierFacts], skills: dict[str, Skill], left: list[Left]
    ) -> None:
        """Write the later of two skills of one name again, all names being taken."""
        used: set[str] = set()
        for its in facts:
            skill = skills.get(its.cluster.id)
            if skill is not None and skill.name in used:
                taken = {other.name for other in skills.values()}
                try:
                    skills[its.cluster.id] = skill = await self._new(writer, its, taken)
                except (SkillWriteError, LLMAnswerError, SkillParseError) as error:
                    del skills[its.cluster.id]
                    left.append(Left(cluster=its.cluster.id, label=its.cluster.label, reason=str(error)))
            if skill is not None:
                used.add(skill.name)

    async def _new(self, writer: SkillWriter, its: DossierFacts, taken: set[str] | None = None) -> Skill:
        skill = await writer.write(its, taken or ())
        saved = _SavedSkill(facts=_hash(its), skill=skill)
        replace_durably(self._skill_path(its), (saved.model_dump_json() + "\n").encode())
        return skill

    def _saved(self, its: DossierFacts) -> Skill | None:
        """Return the skill that was written from the same facts before."""
        try:
            saved = _SavedSkill.model_validate_json(self._skill_path(its).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return saved.skill if saved.facts == _hash(its) else None

    def _skill_path(self, its: DossierFacts) -> Path:
        return self.folder / "skills" / f"{its.cluster.id}.json"

    def _runs(self) -> frozenset[int]:
        return corpus_runs(turn.content for dialogue in self._dialogues() for turn in dialogue.turns())

    # --- checking ---------------------------------------------------------------------------------------------------

    def _check(self, facts: Sequence[DossierFacts], skills: Mapping[str, Skill]) -> tuple[list[Written], list[Left]]:
        """Put the bank together skill by skill; one with which the bank has problems is left out."""
        self._on("checking", 0, len(skills))
        bank = self.folder / "bank"
        shutil.rmtree(bank, ignore_errors=True)
        bank.mkdir()
        written: list[Written] = []
        left: list[Left] = []
        for its in facts:
            skill = skills.get(its.cluster.id)
            if skill is None:
                continue
            _put(bank / skill.name, skill_files(skill, its))
            if problems := problems_in_bank(bank, strict=True):
                shutil.rmtree(bank / skill.name)
                reason = "; ".join(str(problem) for problem in problems)
                left.append(Left(cluster=its.cluster.id, label=its.cluster.label, reason=reason))
            else:
                written.append(Written(cluster=its.cluster.id, skill=skill))
            self._on("checking", len(written) + len(left), len(skills))
        if not written:
            raise EscError("No skill passed the strict check: " + "; ".join(one.reason for one in left[:3]))
        if not self.parts.writer_reads:
            self._tell_of_chance_runs(bank)
        return written, left

    def _tell_of_chance_runs(self, bank: Path) -> None:
        """Note where the corpus happens to hold a run of words of our own library, which never saw it."""
        pages = {path.parent.name: path.read_text(encoding="utf-8") for path in bank.glob(f"*/{SKILL_FILE}")}
        ours = {hash(one): name for name, text in pages.items() for one in runs(text)}
        met = {
            ours[number]
            for dialogue in self._dialogues()
            for turn in dialogue.turns()
            for number in map(hash, runs(turn.content))
            if number in ours
        }
        if met:
            names = ", ".join(sorted(met))
            self.job.note(f"Lines of our own library happen to share {RUN} words in a row with the corpus: {names}.")

    # --- the end ----------------------------------------------------------------------------------------------------

    def _finish(self, told: BuildFacts) -> BuildResult:
        """Commit and report. Nothing is awaited here: a build is cancelled before its commit, or not at all."""
        self.job.advance("committing")
        place = find_bank(self.plan.bank)
        self._warm_index(place)
        version = self._commit(place, told)
        path = self.folder / "report.md"
        notes = self.job.read().notes
        replace_durably(path, render(told, version, notes).encode())
        return BuildResult(
            bank_version=version.version,
            bank=str(place.root),
            skills=len(told.written),
            left_out=len(told.left),
            dialogues=told.dialogues,
            failed_dialogues=len(told.failed),
            prototypes=sum(len(cluster.prototypes) for cluster in told.clustering.clusters),
            report=str(path),
        )

    def _commit(self, place: BankPlace, told: BuildFacts) -> VersionInfo:
        """Make the skills the active version, unless an attempt before this one has done so."""
        store, mark = place.store(), f"{self.job.id}: "
        if store.initialised:
            for info in store.history():
                if info.note.startswith(mark):
                    return info
        info = store.commit(read_bank_files(self.folder / "bank"), reason=mark + told.provenance())
        if not info.note.startswith(mark):
            self.job.note(f"Version {info.version} held exactly these skills already; no new version was made.")
        return info

    def _warm_index(self, place: BankPlace) -> None:
        """Put the vectors of the new skills beside those that are served, so that a running server embeds nothing."""
        new = Bank.load(self.folder / "bank")
        served, _ = Bank.load_lenient(place.store().active_folder())
        both = {f"served/{name}": skill for name, skill in served.skills.items()} | dict(new.skills)
        prebuilt = place.shipped.parent / "model" / "vectors.npz"
        index = FacetIndex.open(place.root / "index", self.parts.encoder, prebuilt=prebuilt)
        index.matrix(replace(new, skills=both))

    def _on(self, phase: str, done: int = 0, total: int | None = None) -> None:
        """Say how far it is, from a thread; end the thread where the job is to stop."""
        if self.job.to_stop:
            raise asyncio.CancelledError
        self.job.advance(phase, done, total)


def _hash(facts: DossierFacts) -> str:
    return hashlib.sha256(facts.model_dump_json().encode()).hexdigest()


def _put(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
