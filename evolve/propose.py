"""A skill that a host's own model or a person wrote: checked, screened, tried on simulated seekers, answered.

Nothing here calls a language model: whoever proposes is the model. The proposal is a job of its own, so that a server
keeps answering; the same steps as in an evolution judge it, and a text that is not accepted is never committed.

    <job>/candidate.json   the files as they would stand in the bank
    <job>/diff.txt         against the parent bank
    <job>/staged/          the parent bank with them in place
    <job>/verdict.json     ruling, figures, every pair of talks

The parent's talks, from which the hard profiles are chosen, lie in `ESC_RUNS_DIR`/proposals: they are held once per
bank, so that a second proposal is quick. Proposals of one machine take turns there.
"""

import asyncio
import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..pipeline.jobs import Held, Job, JobRecord, JobState, all_jobs, create_job, take
from ..skills_bank.bank import Bank
from ..skills_bank.errors import BankError, InputError, JobError, SkillParseError
from ..skills_bank.files import replace_durably
from ..skills_bank.models import Skill
from ..skills_bank.problems import Problem
from ..skills_bank.skillmd import read_skill_text, render_skill
from ..skills_bank.validate import EVIDENCE_FILE, SKILL_FILE, problems_in_skill
from .models import Candidate, Check, Effect, Feedback, ProposalKind, Ruling, TalkPair, Verdict, Veto
from .plan import REPEATS, WIDE, PlannedBank, pin_bank

if TYPE_CHECKING:
    from ..simulator.session import Transcript
    from ..simulator.sources import BankRef
    from ..skills_bank.place import BankPlace
    from ..skills_bank.store import VersionInfo
    from .acceptance import Case
    from .arena import Arena
    from .guards import Guards
    from .split import Split

KIND = "propose"
AUTHOR = "proposed"
CACHE = "proposals"
SEED = 7
MOST_WAITING = 4
"""Proposals that may be under way at once: they take turns on a core, and each waiting one is a process."""
LOOK_SECONDS = 0.5
REASON_CHARS = 300
"""Of a reason, in the history of a bank."""


class ProposeSettings(BaseSettings):
    """How thoroughly proposals are tried; each field is read from `ESC_PROPOSE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="ESC_PROPOSE_", env_ignore_empty=True, extra="ignore", frozen=True)

    baseline: int | None = Field(
        default=None, ge=1, description="Profiles of the verify part that the parent bank talks to; default: all."
    )
    hard: int = Field(default=WIDE, ge=2, description="Profiles, of those that ended lowest, a text is tried on.")
    repeats: int = Field(default=REPEATS, ge=1, description="Talks with each of them.")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProposePlan(_Frozen):
    """Everything the answer to a proposal depends on."""

    format: Literal[1] = 1
    skill_md: str
    skill: str = Field(description="Its name.")
    reason: str
    bank: PlannedBank
    apply: bool = False
    seed: int = SEED
    attempt: int = Field(default=1, ge=1, description="Which text for this skill and this version of the bank it is.")
    baseline: int | None = None
    hard: int = WIDE
    repeats: int = REPEATS

    @property
    def trial(self) -> tuple[object, ...]:
        """What the talks depend on, beside the bank and the attempt."""
        return self.skill_md, self.seed, self.baseline, self.hard, self.repeats


class ProposalResult(_Frozen):
    """What became of a proposal."""

    skill: str
    kind: ProposalKind
    ruling: Ruling
    reason: str
    effect: Effect | None = Field(description="New minus old text; None where nothing was simulated.")
    floor: Effect | None = Field(description="The old text against itself on other seeds.")
    strata: dict[str, Effect]
    checks: tuple[Check, ...]
    vetoes: tuple[Veto, ...]
    feedback: Feedback | None = Field(description="What another attempt should mind.")
    diff: str = Field(description="Unified diff of SKILL.md against the parent bank.")
    parent: str = Field(description="Version it was tried against.")
    version: str | None = Field(description="The version that was committed; None: the bank is as it was.")
    told: str = Field(description="What was done with it, or what can be.")


class Trial(Protocol):
    """Who decides about a candidate; `SimulatedTrial` for real."""

    def screen(self, candidate: Candidate, bank: Bank) -> list[str]:
        """Return the reasons why the text must not stand in the bank."""
        ...

    async def judge(self, candidate: Candidate, kind: ProposalKind, parent: "BankRef", staged: "BankRef") -> Verdict:
        """Try the text in the bank `staged` against the bank `parent`."""
        ...


# --- planning ---------------------------------------------------------------------------------------------------------


def plan_proposal(
    skill_md: str, reason: str, *, bank_dir: Path | None = None, apply: bool = False, seed: int = SEED
) -> ProposePlan:
    """Settle what is proposed to which bank; everything that can be refused at once is.

    Args:
        skill_md: The text of a SKILL.md. A skill of that name is refined; otherwise it is a new one.
        reason: Why it should be taken.
        bank_dir: The bank's folder; default the user's.
        apply: Whether to commit it if it is accepted.
        seed: Of the split of the profiles and of the talks.

    Raises:
        SkillParseError: The text is no skill, or not as a bank wants it; every fault with its fix.
        InputError: There is no reason, or the bank cannot take a version.
        BankError: The bank cannot be read.
    """
    if not reason.strip():
        raise InputError("reason: it is empty. Say in a sentence why the skill should be taken.")
    bank = pin_bank(bank_dir)
    if apply and bank.kind == "plain":
        raise InputError(
            f"{bank.root} is a plain folder of skills without versions, so nothing can be applied. Leave `apply` out, "
            "or set ESC_BANK_DIR to a new folder."
        )
    candidate = candidate_of(skill_md, reason, Bank.load(bank.folder))
    chosen = ProposeSettings()
    return ProposePlan(
        skill_md=skill_md,
        skill=candidate.skill,
        reason=reason.strip(),
        bank=bank,
        apply=apply,
        seed=seed,
        baseline=chosen.baseline,
        hard=chosen.hard,
        repeats=chosen.repeats,
    )


def start_proposal(root: Path, plan: ProposePlan) -> tuple[Job, list[Held]]:
    """Make the job of a proposal, with its lock taken; hand both to `spawn` or `run_here`.

    Raises:
        JobError: Too many proposals are under way.
    """
    earlier = [job.look() for job in all_jobs(root) if job.id.startswith(f"{KIND}-")]
    running = [record.id for record in earlier if record.state is JobState.RUNNING]
    if len(running) >= MOST_WAITING:
        raise JobError(f"{len(running)} proposals are under way ({', '.join(running)}). Wait for one, or cancel it.")
    plan = plan.model_copy(update={"attempt": _attempt(plan, earlier)})
    job, held = create_job(root, KIND, plan.model_dump(mode="json"))
    return job, [held]


def proposal_under_way(root: Path, plan: ProposePlan) -> Job | None:
    """Return the running job of this very proposal, if there is one: asked again, it is waited for, not begun twice."""
    for job in all_jobs(root):
        if job.id.startswith(f"{KIND}-") and (record := job.look()).state is JobState.RUNNING:
            other = ProposePlan.model_validate(record.plan)
            if other.model_copy(update={"attempt": plan.attempt}) == plan:
                return job
    return None


def _attempt(plan: ProposePlan, earlier: Iterable[JobRecord]) -> int:
    """Return which text for its skill and version this is.

    Every further one is made knowing how those before it fared, and has to reach more (`SimulatedTrial`). The same text
    again is the same attempt: its talks are there, and so is its verdict. What was not simulated costs nothing.
    """
    used = []
    for record in earlier:
        other = ProposePlan.model_validate(record.plan)
        if (other.bank.hash, other.skill) != (plan.bank.hash, plan.skill):
            continue
        if other.trial == plan.trial:
            return other.attempt
        if record.result is None or record.result["effect"] is not None:
            used.append(other.attempt)
    return max(used, default=0) + 1


def resume_proposal(job: Job) -> tuple[Job, list[Held]]:
    """Take a proposal up again that was killed, has failed or was cancelled; as `start_proposal`.

    Raises:
        JobError: It is running, or has completed.
    """
    held = job.take()
    try:
        record = job.read()
        if record.state is JobState.COMPLETED:
            raise JobError(f"Job {job.id} has completed; its result stands. Propose again for another.")
        job.reopen()
    except BaseException:
        held.close()
        raise
    return job, [held]


# --- the candidate ----------------------------------------------------------------------------------------------------


def candidate_of(skill_md: str, reason: str, bank: Bank) -> Candidate:
    """Return the files as they would stand in the bank: the author's text, with evidence by code.

    Raises:
        SkillParseError: The text is no skill, or not as the bank wants it.
    """
    skill, problems = read_skill_text(skill_md, SKILL_FILE)
    if skill is None or problems:
        raise SkillParseError("skill_md", [_told(problem) for problem in problems])
    replaces = skill.name if skill.name in bank.skills else None
    kind = ProposalKind.CREATE if replaces is None else ProposalKind.REFINE
    files = _files(skill, skill_md, bank)
    if faults := _problems(skill.name, files):
        raise SkillParseError("skill_md", [_told(problem) for problem in faults])
    proposal = f"{kind.value}-{skill.name}"
    return Candidate(
        id=f"{proposal}.1",
        proposal=proposal,
        attempt=1,
        skill=skill.name,
        replaces=replaces,
        files=files,
        what=reason,
        generator=AUTHOR,
    )


def _files(skill: Skill, text: str, bank: Bank) -> dict[str, str]:
    """Return the skill's files; the author's text as it is where its Evidence section is the one that is due."""
    files = _decoded(bank.contents.get(skill.name, {}))
    evidence, section = evidence_due(skill, bank)
    if skill.evidence != section:
        text = render_skill(skill.model_copy(update={"evidence": section}))
    files[SKILL_FILE] = text
    files.pop(EVIDENCE_FILE, None)
    return files | evidence


def evidence_due(skill: Skill, bank: Bank) -> tuple[dict[str, str], str]:
    """Return the evidence file of a skill and its Evidence section; both empty where the bank has no such numbers."""
    from ..skills_bank.evidence import evidence_from, render_evidence
    from .generation import proof_of

    old = skill.name if skill.name in bank.skills else None
    found = proof_of(skill, bank, old)
    if not found or (old is not None and old not in bank.evidence):
        return {}, ""
    before = bank.evidence.get(skill.name)
    if before is not None and list(before.prototypes) == found:
        return {EVIDENCE_FILE: bank.contents[skill.name][EVIDENCE_FILE].decode()}, render_evidence(before).strip("\n")
    source = next(iter(bank.evidence.values())).source
    evidence = evidence_from(skill.name, found, source)
    return {EVIDENCE_FILE: evidence.model_dump_json(indent=1) + "\n"}, render_evidence(evidence).strip("\n")


def _problems(name: str, files: Mapping[str, str]) -> list[Problem]:
    """Return what the strict check says: a proposal is to be as good as the bank that ships."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content, encoding="utf-8", newline="")
        return problems_in_skill(folder, strict=True)


def _told(problem: Problem) -> str:
    return problem.detail + (f" (line {problem.line})" if problem.line else "")


def _decoded(files: Mapping[str, bytes]) -> dict[str, str]:
    try:
        return {path: content.decode() for path, content in files.items()}
    except UnicodeDecodeError as error:
        raise InputError("A file of the skill is not text; such a skill is refined by hand.") from error


def diff_of(candidate: Candidate, bank: Bank, paths: Iterable[str] | None = None) -> str:
    """Return the unified diff of the candidate's files (or some of them) against the bank."""
    old = _decoded(bank.contents.get(candidate.replaces or "", {}))
    wanted = sorted({*old, *candidate.files}) if paths is None else paths
    parts = []
    for path in wanted:
        before, after = old.get(path), candidate.files.get(path)
        place = f"{candidate.skill}/{path}"
        parts += difflib.unified_diff(
            (before or "").splitlines(),
            (after or "").splitlines(),
            "/dev/null" if before is None else place,
            "/dev/null" if after is None else place,
            lineterm="",
        )
    return "\n".join(parts)


# --- the job ----------------------------------------------------------------------------------------------------------


async def run(job: Job) -> dict:
    """Do a proposal's job for real; named in `jobs.RUNNERS`."""
    plan = ProposePlan.model_validate(job.read().plan)
    return (await propose(plan, job, SimulatedTrial(plan, job))).model_dump(mode="json")


async def propose(plan: ProposePlan, job: Job, trial: Trial) -> ProposalResult:
    """Check, screen and try a proposal, and commit it where it is accepted and that was asked for.

    Args:
        plan: What is proposed.
        job: Where to keep what is done, and to say how far it is.
        trial: Who decides.

    Raises:
        BankError: The bank is no longer the one the proposal was made for.
    """
    job.advance("checking")
    parent = plan.bank.ref()
    bank = _parent_bank(plan)
    candidate = candidate_of(plan.skill_md, plan.reason, bank)
    kind = ProposalKind.CREATE if candidate.replaces is None else ProposalKind.REFINE
    _keep(job, "candidate.json", candidate.model_dump_json(indent=1))
    _keep(job, "diff.txt", diff_of(candidate, bank))
    verdict = _kept_verdict(job) or await _verdict(job, trial, candidate, kind, parent, bank)
    _keep(job, "verdict.json", verdict.model_dump_json(indent=1))
    version, told = _settle(plan, job, candidate, verdict)
    return ProposalResult(
        skill=candidate.skill,
        kind=kind,
        ruling=verdict.ruling,
        reason=verdict.reason,
        effect=verdict.effect,
        floor=verdict.floor,
        strata=verdict.strata,
        checks=verdict.checks,
        vetoes=verdict.vetoes,
        feedback=verdict.feedback,
        diff=diff_of(candidate, bank, [SKILL_FILE]),
        parent=plan.bank.version,
        version=version,
        told=told,
    )


async def _verdict(
    job: Job, trial: Trial, candidate: Candidate, kind: ProposalKind, parent: "BankRef", bank: Bank
) -> Verdict:
    if candidate.replaces and candidate.files == _decoded(bank.contents[candidate.replaces]):
        return _unsimulated(candidate, "indecisive", "The text is, byte for byte, the one the bank has.")
    job.advance("screening")
    reasons = await asyncio.to_thread(trial.screen, candidate, bank)
    if reasons:
        vetoes = tuple(Veto(rule="screen", reason=reason) for reason in reasons)
        told = f"The text must not stand in a bank, and was not simulated: {'; '.join(reasons)}"
        return _unsimulated(candidate, "reject", told, vetoes)
    job.advance("staging")
    from .staging import stage

    staged = await asyncio.to_thread(stage, parent, [candidate], job.folder / "staged")
    verdict = await trial.judge(candidate, kind, parent, staged)
    clean = Check(name="screen", run=True, told="Nothing unsafe, injected or copied was found.")
    return verdict.model_copy(update={"checks": (clean, *verdict.checks)})


def _unsimulated(candidate: Candidate, ruling: Ruling, reason: str, vetoes: tuple[Veto, ...] = ()) -> Verdict:
    return Verdict(candidate=candidate.id, ruling=ruling, reason=reason, strategy="paired", vetoes=vetoes)


def _parent_bank(plan: ProposePlan) -> Bank:
    bank = Bank.load(plan.bank.folder)
    if bank.hash != plan.bank.hash:
        raise BankError(f"The bank {plan.bank.folder} has changed since the proposal was made. Propose again.")
    return bank


def _keep(job: Job, name: str, text: str) -> None:
    replace_durably(job.folder / name, text.encode())


def _kept_verdict(job: Job) -> Verdict | None:
    path = job.folder / "verdict.json"
    return Verdict.model_validate_json(path.read_bytes()) if path.is_file() else None


# --- the bank ---------------------------------------------------------------------------------------------------------


def _settle(plan: ProposePlan, job: Job, candidate: Candidate, verdict: Verdict) -> tuple[str | None, str]:
    """Commit an accepted text where that was asked for. Nothing is awaited: it is cancelled before, or not at all."""
    if verdict.ruling != "accept":
        return None, "The bank is as it was."
    if not plan.apply:
        return None, "The bank is as it was. Propose the same text with `apply` to have it committed."
    job.advance("committing")
    try:
        return _commit(plan, job, candidate).version, "Committed; a running server serves it by itself."
    except BankError as error:
        return None, f"Accepted, but not committed. {error}"


def _commit(plan: ProposePlan, job: Job, candidate: Candidate) -> "VersionInfo":
    """Make the text part of the active version, unless an attempt before this one has done so.

    Raises:
        BankError: The bank moved on since.
    """
    from ..skills_bank.place import find_bank

    place, mark = find_bank(plan.bank.root), f"{job.id}: "
    store = place.store()
    done = [info for info in store.history() if info.note.startswith(mark)] if store.initialised else []
    if done:
        return done[0]
    own_copy(place)
    active = store.active()
    bank = store.load(active)
    if bank.hash != plan.bank.hash:
        raise BankError(f"The bank moved on from {plan.bank.version} to {active}. Propose the text again.")
    skills = {**bank.contents, candidate.skill: {path: text.encode() for path, text in candidate.files.items()}}
    verb = "new skill" if candidate.replaces is None else "refined"
    reason = " ".join(plan.reason.split())[:REASON_CHARS]
    return store.commit(skills, reason=f"{mark}{verb} {candidate.skill}: {reason}", parent=active)


def own_copy(place: "BankPlace") -> None:
    """Copy the shipped bank to where versions are written, so that the parent is one of them."""
    store = place.store()
    if place.kind == "shipped" and not store.initialised:
        store.init_from(place.shipped)


# --- for real ---------------------------------------------------------------------------------------------------------


class SimulatedTrial:
    """A `Trial` with the local seeker on the evolution profiles, by the `paired` strategy.

    The declared error rate holds for a skill and a version of the bank, however many texts are tried: the k-th may use
    1 / (k (k + 1)) of it, and these parts add up to 1.
    """

    def __init__(self, plan: ProposePlan, job: Job) -> None:
        """Take the plan, and the job to tell how far it is."""
        self._plan, self._job = plan, job
        self._phase, self._done, self._total = "baseline", 0, 0

    def screen(self, candidate: Candidate, bank: Bank) -> list[str]:
        """Return the reasons why the text must not stand in the bank."""
        from .screen import screen

        return screen(candidate, bank)

    async def judge(self, candidate: Candidate, kind: ProposalKind, parent: "BankRef", staged: "BankRef") -> Verdict:
        """Choose the hard profiles from the parent's talks, and compare the two banks on them."""
        from ..simulator.run import RunsSettings
        from .acceptance import Case
        from .screen import unsafe_in

        folder = RunsSettings().runs() / CACHE
        folder.mkdir(parents=True, exist_ok=True)
        named = parent._replace(version=f"bank-{parent.hash[:8]}")  # its talks are kept by what it holds
        old = Bank.load(parent.folder).skills.get(candidate.skill)
        case = Case(
            candidate,
            kind,
            named,
            staged,
            (),
            self._plan.repeats,
            self._plan.seed,
            self._plan.attempt,
            mends=old is not None and bool(unsafe_in(old)),
        )
        held = await self._turn(folder)
        try:
            return await self._judge(folder, case)
        finally:
            held.close()

    async def _turn(self, folder: Path) -> Held:
        """Wait until no other proposal is at work on the cache."""
        while (held := take(folder / ".lock", wait=0)) is None:
            self._job.advance("waiting")
            await asyncio.sleep(LOOK_SECONDS)
        return held

    async def _judge(self, folder: Path, case: "Case") -> Verdict:
        from ..simulator.casting import CastRecipe
        from ..simulator.engine import LocalEngine
        from ..simulator.profiles import load_profiles
        from ..simulator.readings import readings_file
        from ..skills_bank.settings import Settings
        from .arena import Arena
        from .split import split_profiles

        region, profiles = Settings().region, load_profiles("evolution")
        split = split_profiles(profiles, self._plan.seed)
        recipe = CastRecipe("bank", case.parent, region=region, readings=readings_file())
        with LocalEngine(os.cpu_count() or 1) as engine:
            return await self._tried(case, Arena(folder, recipe, profiles, engine, self._count), split, region)

    async def _tried(self, case: "Case", arena: "Arena", split: "Split", region: str | None) -> Verdict:
        from .acceptance import ALPHA, Paired, hard_profiles, looks_of
        from .guards import Guards, shared_folder

        plan = self._plan
        some = split.verify[: plan.baseline]
        self._enter("baseline", len(some))
        talks = await arena.talks(case.parent, some, repeats=1, seed=plan.seed)
        hard = hard_profiles(talks, split, case.candidate.replaces, plan.hard)
        looks = looks_of(plan.repeats, ALPHA, len(hard))
        most = sum(2 * look.repeats * len(hard[look.profiles]) for look in looks)
        self._enter("verifying", most + looks[0].repeats * len(hard[looks[0].profiles]))  # and the noise floor
        strategy = Paired(ALPHA / (plan.attempt * (plan.attempt + 1)), shares=(1.0,))
        hinted = sum(arena.profile(id).risk is not None for id in split.verify)
        guards = _Announced(Guards(split, shared_folder(), region), lambda: self._enter("guarding", 2 * hinted))
        return await strategy.judge(case._replace(profiles=hard), arena, cast("Guards", guards))

    def _enter(self, phase: str, total: int) -> None:
        self._phase, self._done, self._total = phase, 0, total
        self._job.advance(phase, 0, total)

    def _count(self, _: "Transcript") -> None:
        self._done += 1
        self._job.advance(self._phase, self._done, self._total)


class _Announced:
    """Guards that say when their turn has come: they take as long as the talks, the first time."""

    def __init__(self, guards: "Guards", announce: Callable[[], None]) -> None:
        self._guards, self._announce = guards, announce

    async def checks(
        self, case: "Case", pairs: Sequence[TalkPair], strata: Mapping[str, Effect], arena: "Arena"
    ) -> tuple[list[Check], list[Veto]]:
        self._announce()
        return await self._guards.checks(case, pairs, strata, arena)
