"""Commands `esc-skills evolve run|propose|jobs|status|cancel|show|diff|report`; `server/__main__.py` mounts them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..pipeline.job_bar import run_with_bar
from ..pipeline.jobs import Job, JobRecord, JobSettings, JobState, all_jobs, cancel_job, find_job, go_gently
from ..pipeline.jobs import spawn as spawned
from ..skills_bank.errors import InputError, JobError
from .plan import (
    KIND,
    REPEATS,
    EvolveCaps,
    Maker,
    StrategyName,
    plan_evolution,
    resume_evolution,
    start_evolution,
)

if TYPE_CHECKING:
    from .record import EvolveRun

console = Console(stderr=True)
"""Progress and notes go to stderr; stdout is for ids, versions and JSON."""
app = typer.Typer(help="The bank refines itself on simulated talks, and keeps what is shown to help.")

JobId = Annotated[str, typer.Argument(help="Id of an evolution, as `evolve run` and `evolve jobs` print it.")]
Run = Annotated[str, typer.Argument(help="An evolution: its folder, its id, or the beginning of its id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RESUME = "esc-skills evolve run --resume"


@app.command("run")
def run(
    profiles: Annotated[str, typer.Option(help="'evolution', 'evaluation', or a JSONL file.")] = "evolution",
    n: Annotated[int | None, typer.Option(min=1, help="Profiles to take of them; default: all.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Talks with each profile in a trial, at most.")] = REPEATS,
    seed: Annotated[int, typer.Option(help="Of the split of the profiles and of every talk.")] = 7,
    strategy: Annotated[StrategyName, typer.Option(help="How a text is judged; see docs/evolution.md.")] = "paired",
    seeker: Annotated[Maker, typer.Option(help="Who plays the seekers: the local model, or a language model.")] = (
        "local"
    ),
    supporter: Annotated[Maker, typer.Option(help="Who words the replies: our lines, or a model.")] = "local",
    analyzer: Annotated[Maker, typer.Option(help="Who reads the talks: statistics, or a model.")] = "local",
    generator: Annotated[Maker, typer.Option(help="Who writes the texts: an editor of structure, or a model.")] = (
        "local"
    ),
    rules: Annotated[str, typer.Option(help="Emotion rules: 'sage' or 'rlver'.")] = "sage",
    bank: Annotated[Path | None, typer.Option(help="Bank folder (ESC_BANK_DIR, the user's).")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Commit the result as a version of the bank.")] = False,
    cap_calls: Annotated[int | None, typer.Option(min=0, help="Most calls to a model (ESC_LLM_CAP_CALLS).")] = None,
    cap_tokens: Annotated[int | None, typer.Option(min=0, help="Most tokens, in and out together.")] = None,
    cap_usd: Annotated[float | None, typer.Option(min=0, help="Most money, in US dollars.")] = None,
    cap_minutes: Annotated[float | None, typer.Option(min=0.01, help="Most wall time for proposing.")] = None,
    cap_candidates: Annotated[int | None, typer.Option(min=0, help="Most texts that are made.")] = None,
    cap_stall: Annotated[int | None, typer.Option(min=1, help="Most proposals in a row without one accepted.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes for local talks; default: one a core. Changes no result.")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Take this evolution up again instead of starting one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and cost; start nothing.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start it in the background and print its id.")] = False,
) -> None:
    """Evolve a bank: find what its skills do badly, propose texts, keep those that are shown to help.

    The bank is changed only with --apply; otherwise the result lies in the job's folder. An evolution that was killed,
    failed or was cancelled goes on with `--resume JOB`, where it was.
    """
    root = JobSettings().jobs()
    caps = EvolveCaps(
        calls=cap_calls,
        tokens=cap_tokens,
        usd=cap_usd,
        seconds=None if cap_minutes is None else 60 * cap_minutes,
        candidates=cap_candidates,
        stall=cap_stall,
    )
    if resume is not None:
        job, locks = resume_evolution(find_job(root, resume), caps)
    else:
        plan = plan_evolution(
            profiles,
            bank_dir=_bank(bank),
            n=n,
            repeats=repeats,
            seed=seed,
            seeker=seeker,
            supporter=supporter,
            analyzer=analyzer,
            generator=generator,
            strategy=strategy,
            rules=rules,
            caps=caps,
            apply=apply,
            workers=workers or os.cpu_count() or 1,
        )
        if dry_run:
            from .estimate import told

            typer.echo(told(plan))
            return
        job, locks = start_evolution(root, plan)
    if detach:
        spawned(job, locks)
        console.print(f"Started. `esc-skills evolve status {job.id}` says how far it is.")
        typer.echo(job.id)
        return
    go_gently()
    _finish(job, run_with_bar(job, locks, console, f"{RESUME} {job.id}"))


@app.command("propose")
def propose_text(
    skill_md: Annotated[Path, typer.Argument(help="A SKILL.md; a skill of that name is refined, else it is new.")],
    reason: Annotated[str, typer.Option(help="Why it should be taken; stands in the history of the bank.")],
    bank: Annotated[Path | None, typer.Option(help="Bank folder (ESC_BANK_DIR, the user's).")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Commit it if it is accepted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have one text judged as an evolution judges its own: checked, screened, tried against the old text."""
    from .propose import ProposalResult, plan_proposal, start_proposal

    try:
        text = skill_md.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{skill_md} cannot be read: {error}. Name a SKILL.md.") from None
    job, locks = start_proposal(JobSettings().jobs(), plan_proposal(text, reason, bank_dir=_bank(bank), apply=apply))
    go_gently()
    # Proposed again, the same text is the same attempt, and the talks that were held are kept.
    record = run_with_bar(job, locks, console, f"esc-skills evolve propose {skill_md} ...")
    if record.result is None:
        raise JobError(record.error or f"The proposal {job.id} ended as {record.state}.")
    found = ProposalResult.model_validate(record.result)
    typer.echo(found.model_dump_json(indent=1) if as_json else f"{found.ruling}: {found.reason}\n{found.told}")


@app.command("jobs")
def list_jobs(as_json: AsJson = False) -> None:
    """List the evolutions, newest first."""
    records = [record for job in all_jobs(JobSettings().jobs()) if (record := job.look()).kind == KIND]
    if as_json:
        typer.echo("[" + ",\n".join(record.model_dump_json() for record in records) + "]")
        return
    for record in records:
        typer.echo(f"{record.id}  {record.state:<9}  {record.started[:19]}  {_where(record)}")
    console.print(f"{len(records)} evolution(s) in {JobSettings().jobs()}.")


@app.command("status")
def show_status(job: JobId, as_json: AsJson = False) -> None:
    """Say how an evolution stands and what it found so far; exit 1 where it failed."""
    run = _found(job)
    record = run.job()
    if as_json:
        typer.echo(record.model_dump_json(indent=1))
    else:
        typer.echo(f"{record.state}: {_where(record)}")
        for line in _scores(run):
            typer.echo(line)
        for note in record.notes:
            typer.echo(f"mind: {note}")
    raise typer.Exit(1 if record.state is JobState.FAILED else 0)


@app.command("cancel")
def cancel(job: JobId) -> None:
    """Stop an evolution; what is decided is kept, and `evolve run --resume` goes on from there."""
    record = cancel_job(Job(_found(job).folder))
    typer.echo(f"{record.state}: {_where(record)}")


@app.command("show")
def show(run: Run) -> None:
    """Show the candidates with verdict, difference, interval, p and reason."""
    from .report import show_text

    typer.echo(show_text(_found(run)))


@app.command("diff")
def diff(
    run: Run,
    candidate: Annotated[str, typer.Argument(help="A candidate, e.g. 'refine-x.1', or a proposal: its last attempt.")],
) -> None:
    """Show what a candidate changes in the bank."""
    from .report import diff_text

    typer.echo(diff_text(_found(run), candidate))


@app.command("report")
def report(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="Write it here; default: into the job's folder.")] = None,
) -> None:
    """Write the report of an evolution, finished or not: one HTML file that needs no network. Prints its path."""
    from ..simulator.profiles import write_text
    from .record import REPORT
    from .report import report_html

    found = _found(run)
    target = out or found.folder / REPORT
    write_text(target, report_html(found))
    typer.echo(target)


def _finish(job: Job, record: JobRecord) -> None:
    for note in record.notes:
        console.print(note, style="yellow", markup=False)
    if record.state is JobState.FAILED:
        raise JobError(f"{record.error} (job {job.id})")
    if record.result is None:
        console.print(f"Cancelled. `{RESUME} {job.id}` goes on from here.")
        raise typer.Exit(1)
    result = record.result
    verdicts = ", ".join(f"{n} {ruling}" for ruling, n in sorted(result["verdicts"].items())) or "none"
    console.print(
        f"{result['proposals']} proposals, {result['attempts']} attempts ({verdicts}); {len(result['kept'])} kept. "
        f"Report: {result['report']}",
        markup=False,
    )
    if result["kept"] and result["bank_version"] is None:
        console.print(f"To commit: esc-skills bank commit {job.folder / 'bank'} -m {job.id}", markup=False)
    typer.echo(result["bank_version"] or job.id)


def _where(record: JobRecord) -> str:
    if record.result is not None:
        return f"{len(record.result['kept'])} kept of {record.result['attempts']} attempts, {record.result['report']}"
    total = "" if record.progress.total is None else f"/{record.progress.total}"
    return record.error or f"{record.phase} {record.progress.done}{total}"


def _scores(run: "EvolveRun") -> Iterator[str]:
    so_far = run.progress()
    if so_far.baseline is not None:
        it = so_far.baseline
        yield f"parent bank: mean {it.mean.value:.1f} of {it.talks} talks, {it.success} Success, {it.failure} Failure"
    if so_far.proposals is not None:
        verdicts = ", ".join(f"{n} {ruling}" for ruling, n in sorted(so_far.verdicts.items())) or "no verdict yet"
        yield f"{so_far.tried} of {so_far.proposals} proposals tried: {verdicts}"


def _bank(bank: Path | None) -> Path | None:
    from ..skills_bank.settings import Settings

    return bank or Settings().bank_dir


def _found(name: str) -> "EvolveRun":
    from .record import find_evolution

    return find_evolution(name, JobSettings().jobs())
