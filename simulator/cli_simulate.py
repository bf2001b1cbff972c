"""Commands `esc-skills simulate`, `replay` and `compare`. `server/__main__.py` mounts them, late."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .casting import AGENTS, AgentName, CastRecipe, Maker

if TYPE_CHECKING:
    from ..pipeline.llm.settings import LLMSettings
    from .engine import Engine
    from .profiles import ProfileSet
    from .run import RunFolder, RunSettings
    from .session import Transcript
    from .sources import BankRef

simulate_app = typer.Typer(help="Hold conversations between a support agent and simulated seekers.")
replay_app = typer.Typer(help="Show one recorded conversation turn by turn.")
compare_app = typer.Typer(help="Compare two runs talk by talk.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Run = Annotated[str, typer.Argument(help="A run: its folder, its id, or the beginning of its id.")]
EngineName = Literal["local", "ray"]


@simulate_app.command()
def simulate(
    profiles: Annotated[str, typer.Option(help="'evolution', 'evaluation', or a JSONL file (SAGE's and RLVER's too).")],
    agent: Annotated[str, typer.Option(help=f"Who supports: {', '.join(AGENTS)}.")] = "bank",
    supporter: Annotated[Maker, typer.Option(help="Who words the agent's replies: our lines, or a model.")] = "local",
    seeker: Annotated[Maker, typer.Option(help="Who plays the seekers: the local model, or a language model.")] = (
        "local"
    ),
    n: Annotated[int | None, typer.Option(min=1, help="Conversations; default: one a profile.")] = None,
    seed: Annotated[int, typer.Option(help="Runs on one seed draw the same numbers for the same seeker.")] = 7,
    rules: Annotated[str, typer.Option(help="Emotion rules: 'sage' or 'rlver'.")] = "sage",
    bank: Annotated[Path | None, typer.Option(help="Bank folder (ESC_BANK_DIR, else the shipped bank).")] = None,
    bank_version: Annotated[str | None, typer.Option(help="A version of that bank; default: the active one.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes of a local run; default: one a core.")] = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Talks at a time of a run that asks models.")] = 64,
    engine: Annotated[EngineName, typer.Option(help="Where: this machine, or a Ray cluster (local casts).")] = "local",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default: in ESC_RUNS_DIR, named by its settings.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Take the run up where it was left.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and cost; hold no talk.")] = False,
    cap_calls: Annotated[int | None, typer.Option(min=0, help="Most model calls (ESC_LLM_CAP_CALLS).")] = None,
    cap_tokens: Annotated[int | None, typer.Option(min=0, help="Most tokens (ESC_LLM_CAP_TOKENS).")] = None,
    cap_usd: Annotated[float | None, typer.Option(min=0, help="Most money (ESC_LLM_CAP_USD).")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold conversations between a support agent and simulated seekers, and sum them up."""
    from .engine import one_thread_each
    from .profiles import load_profiles
    from .readings import readings_file
    from .run import JOURNAL, RunsSettings, settle_run
    from .sources import settle_bank

    one_thread_each()
    if agent not in AGENTS:
        raise typer.BadParameter(f"{agent!r} is no agent; use one of {', '.join(AGENTS)}.", param_hint="--agent")
    found = load_profiles(profiles)
    for skip in found.skipped:
        typer.echo(f"left out: {skip.where}: {skip.reason}", err=True)
    ref = settle_bank(bank or _bank_dir(), bank_version)
    settings = _llm_settings(cap_calls, cap_tokens, cap_usd) if "llm" in (supporter, seeker) else None
    recipe = _recipe(agent, supporter, seeker, rules, ref, settings)
    run = settle_run(recipe, found, n=n, seed=seed)
    folder = out or RunsSettings().runs() / run.id
    if dry_run:
        _tell_plan(folder, run, recipe, found, settings)
        return
    readings = readings_file() if engine == "local" else None
    recipe = _with(recipe, journal=folder / JOURNAL, run=run.id, readings=readings)
    made = _engine(engine, workers, in_flight, recipe)
    done = asyncio.run(_simulate(folder, run, recipe, found, made, resume=resume))
    _finish(done, as_json=as_json)


@replay_app.command()
def replay(
    run: Run,
    id: Annotated[str, typer.Argument(help="Id of a profile of the run.")],
    repeat: Annotated[int, typer.Option(min=0, help="Which talk with it, from 0.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show one recorded conversation turn by turn, with emotion, thoughts and skills."""
    from rich.console import Console

    from .replay import find_talk, show

    talk = find_talk(_find(run), id, repeat)
    if as_json:
        typer.echo(talk.model_dump_json(indent=1))
    else:
        show(Console(), talk)


@compare_app.command()
def compare(
    run_a: Run,
    run_b: Run,
    write: Annotated[Path | None, typer.Option(help="Also write the tables into a page, e.g. docs/simulation.md.")] = (
        None
    ),
    section: Annotated[
        str | None, typer.Option(help="Which tables of the page these are; default: the name of the profiles.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs talk by talk: B minus A, with interval and exact sign-flip p, per stratum."""
    from .compare import compare as compared
    from .compare import page

    found = compared(_find(run_a), _find(run_b))
    typer.echo(found.model_dump_json(indent=1) if as_json else page(found))
    if write is not None:
        replace_section(write, section or Path(found.profiles).stem, page(found))


def replace_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the marks of a section of a page.

    Raises:
        InputError: The page has no such section.
    """
    from ..skills_bank.errors import InputError
    from .profiles import write_text

    begin, end = f"<!-- compare: {name} -->", f"<!-- end of compare: {name} -->"
    before, _, rest = (path.read_text(encoding="utf-8") if path.is_file() else "").partition(begin)
    after = rest.partition(end)[2]
    if not after:
        raise InputError(f"{path} has no place for these tables; put {begin} and {end} into it, a line each.")
    write_text(path, f"{before}{begin}\n{text}\n{end}{after}")


def _bank_dir() -> Path | None:
    from ..skills_bank.settings import Settings

    return Settings().bank_dir


def _llm_settings(calls: int | None, tokens: int | None, usd: float | None) -> "LLMSettings":
    from ..pipeline.llm.settings import LLMSettings

    caps = {"llm_cap_calls": calls, "llm_cap_tokens": tokens, "llm_cap_usd": usd}
    return LLMSettings().model_copy(update={name: cap for name, cap in caps.items() if cap is not None})


def _recipe(
    agent: str, supporter: Maker, seeker: Maker, rules: str, ref: "BankRef", settings: "LLMSettings | None"
) -> CastRecipe:
    from ..skills_bank.settings import Settings

    name: AgentName = next(each for each in AGENTS if each == agent)
    recipe = CastRecipe(name, ref, supporter, seeker, rules, Settings().region)
    if settings is None:
        return recipe
    return _with(recipe, models={role: settings.model_for(role) for role in recipe.roles()}, llm=settings)


def _with(recipe: CastRecipe, **changes: object) -> CastRecipe:
    from dataclasses import replace

    return replace(recipe, **changes)  # pyright: ignore[reportArgumentType]


def _engine(name: EngineName, workers: int | None, in_flight: int, recipe: CastRecipe) -> "Engine":
    if name == "ray":
        from ..pipeline.ray_engine import RaySettings
        from .ray_engine import RayEngine

        chosen = RaySettings()
        return RayEngine(chosen.ray_address, chosen.ray_in_flight)
    from .engine import LocalEngine

    return LocalEngine(workers or _cores(), in_flight)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


async def _simulate(
    folder: Path, run: "RunSettings", recipe: CastRecipe, found: "ProfileSet", engine: "Engine", *, resume: bool
) -> "RunFolder":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from .emotion import is_failure, is_success
    from .run import simulate as run_it

    told = {"n": 0, "points": 0, "success": 0, "failure": 0}
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=run.n)

        def advance(talk: "Transcript") -> None:
            told["n"] += 1
            told["points"] += talk.points
            told["success"] += is_success(talk.points)
            told["failure"] += is_failure(talk.points)
            mean = told["points"] / told["n"]
            text = f"mean {mean:.1f}, Success {told['success']}, Failure {told['failure']}"
            bar.update(task, advance=1, description=text)

        return await run_it(folder, run, recipe, found, engine, resume=resume, on_progress=advance)


def _finish(done: "RunFolder", *, as_json: bool) -> None:
    from .summary import PLOT, tables, write_summary

    found = write_summary(done)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    typer.echo(tables(found))
    typer.echo(f"{done.folder} (transcripts, summary, {PLOT})")
    typer.echo(f"One talk: esc-skills replay {done.folder} PROFILE; against another run: esc-skills compare A B")


def _tell_plan(
    folder: Path, run: "RunSettings", recipe: CastRecipe, found: "ProfileSet", settings: "LLMSettings | None"
) -> None:
    from .run import tasks_of
    from .summary import described

    typer.echo(described(run))
    typer.echo(f"into {folder}")
    if settings is None:
        typer.echo("no call to a language model, no network")
        return
    from ..pipeline.llm.budget import Caps
    from .rehearsal import rehearse

    plan = asyncio.run(rehearse(recipe, tasks_of(found, run.n, run.seed), settings))
    caps = Caps(calls=settings.llm_cap_calls, tokens=settings.llm_cap_tokens, usd=settings.llm_cap_usd)
    typer.echo(plan.text(caps))
    typer.echo("at most: every talk is counted to its last round; most end sooner")


def _find(name: str) -> "RunFolder":
    from .run import RunsSettings, find_run

    return find_run(name, RunsSettings().runs())
