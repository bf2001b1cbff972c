"""From a bank to a better one: simulate, analyze, propose, verify, settle; a run that was killed goes on where it was.

Every step leaves its result in a file (`record.py` lists them) once it is complete, and a step whose file is there is
not done again. Each candidate is judged against the parent bank, so that a verdict does not depend on the order; what
the accepted ones do together is tried afterwards (`joining.py`), on seeds of its own.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from ..pipeline.jobs import Job
from ..simulator.profiles import Profile
from ..simulator.session import Transcript
from ..simulator.summary import Talk, figures
from ..skills_bank.bank import Bank
from ..skills_bank.errors import BankError, BudgetError, GenerationError, InputError, LLMAnswerError
from ..skills_bank.files import replace_durably
from .acceptance import Case, hard_profiles, noise_floor
from .bench import Bench, Parts
from .consolidate import consolidate
from .generation import Brief, brief_for
from .joining import join
from .models import Candidate, Check, Feedback, Finding, Proposal, Verdict, Veto
from .plan import ATTEMPTS, HARD, WIDE, EvolvePlan
from .propose import diff_of
from .record import REPORT, TRIALS, Attempt, Baseline, End, EvolveRun
from .screen import unsafe_in
from .settling import open_sealed, settle
from .split import split_profiles
from .watch import Watch


class EvolveResult(BaseModel):
    """What an evolution gives back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bank_version: str | None = Field(description="The version that was committed; None: the bank is as it was.")
    told: str = Field(description="What was done with the result, or what can be.")
    kept: tuple[str, ...] = Field(description="Candidates that stand in the resulting bank.")
    proposals: int
    attempts: int
    verdicts: dict[str, int] = Field(description="Attempts by ruling.")
    baseline: float = Field(description="Mean emotion at the end of the talks with the parent bank.")
    sealed: float | None = Field(description="Result minus parent on the sealed profiles; None: not opened.")
    report: str = Field(description="Path of the report, one HTML file.")


async def run(job: Job) -> dict:
    """Do an evolution's job with its real parts; named in `jobs.RUNNERS`."""
    from .parts import RealParts

    plan = EvolvePlan.model_validate(job.read().plan)
    return (await evolve(plan, job, RealParts(plan, job))).model_dump(mode="json")


async def evolve(plan: EvolvePlan, job: Job, parts: Parts) -> EvolveResult:
    """Evolve a bank.

    Args:
        plan: What to do.
        job: Where to keep what is done, and to say how far it is.
        parts: What does the work.

    Raises:
        InputError: What the run depends on has changed since it was planned.
        EscError: A step cannot go on; what was done is kept.
    """
    try:
        return await _evolve(plan, job, parts)
    except BudgetError as error:
        hint = "A cap that was given with the evolution is raised by its own: resume with a higher one."
        raise BudgetError(f"{error} {hint}") from None


async def _evolve(plan: EvolvePlan, job: Job, parts: Parts) -> EvolveResult:
    job.advance("checking")
    await asyncio.to_thread(plan.check)
    run = EvolveRun(job.folder)
    split = run.split()
    if split is None:
        split = split_profiles(parts.profiles, plan.seed)
        run.write("split.json", split)
    watch = Watch(job, run)
    with parts.arena(job.folder / TRIALS, watch) as arena:
        bench = Bench(
            plan=plan,
            job=job,
            parts=parts,
            run=run,
            watch=watch,
            parent=plan.bank.ref(),
            bank=Bank.load(plan.bank.folder),
            split=split,
            arena=arena,
            guards=parts.guards(split),
        )
        await _Search(bench).work()
        await join(bench)
        await asyncio.to_thread(settle, bench)
        await open_sealed(bench)
    return await asyncio.to_thread(_finish, bench)


class _Search:
    """From the baseline to a verdict on every attempt."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.plan, self.run, self.split, self.watch = bench.plan, bench.run, bench.split, bench.watch
        self.profiles: Mapping[str, Profile] = {profile.id: profile for profile in bench.parts.profiles.profiles}

    async def work(self) -> None:
        talks = await self._simulate()
        findings = await self._analyze(talks)
        proposals = await self._consolidate(findings)
        await self._measure_floor(talks)
        await self._try_all(proposals, talks)

    # --- what the parent bank does ----------------------------------------------------------------------------------

    async def _simulate(self) -> list[Transcript]:
        """Hold the talks of the parent bank; the sealed part is not touched."""
        ids = (*self.split.propose, *self.split.verify)
        with self.watch.phase("simulating", total=len(ids)):
            held = await self.bench.arena.hold(self.bench.parent, ids, repeats=1, seed=self.plan.seed)
            talks = list(held.transcripts())
        if self.run.baseline() is None:
            place = held.folder.relative_to(self.run.folder).as_posix()
            found = Baseline(run=place, figures=figures([Talk.of(talk) for talk in talks]))
            self.run.write("baseline.json", found)
            self.watch.tell(baseline=found.figures)
        return talks

    async def _analyze(self, talks: Sequence[Transcript]) -> tuple[Finding, ...]:
        found = self.run.findings()
        if found is None:
            mine = set(self.split.propose)
            with self.watch.phase("analyzing"):
                async with self.bench.parts.analyzer(self.bench.bank) as analyzer:
                    some = [talk for talk in talks if talk.profile in mine]
                    found = tuple(await analyzer.analyze(some, {id: self.profiles[id] for id in mine}))
            self.run.write("findings.json", found)
        return found

    async def _consolidate(self, findings: Sequence[Finding]) -> tuple[Proposal, ...]:
        found = self.run.proposals()
        if found is None:
            with self.watch.phase("consolidating"):
                found = tuple(await asyncio.to_thread(consolidate, findings, self.bench.bank))
            self.run.write("proposals.json", found)
        self.watch.tell(proposals=len(found))
        return found

    async def _measure_floor(self, talks: Sequence[Transcript]) -> None:
        """Hold the parent bank against itself, on the profiles that a new skill would be tried on."""
        if self.run.floor() is not None:
            return
        hard = hard_profiles(self._verifying(talks), self.split, None, HARD)
        with self.watch.phase("noise floor", total=2 * self.plan.repeats * len(hard)):
            seed = self.plan.seed_of("floor")
            found = await noise_floor(self.bench.parent, hard, self.plan.repeats, seed, self.bench.arena)
        self.run.write("floor.json", found)

    def _verifying(self, talks: Sequence[Transcript]) -> list[Transcript]:
        mine = set(self.split.verify)
        return [talk for talk in talks if talk.profile in mine]

    # --- what is tried ----------------------------------------------------------------------------------------------

    async def _try_all(self, proposals: Sequence[Proposal], talks: Sequence[Transcript]) -> None:
        if self.run.end() is not None:
            return
        tried, stalled, cap = 0, 0, None
        for proposal in proposals:
            cap = await self._try(proposal, talks, stalled)
            last = self.run.attempts(proposal.id)
            tried += bool(last)
            stalled = 0 if last and _accepted(last[-1]) else stalled + 1
            self._tell(tried)
            if cap is not None:
                break
        attempts = len(self.run.all_attempts())
        told = f"{tried} of {len(proposals)} proposals were tried, with {attempts} attempts."
        if cap is not None:
            told = f"Proposing ended at a cap: {cap} {told} What was accepted until then was settled."
        self.run.write("end.json", End(tried=tried, proposals=len(proposals), attempts=attempts, cap=cap, told=told))

    async def _try(self, proposal: Proposal, talks: Sequence[Transcript], stalled: int) -> str | None:
        """Make up to `ATTEMPTS` attempts at a proposal; return the cap that ended them."""
        for number in range(1, ATTEMPTS + 1):
            before = self.run.attempts(proposal.id)
            if len(before) < number or before[number - 1].verdict is None:
                if not (len(before) >= number) and (cap := self._capped(stalled)) is not None:
                    return cap
                try:
                    await self._attempt(proposal, number, talks)
                except BudgetError as error:
                    if self.plan.simulates_by_models:
                        raise  # settling would need the same models
                    return str(error)
            now = self.run.attempts(proposal.id)[number - 1]
            if _accepted(now) or (now.candidate is None and self.plan.generator == "local"):
                return None  # who counts finds nothing at the next try either; a model may
        return None

    def _capped(self, stalled: int) -> str | None:
        """Say which cap forbids another attempt."""
        caps, texts = self.plan.caps, sum(one.candidate is not None for one in self.run.all_attempts())
        if caps.candidates is not None and texts >= caps.candidates:
            return f"{texts} candidates, cap {caps.candidates}."
        if caps.stall is not None and stalled >= caps.stall:
            return f"nothing was accepted of {stalled} proposals in a row, cap {caps.stall}."
        if caps.seconds is not None and (seconds := self.watch.seconds) >= caps.seconds:
            return f"{seconds:.0f} s of wall time, cap {caps.seconds:g} s."
        return None

    async def _attempt(self, proposal: Proposal, number: int, talks: Sequence[Transcript]) -> None:
        """Generate, screen, stage and verify; every one of them leaves its file."""
        id = f"{proposal.id}.{number}"
        home = f"candidates/{proposal.id}/{number}"
        candidate = self.run.candidate(proposal.id, number)
        if candidate is None:
            with self.watch.phase("generating", id):
                made = await self._generate(proposal, number, talks)
            if isinstance(made, str):
                self._rule(home, self._unsimulated(id, number, made))
                return
            candidate = made
            self.run.write_text(f"{home}/diff.txt", diff_of(candidate, self.bench.bank))
            self.run.write(f"{home}/candidate.json", candidate)
        reasons = await asyncio.to_thread(self.bench.parts.screen, candidate, self.bench.bank)
        self.run.write(f"{home}/screened.json", tuple(reasons))
        if reasons:
            told = f"The text must not stand in a bank, and was not simulated: {'; '.join(reasons)}"
            vetoes = tuple(Veto(rule="screen", reason=reason) for reason in reasons)
            self._rule(home, self._unsimulated(id, number, told, vetoes))
            return
        try:
            staged = await asyncio.to_thread(self.bench.stage, [candidate], f"{home}/bank")
        except BankError as error:
            self._rule(home, self._unsimulated(id, number, f"It makes no bank: {error}"))
            return
        hard = hard_profiles(self._verifying(talks), self.split, proposal.skill, WIDE)
        case = Case(
            candidate=candidate,
            kind=proposal.kind,
            parent=self.bench.parent,
            staged=staged,
            profiles=hard,
            repeats=self.plan.repeats,
            seed=self.plan.seed_of(f"trial/{proposal.id}"),
            attempt=number,
            mends=candidate.replaces is not None and bool(unsafe_in(self.bench.bank.skills[candidate.replaces])),
        )
        with self.watch.phase("verifying", id):
            verdict = await self.bench.parts.strategy.judge(case, self.bench.arena, self.bench.guards)
        clean = Check(name="screen", run=True, told="Nothing unsafe, injected or copied was found.")
        self._rule(home, verdict.model_copy(update={"checks": (clean, *verdict.checks)}))

    async def _generate(self, proposal: Proposal, number: int, talks: Sequence[Transcript]) -> Candidate | str:
        """Return a text, or why there is none."""
        before = self.run.attempts(proposal.id)[: number - 1]
        last = before[-1] if before else None
        brief = self._brief(proposal, number, talks, last)
        try:
            async with self.bench.parts.generator() as generator:
                return await generator.generate(brief, self.bench.bank)
        except GenerationError as error:
            return error.reason
        except LLMAnswerError as error:
            return f"The model gave no usable text: {error.reason}"

    def _brief(self, proposal: Proposal, number: int, talks: Sequence[Transcript], last: Attempt | None) -> Brief:
        feedback = None
        if last is not None and last.verdict is not None:
            feedback = last.verdict.feedback or Feedback(attempt=number - 1, reason=last.verdict.reason)
        mine = set(self.split.propose)
        some = [talk for talk in talks if talk.profile in mine]
        return brief_for(
            proposal, number, some, self.profiles, feedback=feedback, last=last.candidate if last else None
        )

    def _unsimulated(self, id: str, number: int, reason: str, vetoes: tuple[Veto, ...] = ()) -> Verdict:
        return Verdict(
            candidate=id,
            ruling="reject",
            reason=reason,
            strategy=self.plan.strategy,
            vetoes=vetoes,
            checks=(Check(name="screen", run=True, told=f"{len(vetoes)} reason(s)."),) if vetoes else (),
            feedback=Feedback(attempt=number, reason=reason),
        )

    def _rule(self, home: str, verdict: Verdict) -> None:
        self.run.write(f"{home}/verdict.json", verdict)

    def _tell(self, tried: int) -> None:
        verdicts = [one.verdict for one in self.run.all_attempts() if one.verdict]
        accepted = tuple(one.candidate for one in verdicts if one.ruling == "accept")
        self.watch.tell(tried=tried, verdicts=Counter(one.ruling for one in verdicts), accepted=accepted)


def _accepted(attempt: Attempt) -> bool:
    return attempt.verdict is not None and attempt.verdict.ruling == "accept"


def _finish(bench: Bench) -> EvolveResult:
    """Write the report and sum up."""
    from .report import report_html

    run = bench.run
    baseline, end, outcome, sealed = run.baseline(), run.end(), run.outcome(), run.sealed()
    if baseline is None or end is None or outcome is None:
        raise InputError(f"The folder {run.folder} lacks a result that this run wrote; was it changed?")
    if end.cap is not None:
        bench.job.note(end.told)
    bench.job.note(outcome.told)
    with bench.watch.phase("reporting"):
        replace_durably(run.folder / REPORT, report_html(run).encode())
    verdicts = Counter(one.verdict.ruling for one in run.all_attempts() if one.verdict)
    return EvolveResult(
        bank_version=outcome.version,
        told=outcome.told,
        kept=outcome.kept,
        proposals=end.proposals,
        attempts=end.attempts,
        verdicts=dict(verdicts),
        baseline=baseline.figures.mean.value,
        sealed=sealed.effect.difference.value if sealed and sealed.effect else None,
        report=str(run.folder / REPORT),
    )
