"""Commands `esc-skills eval annotator` and `esc-skills fit change`; `cli_eval.py` puts them among its own."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

Shared = Annotated[
    Path, typer.Option(help="Folder that holds data/esconv and data/annotations.", envvar="ESC_SHARED_DIR")
]
SHARED = Path("../shared")


def eval_annotator(
    shared: Shared = SHARED,
    write: Annotated[Path | None, typer.Option(help="Also write the page, e.g. docs/annotators.md.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With --write: folder for the figures the annotator states; default: in the package."),
    ] = None,
) -> None:
    """Measure the local annotator on `valid` (and on `failed`, which the encoder has seen).

    With --write the page is written, and the figures that the annotator states of itself in every build's report.
    """
    from .annotator_eval import evaluate
    from .annotator_report import about, render
    from .local_annotator import FIGURES_FILE, LocalFiguresFile, data_folder
    from .local_fit import put

    report = evaluate(shared)
    typer.echo(report.model_dump_json(indent=1))
    if write is None:
        return
    put(write, render(report, date.today()).encode())
    stated = LocalFiguresFile(about=about(report), report=report.model_dump(mode="json"))
    put((out or data_folder()) / FIGURES_FILE, stated.model_dump_json(indent=1).encode() + b"\n")


def fit_change_command(
    shared: Shared = SHARED,
    out: Annotated[Path | None, typer.Option(help="Folder for the fitted files; default: in the package.")] = None,
) -> None:
    """Fit what the local annotator adds to the encoder: response change, thresholds (needs the `train` extra)."""
    from .local_annotator import data_folder
    from .local_fit import fit_local

    folder = out or data_folder()
    card = fit_local(shared, folder)
    typer.echo(card.model_dump_json(indent=1))
    typer.echo(
        f"Written into {folder}. Measure it with `esc-skills eval annotator --write docs/annotators.md`.", err=True
    )
