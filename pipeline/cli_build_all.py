"""Commands `esc-skills build all|jobs|status|cancel`: from raw dialogues to a served bank, as a job."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..skills_bank.errors import InputError, JobError
from .build_plan import (
    DEFAULT_SKILLS,
    BuildPlan,
    EngineName,
    Limits,
    Maker,
    Skills,
    llm_settings,
    plan_build,
    resume_build,
    start_build,
)
from .job_bar import run_with_bar
from .jobs import Job, JobRecord, JobSettings, JobState, all_jobs, cancel_job, find_job, go_gently, spawn

console = Console(stderr=True)
"""Progress and notes go to stderr; stdout is for ids, versions and JSON."""

JobId = Annotated[str, typer.Argument(help="Id of a job, as `build all` and `build jobs` print it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RESUME = "esc-skills build all --resume"
SECTION = "From raw dialogues to a bank"


def add_commands(app: typer.Typer) -> None:
    """Register the commands on `esc-skills build`."""
    for name, command in (("all", build_all), ("jobs", list_jobs), ("status", show_status), ("cancel", cancel)):
        app.command(name, rich_help_panel=SECTION)(command)


def build_all(
    corpus: Annotated[
        list[Path] | None, typer.Option(help="File or folder of raw dialogues; repeat for more. See docs/build.md.")
    ] = None,
    annotator: Annotated[Maker, typer.Option(help="Who labels: the shipped encoder, or a model.")] = "local",
    writer: Annotated[Maker, typer.Option(help="Who writes the skills: our library of lines, or a model.")] = "local",
    skills: Annotated[str, typer.Option(help="How many skills, or 'auto'.")] = str(DEFAULT_SKILLS),
    engine: Annotated[
        EngineName, typer.Option(help="Where annotation runs: here, or on a Ray cluster (docs/ray.md).")
    ] = "local",
    bank: Annotated[
        Path | None, typer.Option(help="Bank folder that gets the new version (ESC_BANK_DIR, the user's).")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Take this job up again instead of starting one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and cost; start nothing.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start it in the background and print its id.")] = False,
    max_calls: Annotated[int | None, typer.Option(min=0, help="Most calls to a model (ESC_LLM_CAP_CALLS).")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=0, help="Most tokens, in and out together.")] = None,
    max_usd: Annotated[float | None, typer.Option(min=0, help="Most money, in US dollars.")] = None,
    batches: Annotated[
        bool, typer.Option("--batches", help="Annotate through the Message Batches API: half price, within a day.")
    ] = False,
) -> None:
    """Build a bank from raw dialogues; the result is the active version of the bank, served at once.

    A build that was killed, failed or was cancelled goes on with `--resume JOB`, where it was.
    """
    limits, root = Limits(calls=max_calls, tokens=max_tokens, usd=max_usd), JobSettings().jobs()
    if resume is not None:
        if corpus:
            raise InputError("--resume takes the corpus from the job; leave --corpus out.")
        job, locks = resume_build(find_job(root, resume), limits)
    else:
        plan = plan_build(
            corpus or [],
            bank_dir=_bank(bank),
            annotator=annotator,
            writer=writer,
            skills=_skills(skills),
            engine=engine,
            limits=limits,
            batches=batches,
        )
        if dry_run:
            _tell_plan(plan, root)
            return
        job, locks = start_build(root, plan)
    if detach:
        spawn(job, locks)
        console.print(f"Started. `esc-skills build status {job.id}` says how far it is.")
        typer.echo(job.id)
        return
    go_gently()
    _finish(job, run_with_bar(job, locks, console, f"{RESUME} {job.id}"))


def list_jobs(as_json: AsJson = False) -> None:
    """List the jobs, newest first."""
    records = [job.look() for job in all_jobs(JobSettings().jobs())]
    if as_json:
        typer.echo("[" + ",\n".join(record.model_dump_json() for record in records) + "]")
        return
    for record in records:
        typer.echo(f"{record.id}  {record.state:<9}  {record.started[:19]}  {_where(record)}")
    console.print(f"{len(records)} job(s) in {JobSettings().jobs()}.")


def show_status(job: JobId, as_json: AsJson = False) -> None:
    """Say how a job stands; exit 1 where it failed."""
    record = find_job(JobSettings().jobs(), job).look()
    if as_json:
        typer.echo(record.model_dump_json(indent=1))
    else:
        typer.echo(f"{record.state}: {_where(record)}")
        for note in record.notes:
            typer.echo(f"mind: {note}")
    raise typer.Exit(1 if record.state is JobState.FAILED else 0)


def cancel(job: JobId) -> None:
    """Stop a job; what it has done is kept, and `build all --resume` goes on from there."""
    record = cancel_job(find_job(JobSettings().jobs(), job))
    typer.echo(f"{record.state}: {_where(record)}")


def _finish(job: Job, record: JobRecord) -> None:
    for note in record.notes:
        console.print(note, style="yellow", markup=False)
    if record.state is JobState.FAILED:
        raise JobError(f"{record.error} (job {job.id})")
    if record.result is None:
        console.print(f"Cancelled. `{RESUME} {job.id}` goes on from here.")
        raise typer.Exit(1)
    result = record.result
    left = f", {result['left_out']} situations left out" if result["left_out"] else ""
    console.print(
        f"{result['skills']} skills from {result['dialogues']} dialogues ({result['failed_dialogues']} failed{left}). "
        f"Report: {result['report']}",
        markup=False,
    )
    typer.echo(result["bank_version"])


def _where(record: JobRecord) -> str:
    if record.result is not None:
        return f"{record.result['skills']} skills, bank {record.result['bank_version']}, {record.result['report']}"
    total = "" if record.progress.total is None else f"/{record.progress.total}"
    return record.error or f"{record.phase} {record.progress.done}{total}"


def _skills(text: str) -> Skills:
    if text == "auto":
        return "auto"
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--skills: {text!r} is neither a number from 1 on nor 'auto'.")
    return int(text)


def _bank(bank: Path | None) -> Path | None:
    from ..skills_bank.settings import Settings

    return bank or Settings().bank_dir


def _tell_plan(plan: BuildPlan, root: Path) -> None:
    """Print what would be done, and what the calls to models would cost."""
    from .corpus import CorpusReader

    dialogues = sum(1 for _ in CorpusReader().read(*plan.paths))
    typer.echo(f"{dialogues} dialogues of {', '.join(file.short for file in plan.corpus)}")
    typer.echo(f"annotator {plan.annotator}, writer {plan.writer}, skills {plan.skills}, engine {plan.engine}")
    typer.echo(f"a new version of the bank {plan.bank}")
    if not plan.asks_models:
        typer.echo("no call to a language model, no network")
        return
    from .build_cost import estimate
    from .llm.settings import LLMSettings

    settings = llm_settings(plan, LLMSettings())
    typer.echo(estimate(plan, settings, root))
