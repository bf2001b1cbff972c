"""Commands `esc-skills build ...` and `esc-skills corpus ...`. Mounted late by `server/__main__.py`."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..skills_bank.errors import CorpusError, InputError
from .cli_build_all import add_commands
from .clusters import DEFAULT_CLUSTERS
from .fetch import BASE_URL

if TYPE_CHECKING:
    from .corpus import Corpus, Dialogue
    from .labels import DialogueLabels

build_app = typer.Typer(help="From dialogues to a bank, at once or stage by stage.", no_args_is_help=True)
corpus_app = typer.Typer(help="Fetch and check dialogue corpora.", no_args_is_help=True)
add_commands(build_app)
console = Console(stderr=True)
"""Progress and tables go to stderr; stdout is for paths and data."""

CORPUS_FILES = ("train.jsonl", "failed.jsonl")
DEFAULT_CACHE = Path("var") / "frozen-minilm.npz"
Shared = Annotated[
    Path | None, typer.Option(help="Folder that holds data/esconv (and data/annotations).", envvar="ESC_SHARED_DIR")
]
CorpusPaths = Annotated[
    list[Path] | None, typer.Option("--corpus", help="Your copy of ESConv: a file or folder; repeat for more.")
]
Bank = Annotated[Path, typer.Option(help="Folder of skills, each in a folder of its own with a SKILL.md.")]


@contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.advance(task, done)


def _read(shared: Path | None, corpus: list[Path] | None) -> "Corpus":
    from .corpus import read_corpus

    if corpus:
        return read_corpus(*corpus)
    if shared is None:
        raise InputError("No corpus given. Pass --corpus PATH (your copy of ESConv) or --shared DIR.")
    return read_corpus(*(shared / "data" / "esconv" / name for name in CORPUS_FILES))


def _joined(shared: Path | None, corpus: list[Path] | None) -> "tuple[list[DialogueLabels], dict[str, Dialogue]]":
    """Return the labels of the build that fit the corpus, and the corpus by id; say what does not fit."""
    from .corpus import misfits
    from .labels import BUILD_SPLITS, load_labels

    dialogues = _read(shared, corpus).by_id()
    labels = [d for d in load_labels() if d.split in BUILD_SPLITS]
    left_out = misfits(labels, dialogues)
    for reason, n in Counter(m.reason for m in left_out).items():
        console.print(f"{n} of {len(labels)} labelled dialogues left out: {reason}.", style="yellow")
    outside = {m.where for m in left_out}
    if len(outside) == len(labels):
        raise CorpusError("No labelled dialogue fits this corpus. Is it ESConv (train) or FailedESConv?")
    return [d for d in labels if d.id not in outside], dialogues


def _table(title: str, rows: Mapping[str, object]) -> None:
    table = Table(title=title, show_header=False)
    for name, value in rows.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.print(table)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    typer.echo(path)


@corpus_app.command("fetch")
def fetch_command(
    out: Annotated[Path, typer.Option(help="Folder to download into.")] = Path("var") / "esconv",
    base_url: Annotated[str, typer.Option(help="Where ESConv.json and FailedESConv.json lie.")] = BASE_URL,
) -> None:
    """Download ESConv from its public source (CC BY-NC 4.0)."""
    from .fetch import LICENCE, fetch

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} bytes"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("fetching", total=None)
        files = fetch(out, base_url, lambda n: progress.advance(task, n))
    for file in files:
        console.print(f"{file.path}: {file.dialogues} dialogues, {file.skipped} skipped, sha256 {file.sha256[:16]}…")
        typer.echo(file.path)
    console.print(LICENCE)


@corpus_app.command("check")
def check_command(
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders of files, in any known form.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, without any text.")] = False,
) -> None:
    """Read corpora and say what was found, skipped, masked and renamed."""
    from .corpus import misfits, read_corpus
    from .labels import load_labels

    corpus = read_corpus(*paths)
    dialogues = corpus.by_id()
    known = [d for d in load_labels() if d.id in dialogues]
    unfit = misfits(known, dialogues)
    found = {
        "dialogues": len(corpus.dialogues),
        "utterances": sum(len(d.utterances) for d in corpus.dialogues),
        "forms": corpus.forms,
        "skipped": [s.model_dump() for s in corpus.skipped],
        "skipped_by_reason": dict(Counter(s.reason for s in corpus.skipped)),
        "scrubbed": corpus.scrubbed,
        "renamed": corpus.renamed,
        "labelled": len(known),
        "labels_do_not_fit": [m.where for m in unfit],
    }
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    for skipped in corpus.skipped:
        console.print(f"skipped {skipped.where}: {skipped.reason}", style="yellow")
    rows = {k: v for k, v in found.items() if k not in {"skipped", "labels_do_not_fit"}}
    _table("Corpus", {k: v if isinstance(v, int) else json.dumps(v, ensure_ascii=False) for k, v in rows.items()})
    if unfit:
        console.print(f"{len(unfit)} dialogues do not fit the shipped labels.", style="yellow")


@build_app.command("units")
def units_command(
    shared: Shared = None,
    relabel: Annotated[
        bool, typer.Option("--relabel", help="Write the shipped labels file anew from SHARED/data/annotations.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the units as JSON lines to this file.")] = None,
) -> None:
    """Rebuild the intervention units from the labels (ids and codes; no corpus is needed)."""
    from .labels import load_labels, read_annotations, shipped_labels_path, write_labels
    from .report import count
    from .units import clear_units, units, units_of

    if relabel:
        if shared is None:
            raise InputError("--relabel needs --shared DIR, the folder that holds data/annotations.")
        labels = read_annotations(shared / "data" / "annotations")
        write_labels(labels, shipped_labels_path())
        load_labels.cache_clear()
        clear_units()
        typer.echo(shipped_labels_path())
    labels = load_labels()
    with _bar("units", len(labels)) as advance:
        for dialogue in labels:
            units_of(dialogue)
            advance(1)
    found = units(labels)
    _table("Units of train + failed", count(found).model_dump())
    if out:
        _write(out, "".join(unit.model_dump_json() + "\n" for unit in found))


@build_app.command("prototypes")
def prototypes_command(
    out: Annotated[Path | None, typer.Option(help="Write the prototypes as JSON to this file.")] = None,
) -> None:
    """Group the units by (state, action) and measure what followed."""
    from .prototypes import by_cell, prototypes
    from .units import units

    found = units()
    with _bar("prototypes", 1) as advance:
        kept = prototypes(found)
        advance(1)
    _table(
        "Prototypes", {"cells seen": len(by_cell(found)), "kept": len(kept), "units in them": sum(p.n for p in kept)}
    )
    if out:
        _write(out, json.dumps([p.model_dump(mode="json") for p in kept], indent=1) + "\n")


@build_app.command("clusters")
def clusters_command(
    shared: Shared = None,
    corpus: CorpusPaths = None,
    clusters: Annotated[int, typer.Option(min=1, help="How many situations.")] = DEFAULT_CLUSTERS,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for the stability figure.")] = 50,
    cache: Annotated[Path, typer.Option(help="Vectors are kept here (hashes, no text).")] = DEFAULT_CACHE,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads for the text vectors.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Default: the file that ships with the package.")] = None,
) -> None:
    """Group the prototypes into situations and measure how stable the grouping is (needs the `train` extra)."""
    from .clusters import cluster, sha256_of, shipped_clusters_path, stability
    from .features import Features, positions, seeker_lines
    from .frozen import embed
    from .labels import shipped_labels_path
    from .units import units

    labels, dialogues = _joined(shared, corpus)
    lines = seeker_lines(labels, dialogues)
    with _bar("seeker lines", len(lines)) as advance:
        vectors = embed(list(lines.values()), cache=cache, threads=threads, progress=advance)
    features = Features(dict(zip(lines, vectors, strict=True)), positions(labels), cache)
    found = units(labels)
    clustering = cluster(found, features, sha256_of(shipped_labels_path()), clusters)
    if resamples:
        with _bar("bootstrap", resamples) as advance:
            steady = stability(found, features, clusters, resamples=resamples, progress=advance)
        clustering = clustering.model_copy(update={"stability": steady})
        _table("Adjusted Rand index", {"median": steady.median, "5% to 95%": f"{steady.low} to {steady.high}"})
    for c in clustering.clusters:
        console.print(f"{c.id}  {len(c.prototypes):2} prototypes  {c.n:5} units  {c.label}")
    _write(out or shipped_clusters_path(), clustering.model_dump_json(indent=1) + "\n")


@build_app.command("dossiers")
def dossiers_command(
    out: Annotated[Path, typer.Option(help="Folder to write to; not one that git could commit.")],
    shared: Shared = None,
    corpus: CorpusPaths = None,
) -> None:
    """Write what the author of each skill needs, with snippets from your own copy of the corpus."""
    from .clusters import load_clusters
    from .dossiers import moments, refuse_tracked, write_dossiers
    from .labels import BUILD_SPLITS
    from .prototypes import prototypes
    from .units import units

    refuse_tracked(out)
    labels, dialogues = _joined(shared, corpus)
    clustering, found = load_clusters(), units()
    quotable = moments(labels, dialogues, BUILD_SPLITS)
    with _bar("dossiers", len(clustering.clusters)) as advance:
        paths = write_dossiers(out, clustering, prototypes(found), found, quotable, advance)
    for path in paths:
        typer.echo(path)


@build_app.command("evidence")
def evidence_command(
    bank: Bank,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail if any number differs.")] = False,
) -> None:
    """Write evidence.json and the Evidence section of every skill that names its cluster."""
    from .evidence import stale_evidence, write_evidence

    if not check:
        for path in write_evidence(bank):
            typer.echo(path)
        return
    problems = stale_evidence(bank)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    console.print("Every number equals the one recomputed from the labels.")


@build_app.command("report")
def report_command(
    out: Annotated[Path, typer.Option(help="Folder for build.md and effects.svg.")] = Path("docs"),
) -> None:
    """Write docs/build.md and the heatmap from the shipped labels and clusters."""
    from .report import write_report

    with _bar("report", 1) as advance:
        paths = write_report(out)
        advance(1)
    for path in paths:
        typer.echo(path)
