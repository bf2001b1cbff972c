"""An evolution in the terminal: how it stands, what became of each candidate, and the text of one as a diff."""

from collections.abc import Iterator
from textwrap import fill

from .markup import visible
from .models import Verdict
from .record import EvolveRun
from .wordings import FATES, chance, change, counted, fate_of, lasted, money

WIDTH = 100
_INDENT = "    "


def show_text(run: EvolveRun) -> str:
    """Return how a run stands and what it found, as plain text of `WIDTH` columns.

    Raises:
        JobError: A file of the run cannot be read.
    """
    blocks = [_begun(run), _candidates(run), _ended(run)]
    return visible("\n\n".join("\n".join(lines) for block in blocks if (lines := list(block))))


def diff_text(run: EvolveRun, candidate: str) -> str:
    """Return a candidate's changes as a unified diff, under what became of it; a proposal's id is its last attempt.

    Raises:
        InputError: There is no such candidate.
        JobError: A file of the run cannot be read.
    """
    attempt = run.attempt(candidate)
    sign, word = FATES[fate_of(attempt, run.joint())]
    lines = [f"# {attempt.id}: {sign} {word}"]
    if attempt.verdict:
        lines.append(f"# {_line(attempt.verdict.reason)}")
    lines += [f"# {_line(reason)}" for reason in attempt.screened]
    if attempt.candidate:
        lines.append(f"# {_line(attempt.candidate.what)} ({attempt.candidate.generator})")
    lines.append(attempt.diff.rstrip("\n") or "# No text differs from the parent bank.")
    return visible("\n".join(lines))


def _begun(run: EvolveRun) -> Iterator[str]:
    job, plan, baseline, floor = run.job(), run.plan(), run.baseline(), run.floor()
    yield f"{run.id}: {job.state}" + (f" in phase {job.phase}" if job.state == "running" else "")
    yield f"Bank {plan.bank.version} ({plan.bank.hash[:12]}), {plan.n} profiles of {plan.profiles}, seed {plan.seed}."
    yield f"Strategy {plan.strategy}; {'commits what is accepted' if plan.apply else 'propose only'}."
    if baseline:
        all_ = baseline.figures
        ends = f"mean end {all_.mean.value:.1f} ({all_.mean.low:.1f} to {all_.mean.high:.1f})"
        yield f"Baseline: {counted(all_.talks, 'talk')}, {ends}, {all_.success} Success, {all_.failure} Failure."
    if floor:
        yield f"Noise floor (A/A): {change(floor)} over {counted(floor.talks, 'talk')}."
    findings, proposals = run.findings(), run.proposals()
    if findings is not None and proposals is not None:
        yield f"{counted(len(findings), 'finding')}, {counted(len(proposals), 'proposal')}."


def _candidates(run: EvolveRun) -> Iterator[str]:
    attempts, joint = run.all_attempts(), run.joint()
    widest = max((len(attempt.id) for attempt in attempts), default=0)
    for attempt in attempts:
        sign, word = FATES[fate_of(attempt, joint)]
        yield f"{sign} {attempt.id:<{widest}}  {word}{_gain(attempt.verdict)}"
        if attempt.verdict:
            reason = _line(attempt.verdict.reason)
            yield fill(reason, WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)


def _gain(verdict: Verdict | None) -> str:
    return f"  {change(verdict.effect)}, p {chance(verdict.effect.p)}" if verdict and verdict.effect else ""


def _ended(run: EvolveRun) -> Iterator[str]:
    if joint := run.joint():
        for one in joint.rounds:
            yield f"Together, round {one.number}{_gain(one.verdict)}: {one.reason}"
    if sealed := run.sealed():
        found = f"{change(sealed.effect)}, p {chance(sealed.effect.p)}. " if sealed.effect else ""
        yield f"Sealed part: {found}{sealed.told}"
    for one in run.spending():
        yield f"Model {one.model} as {one.role}: {counted(one.calls, 'call')}, {one.tokens:,} tokens, {money(one.usd)}."
    if times := run.times():
        yield f"Time: {lasted(sum(times.values()))}."
    if outcome := run.outcome():
        yield outcome.told
    if error := run.job().error:
        yield error


def _line(told: str) -> str:
    return " ".join(told.split())
