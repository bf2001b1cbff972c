"""Tools by which a bank evolves: submit, status, cancel; a proposal of the host's own; what a version changed.

As in `jobs.py` the work runs in a process of its own that outlives the server. `evolve` is imported inside the tools.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
import anyio.to_thread
from fastmcp import FastMCP
from fastmcp.exceptions import ResourceError
from fastmcp.server.dependencies import get_context
from mcp_types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.errors import EscError, InputError, JobError
from .jobs import BuildProgress, Maker, Status
from .tools import READ, expecting
from .uris import REPORT, report_uri

if TYPE_CHECKING:
    from pathlib import Path

    from ..evolve.models import Effect
    from ..pipeline.jobs import Job, JobRecord
    from .watch import LiveBank

POLL_SECONDS = 5.0
LOOK_SECONDS = 0.5
MAX_SKILL_CHARS = 60_000
MAX_DIFF_CHARS = 60_000
"""Hosts cap a tool result at about 25,000 tokens."""
MAX_WAIT = 240.0
KINDS = ("evolve", "propose")
Ruling = Literal["accept", "reject", "indecisive"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EvolveStarted(_Answer):
    """Answer of `evolve_bank`."""

    task_id: str = Field(description="Pass it to `evolve_status` and `cancel_evolve`; it stays valid over restarts.")
    status: Literal["running"] = "running"
    poll_after_seconds: float = Field(description="When to ask `evolve_status` first.")


class Compared(_Answer):
    """Talks with the new text against talks with the old one, on the same simulated seekers and seeds."""

    profiles: int
    talks: int
    old: float = Field(description="Mean emotion at the end, 0 to 100, with the old text.")
    new: float
    difference: float = Field(description="New minus old, paired.")
    low: float = Field(description="Lower end of its 95% interval.")
    high: float
    p: float = Field(description="Exact two-sided sign-flip test.")
    success: tuple[int, int] = Field(description="Talks that reached Success, old and new.")
    failure: tuple[int, int] = Field(description="Talks that ended in Failure, old and new.")

    @classmethod
    def of(cls, effect: "Effect | None") -> "Compared | None":
        """Return the figures of an effect."""
        if effect is None:
            return None
        fields = effect.model_dump() | dict(zip(("difference", "low", "high"), effect.difference, strict=True))
        return cls.model_validate(fields)


class CheckMade(_Answer):
    """A check of a proposed text."""

    name: str = Field(description="screen, stratum, risk or real-data.")
    run: bool = Field(description="Whether it could be made.")
    told: str = Field(description="What it found, or why it was not made.")


class ProposalOutcome(_Answer):
    """What became of a proposed skill."""

    skill: str
    kind: Literal["refine", "create"]
    verdict: Ruling = Field(description="'accept', 'reject' (worse, or forbidden), or 'indecisive' (no proven gain).")
    reason: str
    figures: Compared | None = Field(description="Null where nothing was simulated.")
    noise: Compared | None = Field(description="The old text against itself: what chance alone does.")
    worse_actions: tuple[str, ...] = Field(
        description="Support actions of the new text that went worse than the old's."
    )
    checks: tuple[CheckMade, ...]
    vetoes: tuple[str, ...] = Field(description="Reasons that forbid the text whatever it gains.")
    diff: str = Field(description="Unified diff of SKILL.md against the bank.")
    parent_version: str = Field(description="The version it was tried against.")
    bank_version: str | None = Field(description="The version that holds it now; null: the bank is as it was.")
    told: str = Field(description="What was done with it, or what can be.")


class EvolveOutcome(_Answer):
    """What an evolution gave."""

    parent_version: str = Field(description="The version it began with.")
    bank_version: str | None = Field(description="The version that was committed; null: the bank is as it was.")
    kept: tuple[str, ...] = Field(description="Candidates that stay.")
    verdicts: dict[str, int] = Field(description="Attempts by verdict.")
    sealed: Compared | None = Field(description="The result against the parent on profiles never looked at before.")
    told: str = Field(description="What was done, or how to commit the result.")
    report: str = Field(description="Resource with the report (HTML).")


class Scores(_Answer):
    """How an evolution stands in figures."""

    baseline: float | None = Field(description="Mean emotion at the end with the bank as it is; null until known.")
    proposals: int | None = Field(description="Things to be tried; null until known.")
    tried: int
    verdicts: dict[str, int] = Field(description="Attempts by verdict.")
    accepted: tuple[str, ...]


class EvolveStatus(_Answer):
    """Answer of `evolve_status`, `cancel_evolve` and `propose_skill`."""

    task_id: str
    kind: Literal["evolve", "propose"]
    status: Status = Field(description="'failed' is final until the job is resumed; it is no reason to ask again.")
    phase: str = Field(description="What it is at, e.g. waiting, baseline, verifying, guarding, done.")
    progress: BuildProgress = Field(description="How far the phase has come, mostly in talks.")
    scores: Scores | None = Field(default=None, description="Of an evolution, so far.")
    notes: tuple[str, ...] = Field(default=(), description="What a person should know.")
    result: ProposalOutcome | EvolveOutcome | None = Field(default=None, description="Present when completed.")
    error: str | None = Field(default=None, description="Present when failed: what went wrong, and what to do.")
    poll_after_seconds: float | None = Field(default=None, description="When to ask again; null when it has ended.")


class ChangedSkill(_Answer):
    """A skill whose files differ."""

    name: str
    diff: str = Field(description="Unified diff.")
    truncated: bool = Field(description="Whether the diff was cut; then ask for this skill alone.")


class BankChange(_Answer):
    """Answer of `bank_diff`."""

    before: str
    after: str
    reason: str = Field(description="Why `after` was written.")
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[ChangedSkill, ...]


Task = Annotated[
    str, Field(min_length=1, max_length=100, description="The `task_id` that `evolve_bank` or `propose_skill` gave.")
]


def add_evolution(mcp: FastMCP, live: "LiveBank") -> None:
    """Register the tools and the resource of evolution on `mcp`, for the bank of `live`."""
    _add_tools(mcp, live)
    _add_report(mcp)


def _add_tools(mcp: FastMCP, live: "LiveBank") -> None:
    async def evolve_bank(
        apply: Annotated[
            bool,
            Field(description="Make the result the active version. False: it is only proposed, with a report."),
        ] = False,
        n: Annotated[
            int | None,
            Field(
                ge=30, le=500, description="Simulated seekers, by default all 500; fewer are quicker and prove less."
            ),
        ] = None,
        seed: Annotated[int, Field(ge=0, description="The same seed gives the same run.")] = 7,
        strategy: Annotated[
            Literal["paired", "paper"],
            Field(description="How a candidate is accepted: 'paired' (a proven gain) or 'paper' (a higher mean)."),
        ] = "paired",
        seeker: Annotated[Maker, Field(description="Who plays the seekers: 'local' (free) or 'llm' (costs money).")] = (
            "local"
        ),
        supporter: Annotated[
            Maker, Field(description="Who words the replies: 'local' (free) or 'llm' (costs money).")
        ] = "local",
        analyzer: Annotated[
            Maker, Field(description="Who looks for faults: 'local' (free) or 'llm' (costs money).")
        ] = ("local"),
        generator: Annotated[
            Maker, Field(description="Who writes the candidates: 'local' (free) or 'llm' (costs money).")
        ] = "local",
        max_calls: Annotated[
            int | None, Field(ge=0, description="Most calls to a model; the server's own cap holds in any case.")
        ] = None,
        max_tokens: Annotated[
            int | None, Field(ge=0, description="Most tokens in and out together; the server's own cap holds, too.")
        ] = None,
        max_usd: Annotated[
            float | None, Field(ge=0, description="Most US dollars; the server's own cap holds in any case.")
        ] = None,
        max_seconds: Annotated[
            float | None, Field(gt=0, description="Most seconds; then what was accepted so far is settled.")
        ] = None,
        max_candidates: Annotated[int | None, Field(ge=0, description="Most candidate texts to be tried.")] = None,
        stall: Annotated[
            int | None, Field(ge=1, description="End after so many proposals in a row of which nothing was accepted.")
        ] = None,
        resume: Annotated[
            str | None,
            Field(description="Id of a job that was killed, failed or cancelled: go on with it, where it was."),
        ] = None,
    ) -> EvolveStarted:
        caps = {
            "calls": max_calls,
            "tokens": max_tokens,
            "usd": max_usd,
            "seconds": max_seconds,
            "candidates": max_candidates,
            "stall": stall,
        }
        chosen = {
            "n": n,
            "seed": seed,
            "strategy": strategy,
            "seeker": seeker,
            "supporter": supporter,
            "analyzer": analyzer,
            "generator": generator,
            "apply": apply,
        }

        def work() -> str:
            return _start(live.root(), chosen, caps) if resume is None else _resume(resume, caps)

        return EvolveStarted(task_id=await anyio.to_thread.run_sync(work), poll_after_seconds=POLL_SECONDS)

    async def evolve_status(task_id: Task) -> EvolveStatus:
        return await anyio.to_thread.run_sync(lambda: _status(task_id))

    async def cancel_evolve(task_id: Task) -> EvolveStatus:
        return await anyio.to_thread.run_sync(lambda: _cancel(task_id))

    async def propose_skill(
        skill_md: Annotated[
            str,
            Field(
                min_length=1,
                max_length=MAX_SKILL_CHARS,
                description=(
                    "The whole text of a SKILL.md in the form of this bank (`read_skill` shows one). With the name of "
                    "a skill of the bank it refines that skill, with another name it is a new one. Leave the Evidence "
                    "section out: it is written by code."
                ),
            ),
        ],
        reason: Annotated[
            str,
            Field(
                min_length=1,
                max_length=1000,
                description="Why it should be taken, for the history of the bank. Quote nothing a seeker wrote.",
            ),
        ],
        apply: Annotated[
            bool, Field(description="If it is accepted, make it part of the active version, for every client.")
        ] = False,
        wait_seconds: Annotated[
            float,
            Field(ge=0, le=MAX_WAIT, description="How long to wait for the verdict before a `task_id` is answered."),
        ] = 45.0,
    ) -> EvolveStatus:
        task = await anyio.to_thread.run_sync(lambda: _propose(live.root(), skill_md, reason, apply=apply))
        return await _wait(task, wait_seconds)

    async def bank_diff(
        before: Annotated[str, Field(min_length=1, description="Version id, as `bank_history` gives it.")],
        after: Annotated[str | None, Field(description="Version id; leave it out for the active one.")] = None,
        skill: Annotated[str | None, Field(description="Only what differs in this skill.")] = None,
    ) -> BankChange:
        return await anyio.to_thread.run_sync(lambda: _diff(live.root(), before, after, skill))

    for function, title, description, annotations in _described(
        evolve_bank, evolve_status, cancel_evolve, propose_skill, bank_diff
    ):
        mcp.tool(expecting(function), description=description, annotations=ToolAnnotations(title=title, **annotations))


Tool = Callable[..., Awaitable[Any]]


def _described(
    evolve_bank: Tool, evolve_status: Tool, cancel_evolve: Tool, propose_skill: Tool, bank_diff: Tool
) -> list[tuple[Tool, str, str, dict[str, Any]]]:
    write = {"read_only_hint": False, "open_world_hint": False}
    return [
        (
            evolve_bank,
            "Let the bank refine itself",
            "Look for gaps of the skill bank in talks with simulated seekers, try refined and new skills, and keep "
            "those that are shown to help. Call it only when a person who looks after the bank asks for it, never "
            "during a talk. The bank stays as it is unless `apply` is true. It takes minutes to hours: it returns a "
            "`task_id` at once, and `evolve_status` says how it goes. `rollback_bank` undoes what was applied.",
            write | {"destructive_hint": True, "idempotent_hint": False},
        ),
        (
            evolve_status,
            "How an evolution or a proposal stands",
            "Say how an evolution of the bank or a proposed skill stands. Call it with the `task_id` of `evolve_bank` "
            "or `propose_skill`, not sooner than `poll_after_seconds`, until `status` is no longer 'running'.",
            READ,
        ),
        (
            cancel_evolve,
            "Cancel an evolution or a proposal",
            "Stop an evolution of the bank, or the trial of a proposed skill, and say how it ended. Call it when the "
            "person who asked for it wants it stopped. What was done is kept: `evolve_bank` with `resume` goes on from "
            "there. On one that has ended it changes nothing.",
            write | {"destructive_hint": False, "idempotent_hint": True},
        ),
        (
            propose_skill,
            "Propose a skill",
            "Propose a refined or a new skill that you or a person wrote. It is validated, screened for what no skill "
            "may say, and tried on simulated seekers against the bank as it is; the answer is a verdict with figures, "
            "reasons and a diff. Call it only when a person who looks after the bank asks for a better skill. The bank "
            "stays as it is unless `apply` is true and the verdict is 'accept'. If `status` is still 'running', ask "
            "`evolve_status`, or call it again with the same arguments. On 'reject' or 'indecisive' mind `reason` and "
            "`worse_actions`, and try another text.",
            write | {"destructive_hint": True, "idempotent_hint": False},
        ),
        (
            bank_diff,
            "What a version changed",
            "Show what differs between two versions of the skill bank: skills added, removed and changed, with the "
            "reason that was given. Call it only when a person who looks after the bank asks; it is of no use for a "
            "talk.",
            READ,
        ),
    ]


def _add_report(mcp: FastMCP) -> None:
    @mcp.resource(
        REPORT,
        mime_type="text/html",
        description="Report of a finished evolution: scores, candidates with verdicts and diffs, the sealed result.",
    )
    async def evolve_report(id: Annotated[str, Field(description="The `task_id` of `evolve_bank`.")]) -> str:
        try:
            return await anyio.to_thread.run_sync(lambda: _report(id))
        except EscError as error:
            raise ResourceError(str(error)) from error


# --- the work ---------------------------------------------------------------------------------------------------------


def _start(bank: "Path", chosen: dict[str, Any], caps: dict[str, Any]) -> str:
    from ..evolve.plan import EvolveCaps, plan_evolution, start_evolution
    from ..pipeline.jobs import JobSettings, spawn

    plan = plan_evolution(bank_dir=bank, caps=EvolveCaps(**caps), **chosen)
    job, locks = start_evolution(JobSettings().jobs(), plan)
    spawn(job, locks)
    return job.id


def _resume(task_id: str, caps: dict[str, Any]) -> str:
    from ..pipeline.jobs import spawn

    job, record = _find(task_id)
    if record.kind == "propose":
        from ..evolve.propose import resume_proposal

        job, locks = resume_proposal(job)
    else:
        from ..evolve.plan import EvolveCaps, resume_evolution

        job, locks = resume_evolution(job, EvolveCaps(**caps))
    spawn(job, locks)
    return job.id


def _propose(bank: "Path", skill_md: str, reason: str, *, apply: bool) -> str:
    from ..evolve.propose import plan_proposal, proposal_under_way, start_proposal
    from ..pipeline.jobs import JobSettings, spawn

    root = JobSettings().jobs()
    plan = plan_proposal(skill_md, reason, bank_dir=bank, apply=apply)
    if (running := proposal_under_way(root, plan)) is not None:
        return running.id
    job, locks = start_proposal(root, plan)
    spawn(job, locks)
    return job.id


async def _wait(task: str, seconds: float) -> EvolveStatus:
    """Tell the client how far it is until it has ended or the time is up; the job does not depend on it."""
    context, deadline = get_context(), time.monotonic() + seconds
    before, phase, last = 0, "", 0  # what earlier phases did: the figure that is reported may never fall
    while True:
        status = await anyio.to_thread.run_sync(lambda: _status(task))
        if status.status != "running" or time.monotonic() >= deadline:
            return status
        if status.phase != phase:
            before, phase = last + 1, status.phase
        now = before + status.progress.done
        if now > last:
            last, total = now, status.progress.total
            await context.report_progress(now, before + total if total is not None else None, _line(status))
        await anyio.sleep(LOOK_SECONDS)


def _line(status: EvolveStatus) -> str:
    done, total = status.progress.done, status.progress.total
    return f"{status.phase} {done} of {total}" if total else f"{status.phase} {done}" if done else status.phase


def _find(task_id: str) -> "tuple[Job, JobRecord]":
    """Return a job that evolves a bank, and how it stands.

    Raises:
        JobNotFound: There is none of that id.
        JobError: It does something else.
    """
    from ..pipeline.jobs import JobSettings, find_job

    job = find_job(JobSettings().jobs(), task_id)
    record = job.look()
    if record.kind not in KINDS:
        raise JobError(f"Job {task_id} is a {record.kind}; ask `{record.kind}_status` about it.")
    return job, record


def _status(task_id: str) -> EvolveStatus:
    return _as_status(*_find(task_id))


def _cancel(task_id: str) -> EvolveStatus:
    from ..pipeline.jobs import cancel_job

    job, _ = _find(task_id)
    return _as_status(job, cancel_job(job))


def _as_status(job: "Job", record: "JobRecord") -> EvolveStatus:
    evolves = record.kind == "evolve"
    completed = record.state.value == "completed"
    result: ProposalOutcome | EvolveOutcome | None = None
    if completed:
        result = _evolution_outcome(job) if evolves else _proposal_outcome(record)
    return EvolveStatus(
        task_id=record.id,
        kind="evolve" if evolves else "propose",
        status=record.state.value,
        phase=record.phase,
        progress=BuildProgress(done=record.progress.done, total=record.progress.total),
        scores=_scores(job) if evolves else None,
        notes=record.notes,
        result=result,
        error=record.error,
        poll_after_seconds=POLL_SECONDS if record.state.value == "running" else None,
    )


def _proposal_outcome(record: "JobRecord") -> ProposalOutcome:
    from ..evolve.propose import ProposalResult

    found = ProposalResult.model_validate(record.result)
    return ProposalOutcome(
        skill=found.skill,
        kind=found.kind.value,
        verdict=found.ruling,
        reason=found.reason,
        figures=Compared.of(found.effect),
        noise=Compared.of(found.floor),
        worse_actions=tuple(action.value for action in found.feedback.worse_actions) if found.feedback else (),
        checks=tuple(CheckMade(name=check.name, run=check.run, told=check.told) for check in found.checks),
        vetoes=tuple(f"{veto.rule}: {veto.reason}" for veto in found.vetoes),
        diff=_cut(found.diff, MAX_DIFF_CHARS)[0],
        parent_version=found.parent,
        bank_version=found.version,
        told=found.told,
    )


def _evolution_outcome(job: "Job") -> EvolveOutcome:
    from ..evolve.record import EvolveRun

    found = EvolveRun(job.folder)
    outcome, sealed = found.outcome(), found.sealed()
    if outcome is None:
        raise JobError(f"Job {job.id} has completed, but its outcome is gone from {job.folder}.")
    return EvolveOutcome(
        parent_version=outcome.parent,
        bank_version=outcome.version,
        kept=outcome.kept,
        verdicts=found.progress().verdicts,
        sealed=Compared.of(sealed.effect) if sealed else None,
        told=outcome.told,
        report=report_uri(job.id),
    )


def _scores(job: "Job") -> Scores:
    from ..evolve.record import EvolveRun

    found = EvolveRun(job.folder).progress()
    return Scores(
        baseline=found.baseline.mean.value if found.baseline else None,
        proposals=found.proposals,
        tried=found.tried,
        verdicts=found.verdicts,
        accepted=found.accepted,
    )


def _report(id: str) -> str:
    from ..evolve.record import REPORT as FILE

    job, record = _find(id)
    if record.kind != "evolve":
        raise InputError(f"Job {id} is a proposal and has no report; `evolve_status` gives its figures and diff.")
    try:
        return (job.folder / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"Job {id} has no report yet: it is {record.state.value}, in phase {record.phase!r}."
        ) from None


def _diff(bank: "Path", before: str, after: str | None, skill: str | None) -> BankChange:
    from ..skills_bank.place import find_bank

    store = find_bank(bank).store()
    after = store.active() if after is None else after
    found = store.diff(before, after)
    names = {*found.added, *found.removed, *found.changed}
    if skill is not None and skill not in names:
        raise InputError(f"{skill!r} does not differ from {before} to {after}. Skills that do: {_listed(names)}.")
    left, changed = MAX_DIFF_CHARS, []
    for name, text in found.changed.items():
        if skill in (None, name):
            shown, cut = _cut(text, left)
            left -= len(shown)
            changed.append(ChangedSkill(name=name, diff=shown, truncated=cut))
    note = next(info.note for info in store.history() if info.version == after)
    return BankChange(
        before=before,
        after=after,
        reason=note,
        added=tuple(name for name in found.added if skill in (None, name)),
        removed=tuple(name for name in found.removed if skill in (None, name)),
        changed=tuple(changed),
    )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _cut(text: str, most: int) -> tuple[str, bool]:
    return (text, False) if len(text) <= most else (text[: max(0, most)], True)
