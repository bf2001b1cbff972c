"""Commands `esc-skills eval ...`, `fit ...` and `train`. Mounted by `server/__main__.py`, which imports it late."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ..skills_bank.settings import Shipped
from .cli_annotator import eval_annotator, fit_change_command

if TYPE_CHECKING:
    from ..skills_bank.bank import Bank
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.index import Facets

eval_app = typer.Typer(help="Measure what is shipped; the figures of docs/.", no_args_is_help=True)
fit_app = typer.Typer(help="Fit what selection knows, on train + failed.", no_args_is_help=True)
train_app = typer.Typer(help="Train the encoder (needs the `train` extra).", invoke_without_command=True)

eval_app.command("annotator")(eval_annotator)
fit_app.command("change")(fit_change_command)

Shared = Annotated[
    Path, typer.Option(help="Folder that holds data/esconv and data/annotations.", envvar="ESC_SHARED_DIR")
]
Write = Annotated[Path | None, typer.Option(help="Also write the page to this file, e.g. docs/selection.md.")]
SHARED = Path("../shared")
TEST_SET = Path("tests/data/risk_messages.jsonl")
FIGURES = ("<!-- figures -->", "<!-- end of figures -->")
BANKS = ("<!-- figures: eval banks -->", "<!-- end of figures: eval banks -->")
OFF_TOPIC = Path("tests/data/off_topic.txt")


def _shipped(name: Shipped = "S0") -> "tuple[Bank, Facets, Encoder]":
    """Load a bank in the package, its facets and the encoder."""
    from tempfile import mkdtemp

    from ..skills_bank.bank import Bank
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.index import FacetIndex
    from ..skills_bank.place import shipped_bank

    encoder = Encoder.load(threads=2)
    bank = Bank.load(shipped_bank(name))
    # A folder of its own: the figures must not depend on, nor change, a user's index.
    return bank, FacetIndex.open(Path(mkdtemp(prefix="esc-eval-")), encoder).matrix(bank), encoder


@eval_app.command("select")
def eval_select(shared: Shared = SHARED, write: Write = None) -> None:
    """Print hit@k and outcome lift on `valid`, on gold and on predicted states (from the root of a checkout)."""
    from ..skills_bank.outcome import OutcomeModel
    from ..skills_bank.ranking import Weights
    from .select_eval import evaluate
    from .select_report import render

    bank, facets, encoder = _shipped()
    weights = Weights.load()
    lines = OFF_TOPIC.read_text(encoding="utf-8").splitlines()
    views, abstained = evaluate(shared, bank, facets, encoder, OutcomeModel.load(), weights, lines)
    _put(render(views, abstained, bank, encoder.version, weights, date.today()), write)


@eval_app.command("banks")
def eval_banks(shared: Shared = SHARED, write: Write = None) -> None:
    """Print hit@k and outcome lift of S0 and S1 on `valid`; --write puts them between the page's `banks` marks."""
    from .banks_eval import beside

    loaded = {name: _shipped(name) for name in get_args(Shipped)}
    encoder = next(iter(loaded.values()))[2]
    table = beside(shared, {name: found[:2] for name, found in loaded.items()}, encoder)
    if write is None:
        typer.echo(table)
        return
    page = write.read_text(encoding="utf-8")
    begin, end = page.index(BANKS[0]) + len(BANKS[0]), page.index(BANKS[1])
    head = f"`esc-skills eval banks --write {write}`, {date.today().isoformat()}."
    _put(f"{page[:begin]}\n{head}\n\n{table}\n{page[end:]}", write)


@eval_app.command("risk")
def eval_risk(
    test_set: Annotated[Path, typer.Option("--set", help="JSONL of labelled messages.")] = TEST_SET,
    shared: Shared = SHARED,
    write: Write = None,
) -> None:
    """Print recall and false positives of the risk check, and how many calm turns it raises.

    With --write the figures replace what stands between the page's `figures` marks, e.g. in docs/safety.md.
    """
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.risk import RiskDesk
    from .risk_eval import calm_rate, calm_turns, evaluate, markdown

    desk = RiskDesk.load()
    calm = calm_turns(shared)
    parts = [f"Run of {date.today().isoformat()}.\n"]
    for encoder in (None, Encoder.load(threads=2)):
        raised = calm_rate(calm, desk, encoder)
        parts.append(markdown(evaluate(test_set, desk, encoder)))
        told = f"{raised.k} are raised ({raised.rate:.1%})"
        parts.append(f"Of {raised.n} unflagged seeker turns of `valid`, read singly, {told}.\n")
    figures = "\n".join(parts)
    if write is None:
        typer.echo(figures)
    else:
        page = write.read_text(encoding="utf-8")
        begin, end = page.index(FIGURES[0]) + len(FIGURES[0]), page.index(FIGURES[1])
        _put(f"{page[:begin]}\n\n{figures}\n{page[end:]}", write)


@eval_app.command("encoder")
def eval_encoder(shared: Shared = SHARED) -> None:
    """Print the encoder's figures on `valid` as JSON (docs/encoder.md tabulates them)."""
    from .train import evaluate

    typer.echo(evaluate(shared).model_dump_json(indent=2))


@fit_app.command("selection")
def fit_selection_command(shared: Shared = SHARED) -> None:
    """Fit the outcome model and the ranking on train + failed; writes into skills_bank/."""
    from importlib.resources import files

    from .select_fit import fit_selection

    bank, facets, encoder = _shipped()
    fitted = fit_selection(shared, bank, facets, encoder, Path(str(files("esc_skills.skills_bank"))))
    typer.echo(fitted.model_dump_json(indent=2))


@train_app.callback()
def train_command(
    shared: Shared = SHARED,
    out: Annotated[Path, typer.Option(help="Working folder of the run.")] = Path("var/encoder"),
    epochs: Annotated[float, typer.Option(help="Passes over the training items.")] = 3.0,
    seed: Annotated[int, typer.Option(help="Of batches, dropout and the heads' first weights.")] = 13,
    install: Annotated[bool, typer.Option(help="Also put the model into skills_bank/model/.")] = False,
) -> None:
    """Train, export, calibrate and measure the encoder."""
    from .train import install as put_in_place
    from .train import train

    report = train(shared, out, epochs=epochs, seed=seed)
    typer.echo(report.evaluation.model_dump_json(indent=2))
    typer.echo(f"Model in {out / 'model'}, card in {out / 'encoder.md'}.", err=True)
    if install:
        typer.echo(f"Installed in {put_in_place(out)}.", err=True)


@fit_app.command("risk")
def fit_risk_command(shared: Shared = SHARED) -> None:
    """Fit the encoder's risk head, the n-gram reader and how the signs are joined; writes into skills_bank/."""
    from .risk_fit import main

    main(shared)


def _put(text: str, path: Path | None) -> None:
    typer.echo(text)
    if path is not None:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
        temporary.replace(path)
