"""What an evolution is to do, settled before it starts, and the starting of it: one at a time per bank folder.

Everything the result depends on stands in the plan, the bank and the profiles by their hashes, so that a resumed job
does what the first attempt would have done. Light to import: a server makes plans.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..pipeline.jobs import Held, Job, JobState, create_job, take
from ..skills_bank.errors import BankError, InputError, JobError
from ..skills_bank.place import Kind
from .split import LEAST

if TYPE_CHECKING:
    from ..pipeline.llm.client import Role
    from ..pipeline.llm.settings import LLMSettings
    from ..simulator.profiles import ProfileSet
    from ..simulator.sources import BankRef

Maker = Literal["local", "llm"]
StrategyName = Literal["paired", "paper"]
KIND = "evolve"
LOCK = ".evolve.lock"
ATTEMPTS = 3
"""Attempts at a proposal (Zhu et al. 2026)."""
WIDE = 60
"""Profiles a trial goes on to where the hardest leave it open; docs/evolution.md tells what they buy."""
HARD = 15
"""Profiles a candidate is verified on (Zhu et al. 2026)."""
REPEATS = 4
"""Talks with each of them in a trial; docs/evolution.md tells what they buy."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EvolveCaps(_Frozen):
    """The most an evolution may take; None is no cap but the environment's."""

    calls: int | None = Field(default=None, ge=0, description="Calls to models.")
    tokens: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, gt=0, description="Wall time; then what is accepted is settled.")
    candidates: int | None = Field(default=None, ge=0, description="Texts that are made.")
    stall: int | None = Field(default=None, ge=1, description="Proposals in a row of which nothing was accepted.")


class PlannedBank(_Frozen):
    """A bank, pinned to a version."""

    root: Path = Field(description="Folder of the bank that may get a new version.")
    kind: Kind
    folder: Path
    index: Path
    version: str
    hash: str

    def ref(self) -> "BankRef":
        """Return it as simulations know it."""
        from ..simulator.sources import BankRef

        return BankRef(self.folder, self.index, self.version, self.hash)


class EvolvePlan(_Frozen):
    """Everything an evolution depends on."""

    format: Literal[1] = 1
    esc_skills: str = Field(description="Version of the package.")
    bank: PlannedBank
    profiles: str = Field(description="'evolution', 'evaluation' or the path of a file.")
    profiles_hash: str
    n: int = Field(ge=LEAST, description="Profiles, over all three parts of the split.")
    repeats: int = Field(default=REPEATS, ge=1, description="Talks with each profile in a trial.")
    seed: int = 7
    seeker: Maker = "local"
    supporter: Maker = "local"
    analyzer: Maker = "local"
    generator: Maker = "local"
    strategy: StrategyName = "paired"
    rules: str = "sage"
    region: str | None = None
    materials: str = Field(description="Digest of what the simulator is made of.")
    models: dict[str, str] = Field(default_factory=dict, description="Model of each role that asks one.")
    caps: EvolveCaps = EvolveCaps()
    apply: bool = Field(default=False, description="Commit the result; otherwise it lies in the job's folder.")
    workers: int = Field(default=1, ge=1, description="Processes for local talks; changes no result.")

    @property
    def simulates_by_models(self) -> bool:
        """Whether language models are asked in the talks."""
        return "llm" in (self.seeker, self.supporter)

    @property
    def asks_models(self) -> bool:
        """Whether a language model is asked anywhere."""
        return self.simulates_by_models or "llm" in (self.analyzer, self.generator)

    def seed_of(self, step: str) -> int:
        """Return the seed of a step: none shares its draws with another, nor do they depend on an order."""
        from ..simulator.session import conversation_seed

        return conversation_seed(self.seed, f"evolve/{step}", 0)

    def check(self) -> None:
        """Refuse to go on with another bank, other profiles or another simulator than those the run began with.

        Raises:
            InputError: Something has changed.
        """
        from ..simulator.profiles import load_profiles
        from ..simulator.run import materials_digest
        from ..skills_bank.bank import Bank

        seen = (
            (f"The bank {self.bank.folder}", Bank.load(self.bank.folder).hash, self.bank.hash),
            (f"The profiles {self.profiles}", load_profiles(self.profiles).digest, self.profiles_hash),
            ("The simulator", materials_digest(), self.materials),
        )
        for what, now, then in seen:
            if now != then:
                raise InputError(f"{what} changed since the evolution began ({then[:8]}, now {now[:8]}). Start anew.")


def plan_evolution(
    profiles: str = "evolution",
    *,
    bank_dir: Path | None = None,
    n: int | None = None,
    repeats: int = REPEATS,
    seed: int = 7,
    seeker: Maker = "local",
    supporter: Maker = "local",
    analyzer: Maker = "local",
    generator: Maker = "local",
    strategy: StrategyName = "paired",
    rules: str = "sage",
    caps: EvolveCaps | None = None,
    apply: bool = False,
    workers: int = 1,
) -> EvolvePlan:
    """Settle what an evolution is to do; everything that can be refused at once is.

    Args:
        profiles: 'evolution', 'evaluation' or the path of a file of profiles.
        bank_dir: The bank's folder; default the user's.
        n: Profiles to take of them; default all.
        repeats: Talks with each profile in a trial.
        seed: Of the split and of every talk.
        seeker: Who plays the seekers.
        supporter: Who words the replies.
        analyzer: Who reads the talks.
        generator: Who writes the texts.
        strategy: How a text is judged.
        rules: The emotion's rules.
        caps: The most it may take.
        apply: Whether the result becomes a version of the bank.
        workers: Processes for local talks.

    Raises:
        InputError: There are too few profiles, a model is not set, or the bank cannot take a version.
        BankError: The bank cannot be read.
    """
    from importlib.metadata import version

    from ..simulator.profiles import load_profiles
    from ..simulator.run import APP, materials_digest
    from ..skills_bank.settings import Settings

    found = load_profiles(profiles)
    path = profiles if found.name == profiles else str(Path(profiles).absolute())
    _check_number(n, len(found.profiles))
    bank = pin_bank(bank_dir)
    if apply and bank.kind == "plain":
        raise InputError(
            f"{bank.root} is a plain folder of skills without versions, so nothing can be applied. Leave --apply out, "
            "or set ESC_BANK_DIR to a new folder."
        )
    made = EvolvePlan(
        esc_skills=version(APP),
        bank=bank,
        profiles=path,
        profiles_hash=found.digest,
        n=n or len(found.profiles),
        repeats=repeats,
        seed=seed,
        seeker=seeker,
        supporter=supporter,
        analyzer=analyzer,
        generator=generator,
        strategy=strategy,
        rules=rules,
        region=Settings().region,
        materials=materials_digest(),
        caps=caps or EvolveCaps(),
        apply=apply,
        workers=workers,
    )
    return made.model_copy(update={"models": _models(made)})


def _check_number(n: int | None, available: int) -> None:
    if (n or available) > available:
        raise InputError(f"--n {n}: there are {available} profiles.")
    if (n or available) < LEAST:
        raise InputError(f"{n or available} profiles are too few to split in three; give at least {LEAST}.")


def pin_bank(bank_dir: Path | None = None) -> PlannedBank:
    """Return the bank that is served from `bank_dir`, as it is now.

    Raises:
        BankError: Nothing can be served from there.
    """
    from ..simulator.sources import settle_bank
    from ..skills_bank.place import find_bank

    ref = settle_bank(bank_dir)
    place = find_bank(bank_dir)
    return PlannedBank(root=place.root, kind=place.kind, **ref._asdict())


def profiles_of(plan: EvolvePlan) -> "ProfileSet":
    """Return the profiles of a run: all, or the part of them that `simulate --n` takes."""
    from ..simulator.profiles import load_profiles
    from ..simulator.run import tasks_of

    found = load_profiles(plan.profiles)
    return found.model_copy(update={"profiles": tuple(task.profile for task in tasks_of(found, plan.n, plan.seed))})


def roles_of(plan: EvolvePlan) -> "tuple[Role, ...]":
    """Return the roles that ask a model."""
    from ..pipeline.llm.client import Role

    sides = (
        (plan.supporter, (Role.SUPPORTER,)),
        (plan.seeker, (Role.SCORER, Role.SEEKER)),
        (plan.analyzer, (Role.ANALYZER,)),
        (plan.generator, (Role.GENERATOR,)),
    )
    return tuple(role for maker, roles in sides if maker == "llm" for role in roles)


def _models(plan: EvolvePlan) -> dict[str, str]:
    if not plan.asks_models:
        return {}
    from ..pipeline.llm.settings import LLMSettings

    settings = LLMSettings()
    settings.key()
    return {role.value: settings.model_for(role) for role in roles_of(plan)}


def llm_settings(plan: EvolvePlan, base: "LLMSettings") -> "LLMSettings":
    """Return the settings with the plan's models, and for each cap the lower of the plan's and the environment's."""
    given = {name: getattr(plan.caps, name) for name in ("calls", "tokens", "usd")}
    caps = {f"llm_cap_{name}": cap for name, cap in given.items() if cap is not None}
    lower = {name: cap if (own := getattr(base, name)) is None else min(cap, own) for name, cap in caps.items()}
    return base.model_copy(update={**{f"model_{role}": model for role, model in plan.models.items()}, **lower})


# --- starting -------------------------------------------------------------------------------------------------------


def start_evolution(root: Path, plan: EvolvePlan) -> tuple[Job, list[Held]]:
    """Make the job of an evolution, with its locks taken; hand both to `spawn` or `run_here`.

    Raises:
        JobError: Another evolution is at work on the same bank.
    """
    evolving = _take_bank(plan.bank.root)
    try:
        job, held = create_job(root, KIND, plan.model_dump(mode="json"))
        evolving.write(job.id)
    except BaseException:
        evolving.close()
        raise
    return job, [held, evolving]


def resume_evolution(job: Job, caps: EvolveCaps | None = None) -> tuple[Job, list[Held]]:
    """Take a job up again that was killed, has failed or was cancelled; as `start_evolution`.

    Args:
        job: The job.
        caps: New caps, where given; for a job that ended at one.

    Raises:
        JobError: It is no evolution, is running, has completed, or another is at work on the same bank.
        InputError: What it depends on has changed since.
    """
    held = job.take()
    try:
        record = job.read()
        if record.kind != KIND:
            raise JobError(f"Job {job.id} is of kind {record.kind!r}, no evolution.")
        if record.state is JobState.COMPLETED:
            raise JobError(f"Job {job.id} has completed; start a new evolution.")
        plan = EvolvePlan.model_validate(record.plan)
        plan.check()
        changed: dict[str, Any] = caps.model_dump(exclude_none=True) if caps else {}
        plan = plan.model_copy(update={"caps": plan.caps.model_copy(update=changed)})
        evolving = _take_bank(plan.bank.root)
    except BaseException:
        held.close()
        raise
    evolving.write(job.id)
    job.reopen(plan)
    return job, [held, evolving]


def _take_bank(bank: Path) -> Held:
    try:
        bank.mkdir(parents=True, exist_ok=True)
        held = take(bank / LOCK)
    except OSError as error:
        raise BankError(f"The bank folder {bank} cannot be locked: {error}. Copy it to where you may write.") from error
    if held is None:
        owner = (bank / LOCK).read_text(encoding="utf-8").strip() or "another one"
        raise JobError(f"Job {owner} is evolving the bank {bank} already. Wait for it, or cancel it.")
    return held
