"""Commands `esc-skills sage ...` and `esc-skills profiles ...`. `server/__main__.py` mounts them, late."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .profiles import ProfileSet
    from .sage_files import Figures, Replay

sage_app = typer.Typer(help="Recorded SAGE runs: replay them and count their figures.", no_args_is_help=True)
profiles_app = typer.Typer(help="Profiles of simulated seekers: compose, check, show, report.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
PartsFolder = Annotated[Path | None, typer.Option("--parts", help="Folder of parts; default: those of the package.")]


@sage_app.callback()
def _sage() -> None:
    """Recorded SAGE runs: replay them and count their figures."""


@sage_app.command("score")
def sage_score(
    files: Annotated[list[Path], typer.Argument(help="Result files of SAGE as published, JSON lines.")],
    rules: Annotated[str, typer.Option(help="Emotion rules: 'sage' or 'rlver'.")] = "sage",
    as_json: AsJson = False,
) -> None:
    """Print mean, Success and Failure of recorded runs, replayed turn by turn; exit 1 when a record deviates."""
    from .emotion import rules_named
    from .sage_files import replay

    replays = [replay(file, rules_named(rules)) for file in files]
    if as_json:
        typer.echo("[" + ",\n".join(one.model_dump_json(indent=1) for one in replays) + "]")
    else:
        for one in replays:
            _show_replay(one)
    raise typer.Exit(1 if any(one.deviations or one.skipped for one in replays) else 0)


@profiles_app.command("compose")
def profiles_compose(
    out: Annotated[Path | None, typer.Option(help="Folder to write into; default: in the package.")] = None,
    parts: PartsFolder = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the composition; default: that of the shipped ones.")
    ] = None,
) -> None:
    """Compose the evolution and evaluation profiles from the parts, check them, and write both files."""
    from ..skills_bank.errors import InputError
    from .compose import SEED, check, compose_shipped
    from .parts import load_parts, shortfalls
    from .profiles import dumped, profiles_folder, write_text

    found = load_parts(parts)
    sets = compose_shipped(found, SEED if seed is None else seed)
    if problems := [*shortfalls(found), *check([p for one in sets for p in one.profiles], found)]:
        raise InputError(f"{len(problems)} problems, nothing was written:\n" + "\n".join(problems))
    folder = out or profiles_folder()
    for one in sets:
        write_text(folder / f"{one.name}.jsonl", dumped(one.profiles))
        typer.echo(f"{folder / one.name}.jsonl: {len(one.profiles)} profiles, digest {one.digest}")


@profiles_app.command("check")
def profiles_check(
    names: Annotated[list[str] | None, typer.Argument(help="'evolution', 'evaluation' or files of profiles.")] = None,
    parts: PartsFolder = None,
) -> None:
    """Check parts and profiles; exit 1 when something is wrong. Without names: all that ships."""
    from .compose import check, compose_shipped
    from .parts import load_parts, shortfalls
    from .profiles import SPLITS, load_profiles

    found = load_parts(parts)
    sets = [load_profiles(name) for name in names or SPLITS]
    problems = shortfalls(found)
    for one in sets:
        problems += [f"{skip.where}: left out: {skip.reason}" for skip in one.skipped]
        typer.echo(f"{one.name}: {len(one.profiles)} profiles, {len(one.skipped)} left out, digest {one.digest}")
    problems += check([p for one in sets for p in one.profiles if p.source == "esc-skills"], found)
    if not names:
        fresh = {one.name: one.digest for one in compose_shipped(found)}
        problems += [f"{one.name}: not what the parts give" for one in sets if fresh[one.name] != one.digest]
    for problem in problems:
        typer.echo(problem, err=True)
    typer.echo(f"{len(problems)} problems")
    raise typer.Exit(1 if problems else 0)


@profiles_app.command("show")
def profiles_show(
    name: Annotated[str, typer.Argument(help="'evolution', 'evaluation' or a file of profiles.")],
    id: Annotated[str | None, typer.Argument(help="Id of a profile; without it: one line a profile.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one profile as the seeker gets it, or list the profiles of a file."""
    from .needs import CHARACTER_INFO, NEED_INFO
    from .profiles import dumped, load_profiles

    found = load_profiles(name)
    if id is None:
        _list(found, as_json)
        return
    profile = found.get(id)
    if as_json:
        typer.echo(dumped([profile]), nl=False)
        return
    risk = f", risk hint: {profile.risk}" if profile.risk else ""
    typer.echo(
        f"{profile.id} ({profile.source}, {profile.language}): {profile.scenario or 'scenario not given'}{risk}\n"
    )
    typer.echo(f"{profile.person.described()}\n\n{profile.scene.described()}\n")
    typer.echo(f"Character: {CHARACTER_INFO[profile.character].name} ({', '.join(profile.traits)})")
    typer.echo(f"Hidden need: {NEED_INFO[profile.need].name}. {profile.wish}")
    typer.echo(f"First line: {profile.first_line or '(the seeker opens by itself)'}")


@profiles_app.command("report")
def profiles_report(
    write: Annotated[Path | None, typer.Option(help="Also write the page, e.g. docs/profiles.md.")] = None,
    parts: PartsFolder = None,
) -> None:
    """Print what the shipped profiles cover and how alike they are."""
    from ..skills_bank.encoder import Encoder
    from .parts import load_parts
    from .profiles import SPLITS, load_profiles, write_text
    from .profiles_report import render

    encoder = Encoder.load(threads=2)
    page = render([load_profiles(split) for split in SPLITS], load_parts(parts), encoder, encoder.version)
    typer.echo(page)
    if write is not None:
        write_text(write, page)


def _list(found: "ProfileSet", as_json: bool) -> None:
    from .profiles import dumped

    if as_json:
        typer.echo(dumped(found.profiles), nl=False)
        return
    for p in found.profiles:
        typer.echo(f"{p.id}  {p.character}  {p.need}  {p.scene.id or '-'}  {p.person.name}, {p.person.age}")
    for skip in found.skipped:
        typer.echo(f"{skip.where}: left out: {skip.reason}", err=True)
    typer.echo(f"{len(found.profiles)} profiles, {len(found.skipped)} left out, digest {found.digest}", err=True)


def _show_replay(one: "Replay") -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    out = Console()
    out.print(f"{one.file} ({one.rules} rules)", style="bold")
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    for name in ("talks", "mean", "Success", "Failure", "turns", "change", "negative"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("all", *_cells(one.figures), end_section=True)
    for need, figures in one.by_need.items():
        table.add_row(need, *_cells(figures))
    table.add_section()
    for character, figures in one.by_character.items():
        table.add_row(character, *_cells(figures))
    out.print(table)
    ends = ", ".join(f"{end} {n}" for end, n in one.ends.items())
    out.print(f"Ends: {ends}. Changes of zero: {one.figures.zero_share:.1%}.")
    turns = one.figures.turns
    out.print(f"Replayed {turns} scored turns: {len(one.deviations)} deviations; ", end="")
    out.print(f"{one.turns_with_state} of the turns name their state as well.")
    for d in one.deviations:
        where = f", message {d.message}" if d.message else ""
        out.print(f"  {d.talk}{where}: {d.what}: {d.reason}", markup=False, soft_wrap=True)
    for what, ids in one.oddities.items():
        out.print(f"Of form only: {what} in {len(ids)} talks: {', '.join(ids)}", markup=False, soft_wrap=True)
    for skip in one.skipped:
        out.print(f"Left out: {skip.where}: {skip.reason}", markup=False, soft_wrap=True)


def _cells(figures: "Figures") -> tuple[str, ...]:
    return (
        str(figures.talks),
        f"{figures.mean:.2f}",
        str(figures.success),
        str(figures.failure),
        str(figures.turns),
        f"{figures.mean_change:+.2f}",
        f"{figures.negative_share:.0%}",
    )
