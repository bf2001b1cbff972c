"""What a build is to do, settled before it starts, and the starting of it: one build at a time per bank folder.

Everything that the result depends on stands in the plan (the corpus by its hash, the models by their names), so that a
resumed job does what the first attempt would have done. Light to import: a server makes plans.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..skills_bank.errors import InputError, JobError
from .jobs import Held, Job, JobState, create_job, take

if TYPE_CHECKING:
    from .llm.settings import LLMSettings

Maker = Literal["local", "llm"]
EngineName = Literal["local", "ray"]
Skills = int | Literal["auto"]
DEFAULT_SKILLS = 27
"""As many as Zhu et al. 2026 report."""
LOCK = ".build.lock"
KIND = "build"
_SUFFIXES = (".jsonl", ".json", ".txt")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CorpusFile(_Frozen):
    """A file of dialogues, as it was when the build was planned."""

    path: Path
    sha256: str
    bytes: int

    @property
    def short(self) -> str:
        """Name and beginning of the hash, for provenance."""
        return f"{self.path.name} (sha256 {self.sha256[:12]})"


class Limits(_Frozen):
    """The most that the model calls of a build may take; null is no limit but the environment's."""

    calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)


class BuildPlan(_Frozen):
    """Everything a build depends on."""

    corpus: tuple[CorpusFile, ...] = Field(min_length=1)
    annotator: Maker = "local"
    writer: Maker = "local"
    skills: Skills = DEFAULT_SKILLS
    engine: EngineName = "local"
    bank: Path = Field(description="Folder of the bank that gets the new version.")
    limits: Limits = Limits()
    batches: bool = Field(default=False, description="Annotate through the Message Batches API, at half price.")
    models: dict[str, str] = Field(default_factory=dict, description="Model of each role that asks one.")

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if self.skills != "auto" and self.skills < 1:
            raise ValueError("skills has to be 'auto' or 1 or more")
        return self

    @property
    def paths(self) -> tuple[Path, ...]:
        """The corpus's files."""
        return tuple(file.path for file in self.corpus)

    @property
    def asks_models(self) -> bool:
        """Whether a language model is called."""
        return "llm" in (self.annotator, self.writer)

    def check_corpus(self) -> None:
        """Refuse to go on with other files than those the build began with.

        Raises:
            InputError: A file is gone or has changed.
        """
        for file in self.corpus:
            if not file.path.is_file() or _read(file.path) != file:
                raise InputError(f"{file.path} is gone or has changed since the build began. Start a new build.")


def plan_build(
    corpus: Sequence[Path],
    *,
    bank_dir: Path | None = None,
    annotator: Maker = "local",
    writer: Maker = "local",
    skills: Skills = DEFAULT_SKILLS,
    engine: EngineName = "local",
    limits: Limits | None = None,
    batches: bool = False,
) -> BuildPlan:
    """Settle what a build is to do; everything that can be refused at once is.

    Args:
        corpus: Files, or folders of files, in any form that `pipeline/corpus.py` reads.
        bank_dir: The bank's folder; default the user's.
        annotator: Who labels the dialogues.
        writer: Who writes the skills.
        skills: How many; `auto` chooses.
        engine: Where annotation runs.
        limits: The most that model calls may take.
        batches: Whether to annotate through the Message Batches API.

    Raises:
        InputError: A file is missing, a model is not set, or the options do not go together.
        BankError: The bank folder cannot take a new version.
    """
    from ..skills_bank.place import find_bank

    place = find_bank(bank_dir)
    if place.kind == "plain":
        raise InputError(
            f"{place.root} is a plain folder of skills without versions; a build would overwrite it. Set ESC_BANK_DIR "
            "to a new folder, or pass --bank."
        )
    models = _models(annotator, writer)
    if batches and annotator != "llm":
        raise InputError("Batches are for the annotator 'llm'; leave them out.")
    if engine == "ray":
        from .ray_engine import check_ray

        check_ray(annotator)
    return BuildPlan(
        corpus=tuple(_read(path) for path in corpus_files(corpus)),
        annotator=annotator,
        writer=writer,
        skills=skills,
        engine=engine,
        bank=place.root,
        limits=limits or Limits(),
        batches=batches,
        models=models,
    )


def corpus_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files that `paths` name, those of a folder in order of name.

    Raises:
        InputError: A path holds none, or two files have one name (ids of dialogues are made of it).
    """
    found: list[Path] = []
    for path in (path.expanduser().absolute() for path in paths):
        inside = sorted(p for p in path.glob("*") if p.suffix in _SUFFIXES) if path.is_dir() else [path]
        if not inside or not all(file.is_file() for file in inside):
            raise InputError(f"No corpus at {path}. Name a .jsonl, .json or .txt file, or a folder that holds some.")
        found += inside
    if not found:
        raise InputError("No corpus given. Name at least one file.")
    if len({file.name for file in found}) < len(found):
        raise InputError("Two files of the corpus have the same name. Rename one, as names stand in ids and evidence.")
    return found


def _read(path: Path) -> CorpusFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return CorpusFile(path=path, sha256=digest, bytes=path.stat().st_size)


def _models(annotator: Maker, writer: Maker) -> dict[str, str]:
    if "llm" not in (annotator, writer):
        return {}
    from .llm.client import Role
    from .llm.settings import LLMSettings

    settings = LLMSettings()
    settings.key()
    wanted = [role for role, maker in ((Role.ANNOTATOR, annotator), (Role.WRITER, writer)) if maker == "llm"]
    return {role.value: settings.model_for(role) for role in wanted}


def llm_settings(plan: BuildPlan, base: "LLMSettings") -> "LLMSettings":
    """Return the settings with the plan's models, and for each cap the lower of the plan's and the environment's."""
    given = {f"llm_cap_{name}": value for name, value in plan.limits.model_dump().items() if value is not None}
    caps = {name: value if (own := getattr(base, name)) is None else min(value, own) for name, value in given.items()}
    models = {f"model_{role}": model for role, model in plan.models.items()}
    return base.model_copy(update={**models, **caps, "llm_batch": plan.batches or base.llm_batch})


# --- starting -------------------------------------------------------------------------------------------------------


def start_build(root: Path, plan: BuildPlan) -> tuple[Job, list[Held]]:
    """Make the job of a build, with its locks taken; hand both to `spawn` or `run_here`.

    Args:
        root: Folder of the jobs.
        plan: What to do.

    Raises:
        JobError: Another build is at work on the same bank.
    """
    building = _take_bank(plan.bank)
    try:
        job, held = create_job(root, KIND, plan.model_dump(mode="json"))
        building.write(job.id)
    except BaseException:
        building.close()
        raise
    return job, [held, building]


def resume_build(job: Job, limits: Limits | None = None) -> tuple[Job, list[Held]]:
    """Take a job up again that was killed, has failed or was cancelled; as `start_build`.

    Args:
        job: The job.
        limits: New limits, where given; for a job that ended at one.

    Raises:
        JobError: It is running, has completed, or another build is at work on the same bank.
        InputError: The corpus has changed since.
    """
    held = job.take()
    try:
        record = job.read()
        if record.state is JobState.COMPLETED:
            raise JobError(f"Job {job.id} has completed; start a new build.")
        plan = BuildPlan.model_validate(record.plan)
        plan.check_corpus()
        changed: dict[str, Any] = limits.model_dump(exclude_none=True) if limits else {}
        plan = plan.model_copy(update={"limits": plan.limits.model_copy(update=changed)})
        building = _take_bank(plan.bank)
    except BaseException:
        held.close()
        raise
    building.write(job.id)
    job.reopen(plan)
    return job, [held, building]


def _take_bank(bank: Path) -> Held:
    bank.mkdir(parents=True, exist_ok=True)
    held = take(bank / LOCK)
    if held is None:
        owner = (bank / LOCK).read_text(encoding="utf-8").strip() or "another one"
        raise JobError(f"Job {owner} is building the bank {bank} already. Wait for it, or cancel it.")
    return held
