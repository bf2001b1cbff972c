"""Commands `esc-skills simulator ...`: fit, calibrate and measure the local seeker. Mounted by `server/__main__.py`."""

from pathlib import Path
from typing import Annotated

import typer

simulator_app = typer.Typer(help="The local seeker: fit, calibrate, measure, check its lines.", no_args_is_help=True)

Shared = Annotated[Path, typer.Option(help="Folder that holds data/esconv and data/sage.", envvar="ESC_SHARED_DIR")]
Out = Annotated[Path | None, typer.Option(help="Folder for what is fitted; default: in the package.")]
SHARED = Path("../shared")


@simulator_app.command("fit")
def simulator_fit(out: Out = None) -> None:
    """Fit P(change | state, action) and P(next state | state, change) on the labels of train + failed."""
    from ..pipeline.labels import BUILD_SPLITS, load_labels
    from .profiles import write_text
    from .response import RESPONSE_FILE, data_folder, fit_response

    labels = [d for d in load_labels() if d.split in BUILD_SPLITS]
    model = fit_response(labels, "ESConv train + FailedESConv")
    path = (out or data_folder()) / RESPONSE_FILE
    write_text(path, model.model_dump_json() + "\n")
    typer.echo(
        f"{path}: {model.units:,} units, {model.turns:,} turns; strengths {model.change_strength:g} (change), "
        f"{model.next_strength:g} (next state). Now `esc-skills simulator calibrate`."
    )


@simulator_app.command("calibrate")
def simulator_calibrate(shared: Shared = SHARED, out: Out = None) -> None:
    """Fit need, mood, character and scale to the recorded SAGE runs and ESConv's surveys; writes seeker.json."""
    from ..pipeline.labels import BUILD_SPLITS, load_labels
    from .calibrate import CALIBRATION_FILE, calibrate
    from .judgement import PARAMS_FILE
    from .profiles import write_text
    from .recorded import load_runs
    from .response import ResponseModel, data_folder
    from .surveys import read_drops

    labels = [d for d in load_labels() if d.split in BUILD_SPLITS]
    drops = read_drops(shared, BUILD_SPLITS)
    recorded = load_runs(shared / "data" / "sage")
    found = calibrate(recorded, labels, ResponseModel.load(), drops, lambda text: typer.echo(text, err=True))
    folder = out or data_folder()
    write_text(folder / PARAMS_FILE, found.params.model_dump_json(indent=1) + "\n")
    write_text(folder / CALIBRATION_FILE, found.model_dump_json(indent=1, exclude={"params"}) + "\n")
    for name, fit in found.moments.items():
        typer.echo(
            f"{name:12s} recorded {fit.recorded.value:6.3f} [{fit.recorded.low:.3f}, {fit.recorded.high:.3f}], "
            f"simulated {fit.simulated:6.3f}"
        )
    typer.echo(f"Written into {folder}. Measure with `esc-skills simulator validity --write docs/simulator.md`.")


@simulator_app.command("validity")
def simulator_validity(
    shared: Shared = SHARED,
    write: Annotated[Path | None, typer.Option(help="Also write the page, e.g. docs/simulator.md.")] = None,
    words: Annotated[bool, typer.Option(help="Also let the known-groups agents talk, word by word.")] = True,
) -> None:
    """Measure the local emotion scorer on real dialogues and known groups, beside simple baselines."""
    from datetime import date

    from .calibrate import load_calibration
    from .groups import talk_through
    from .judgement import SeekerParams
    from .profiles import write_text
    from .simulator_report import render
    from .validity import measure

    params, calibration = SeekerParams.load(), load_calibration()
    found = measure(shared, params, lambda text: typer.echo(text, err=True))
    if words:
        found = found.model_copy(update={"words": talk_through(lambda text: typer.echo(text, err=True))})
    typer.echo(found.model_dump_json(indent=1))
    if write is not None:
        write_text(write, render(params, calibration, found, date.today()))


@simulator_app.command("lines")
def simulator_lines() -> None:
    """Check the lines of the local seeker; exit 1 when some are missing for a cell that occurs."""
    from .lines import LineBank
    from .response import ResponseModel

    bank = LineBank.load()
    missing = bank.shortfalls(ResponseModel.load().answers)
    with_slots = sum(bool(line.slots) for line in bank.lines)
    typer.echo(f"{len(bank.lines)} lines, {with_slots} of them with slots; facts for {len(bank.facts)} situations")
    for problem in missing:
        typer.echo(problem, err=True)
    raise typer.Exit(1 if missing else 0)
