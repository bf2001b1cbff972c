"""`esc-skills bank ...`: look at the bank, check it, and move between its versions."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ..skills_bank.errors import BankError, SkillNotFound

if TYPE_CHECKING:
    from ..skills_bank.bank import Bank
    from ..skills_bank.place import BankPlace

bank_app = typer.Typer(help="Look at the bank, check it, and move between its versions.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Version = Annotated[str, typer.Argument(help="A version of `esc-skills bank history`, or its beginning, e.g. 'v0002'.")]
Reason = Annotated[str, typer.Option("--reason", "-m", help="Why, for the history.")]


@bank_app.command("list")
def list_skills(as_json: AsJson = False) -> None:
    """List the skills that are served."""
    bank = _bank()
    if as_json:
        lines = [
            {"name": name, "version": skill.version, "states": list(skill.states)}
            for name, skill in bank.skills.items()
        ]
        typer.echo(json.dumps({"bank_version": bank.version, "skills": lines}, indent=2))
        return
    width = max(map(len, bank.skills))
    for name, skill in bank.skills.items():
        typer.echo(f"{name:<{width}}  {skill.description}")
    typer.echo(f"{len(bank.skills)} skills, bank {bank.version}")


@bank_app.command()
def show(name: Annotated[str, typer.Argument(help="Skill name.")]) -> None:
    """Print a skill's SKILL.md."""
    bank = _bank()
    if name not in bank.texts:
        raise SkillNotFound(name, bank.skills)
    typer.echo(bank.texts[name].rstrip("\n"))


@bank_app.command()
def path() -> None:
    """Tell where the bank lies and where to edit it."""
    place = _place()
    store = place.store()
    typer.echo(f"kind     {place.kind}")
    typer.echo(f"served   {store.active_folder()}")
    if place.kind == "shipped":
        typer.echo(f"edit     nothing yet: `esc-skills bank init` copies the bank to {place.root}")
        return
    typer.echo(f"edit     {store.working}")
    if place.kind == "store":
        typer.echo(f"stable   {place.root / 'current'}   (point other hosts here)")


@bank_app.command()
def validate(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Skills or folders of skills; default: the bank as it lies on disk.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Also check what the shipped bank promises.")] = False,
) -> None:
    """Print every problem, each with its file, field and fix; exit 1 when there is one."""
    from ..skills_bank.validate import problems_at

    problems = [problem for path in paths or [_edited()] for problem in problems_at(path, strict=strict)]
    for problem in problems:
        typer.echo(str(problem))
    typer.echo(f"{len(problems)} problem(s)." if problems else "No problems.")
    raise typer.Exit(1 if problems else 0)


@bank_app.command()
def history(
    as_json: AsJson = False,
    switches: Annotated[bool, typer.Option(help="Every switch instead of every version.")] = False,
) -> None:
    """List the versions, newest first; the active one is starred."""
    store = _place().store()
    if switches:
        for switch in store.switches():
            typer.echo(
                switch.model_dump_json()
                if as_json
                else f"{switch.at}  {switch.event:<9}  {switch.version}  {switch.reason}"
            )
        return
    versions = store.history()
    if as_json:
        typer.echo(json.dumps([info.model_dump() for info in versions], indent=2))
        return
    for info in versions:
        star = "*" if info.active else " "
        typer.echo(
            f"{star} {info.version}  {info.created}  {info.skills} skills  from {info.parent or '-'}  {info.note}"
        )


@bank_app.command()
def diff(
    before: Version, after: Annotated[str | None, typer.Argument(help="Default: the active version.")] = None
) -> None:
    """Show what differs between two versions."""
    store = _place().store()
    found = store.diff(_full(before), store.active() if after is None else _full(after))
    for name in found.added:
        typer.echo(f"added    {name}")
    for name in found.removed:
        typer.echo(f"removed  {name}")
    for name, text in found.changed.items():
        typer.echo(f"changed  {name}\n{text}")
    if not (found.added or found.removed or found.changed):
        typer.echo("No difference.")


@bank_app.command()
def rollback(version: Version) -> None:
    """Make a version the active one again; the others stay in the history."""
    info = _place().store().rollback(_full(version))
    typer.echo(f"Active: {info.version} ({info.skills} skills).")


@bank_app.command()
def init(
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder of skills to begin with; default: the shipped bank.")
    ] = None,
) -> None:
    """Copy a bank to the bank folder (ESC_BANK_DIR), where it can be edited and has versions."""
    place = _place()
    if source is not None and not source.is_dir():
        raise BankError(f"--from: there is no folder {source}.")
    info = place.store().init_from(source.resolve() if source else place.shipped)
    typer.echo(f"{info.version} with {info.skills} skills in {place.root}.")
    typer.echo(f"Edit the skills in {place.store().working}; a running server takes them over at once.")


@bank_app.command()
def commit(
    folder: Annotated[Path, typer.Argument(help="Folder of all skills of the new version.")],
    reason: Reason = "imported",
) -> None:
    """Make a folder of skills the new active version."""
    info = _place().store().commit(folder.resolve(), reason=reason)
    typer.echo(f"Active: {info.version} ({info.skills} skills).")


@bank_app.command("import")
def import_skills(
    folders: Annotated[list[Path], typer.Argument(help="Skills, or folders of skills, to add or replace.")],
    reason: Reason = "imported",
) -> None:
    """Add skills to the active version, or replace those of the same name."""
    from ..skills_bank.files import read_bank_files, read_skill_files
    from ..skills_bank.validate import SKILL_FILE

    store = _place().store()
    parent, skills = store.active(), read_bank_files(store.active_folder())
    for folder in (folder.resolve() for folder in folders):
        single = (folder / SKILL_FILE).is_file()
        found = {folder.name: read_skill_files(folder)} if single else read_bank_files(folder)
        if not found:
            raise BankError(f"{folder} holds no skill. Name a folder with a {SKILL_FILE}, or a folder of such folders.")
        skills |= found
    # A bank not yet written to gets its first version in the same call, so its version cannot be named beforehand.
    info = store.commit(skills, reason=reason, parent=parent if store.initialised else None)
    typer.echo(f"Active: {info.version} ({info.skills} skills).")


@bank_app.command()
def export(
    target: Annotated[Path, typer.Argument(help="New or empty folder.")],
    version: Annotated[str | None, typer.Option(help="Default: the active one.")] = None,
) -> None:
    """Copy the skills of a version, e.g. for a host that reads skill folders itself."""
    number = _place().store().export(target, None if version is None else _full(version))
    typer.echo(f"{number} skills in {target}.")


@bank_app.command()
def adopt(
    reason: Reason = "edited by hand",
    keep_mine: Annotated[
        bool, typer.Option(help="Where a newer version changed the same skill, take the edit.")
    ] = False,
) -> None:
    """Make a version of the edits in the working folder (a running server does so by itself)."""
    adoption = _place().store().adopt_working(reason, keep_mine=keep_mine)
    for problem in adoption.problems:
        typer.echo(str(problem))
    typer.echo(f"Active: {adoption.version.version}." if adoption.version else "No new version.")
    raise typer.Exit(1 if adoption.problems else 0)


@bank_app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Throw the edits in the working folder away."""
    store = _place().store()
    if not yes:
        typer.confirm(f"Throw away the edits in {store.working}?", abort=True)
    store.reset_working()
    typer.echo(f"{store.working} is as in {store.active()}.")


@bank_app.command()
def seal(
    folder: Annotated[Path, typer.Argument(help="Folder of skills.")],
    version: Annotated[str, typer.Option(help="Name of the version, e.g. 'S0'.")],
    provenance: Annotated[str, typer.Option(help="From what, and how, the skills were made.")],
) -> None:
    """Write the `bank.json` of a folder of skills, e.g. of the shipped bank after an edit."""
    from ..skills_bank.bank import seal as write

    manifest = write(folder, version, provenance)
    typer.echo(f"{folder / 'bank.json'}: {manifest.version}, {len(manifest.skills)} skills, hash {manifest.hash[:12]}.")


@bank_app.command()
def index(
    prebuilt: Annotated[
        Path | None,
        typer.Option(help="Write the vectors of the shipped banks to this file instead, to ship them with it."),
    ] = None,
) -> None:
    """Bring the LanceDB table of the bank up to date (a running server does so by itself)."""
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.index import FacetIndex, write_prebuilt

    encoder, place = Encoder.load(), _place()
    if prebuilt is not None:
        from ..skills_bank.bank import Bank
        from ..skills_bank.place import shipped_bank
        from ..skills_bank.settings import Shipped

        banks = [Bank.load(shipped_bank(name)) for name in get_args(Shipped)]
        typer.echo(f"{prebuilt}: {write_prebuilt(banks, encoder, prebuilt)} facets.")
        return
    embedded = FacetIndex.open(place.index_folder(), encoder).sync(_bank(place))
    typer.echo(f"{place.index_folder()} is up to date; {embedded} text(s) were embedded.")


def _place() -> "BankPlace":
    from ..skills_bank.place import find_bank
    from ..skills_bank.settings import Settings

    return find_bank(Settings().bank_dir)


def _bank(place: "BankPlace | None" = None) -> "Bank":
    """Return what a server would serve; unlike a server, take no hand edits over."""
    from ..skills_bank.bank import Bank

    store = (place or _place()).store()
    bank, problems = Bank.load_lenient(store.active_folder())
    for problem in problems:
        typer.echo(f"esc-skills: {problem}", err=True)
    return bank


def _edited() -> Path:
    place = _place()
    return place.shipped if place.kind == "shipped" else place.store().working


def _full(version: str) -> str:
    """Return the version that begins with `version`, if there is one and no other."""
    found = [info.version for info in _place().store().history() if info.version.startswith(version)]
    return found[0] if len(found) == 1 else version
