"""Trains, exports and measures the encoder: what `esc-skills train` and `esc-skills eval encoder` call."""

import os
import platform
import shutil
import time
from collections.abc import Sequence
from datetime import date
from importlib.resources import files
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from ..skills_bank.encoder import TOKENIZER_FILE, Encoder, Limits, Speller
from ..skills_bank.errors import ModelError
from .items import RISK_TRAIN, Item, dialogue_items, read_risk_lines, turn_items
from .labels import BUILD_SPLITS, Split
from .ladder import (
    ACTIONS,
    SCENARIOS,
    STATES,
    before,
    current,
    figures,
    frozen,
    gold_actions,
    gold_primary,
    gold_states,
    majority,
    rows,
    tfidf,
)
from .scores import (
    Array,
    ClassScore,
    Figures,
    binary_scores,
    class_scores,
    expected_calibration_error,
    macro_f1,
    sigmoid,
    sigmoid_temperature,
    softmax,
    softmax_temperature,
)

MOST_BYTES = 46_000_000
MOST_LOSS = 0.01
"""Macro-F1 of the states that quantisation may cost on `valid`."""
_BATCH = 8


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Calibration(_Frozen):
    """Expected calibration error (15 bins) of one head, with temperature 1 and with the fitted one.

    The temperature ships as fitted on all of `valid`; `after` is cross-fitted over two halves of its dialogues, so
    that no row is judged with a temperature it took part in.
    """

    temperature: float
    before: float
    after: float


class Evaluation(_Frozen):
    """All figures of one encoder folder on one split, read through the serving code."""

    version: str
    split: str
    turns: int
    dialogues: int
    figures: Figures
    states: tuple[ClassScore, ...]
    actions: tuple[ClassScore, ...]
    scenarios: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]


class TrainReport(_Frozen):
    """What a training run leaves beside the model: figures, the ladder, calibration, sizes and times."""

    recipe: dict[str, float]
    items: dict[str, int]
    quantisation: str
    tried: dict[str, dict[str, float]]
    megabytes: float
    minutes: dict[str, float]
    hardware: str
    day: str
    ladder: dict[str, Figures]
    calibration: dict[str, Calibration]
    evaluation: Evaluation


def train(
    shared: Path,
    out: Path,
    *,
    epochs: float = 3.0,
    seed: int = 13,
    threads: int = 2,
    show: bool = True,
) -> TrainReport:
    """Train the encoder and write `out/model/` (what ships), `out/report.json`, `out/encoder.md` and the weights.

    Args:
        shared: Folder with `data/esconv` and `data/annotations`.
        out: Working folder of the run; made if absent.
        epochs: Passes over the training items; a fraction ends within a pass.
        seed: Of the order of batches, dropout, the heads' first weights and the dialogue views.
        threads: CPU threads.
        show: Whether to draw a progress bar on stderr.

    Raises:
        CorpusError: Texts, labels or risk lines are missing.
        ModelError: MiniLM is missing or altered, or the exported model is too large.
    """
    from .fit import Recipe, fit, material

    out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(epochs=epochs, seed=seed, threads=threads)
    with _progress(show) as progress:
        began = time.monotonic()
        speller = _prepare(threads)
        data = material(shared, speller, recipe)
        prepared = time.monotonic()
        network = fit(data, recipe, progress)
        trained = time.monotonic()
        _save(network, out / "weights.pt")
    minutes = {"preparing": (prepared - began) / 60, "training": (trained - prepared) / 60}
    return finish(shared, out, recipe=recipe._asdict(), minutes=minutes, threads=threads)


def finish(
    shared: Path, out: Path, *, recipe: dict[str, float], minutes: dict[str, float] | None = None, threads: int = 2
) -> TrainReport:
    """Export, calibrate and measure the weights of `out/weights.pt`: the second half of `train`."""
    from .card import model_card
    from .export import onnx_logits, write_model
    from .risk_fit import Material, settle_head

    began = time.monotonic()
    speller = _prepare(threads)
    valid = _items(shared, "valid")
    inputs = _spelled(speller, valid)
    chosen, tried = _smallest(out, lambda path: figures(valid, **_named(onnx_logits(path, inputs, threads))))
    logits = onnx_logits(chosen, inputs, threads)
    calibration = _calibrate(valid, logits)
    temperatures = {name: entry.temperature for name, entry in calibration.items()} | {"risk": 1.0}
    about = {"recipe": recipe, "quantisation": chosen.stem, "licence": "CC-BY-NC-4.0", "base": "all-MiniLM-L6-v2"}
    folder = write_model(out / "model", chosen, temperatures=temperatures, limits=speller.limits, about=about)
    settle_head(Material(shared, folder), folder)
    if (size := sum(file.stat().st_size for file in folder.iterdir())) > MOST_BYTES:
        raise ModelError(f"{folder} holds {size} bytes, the repository takes {MOST_BYTES}.")
    measured = evaluate(shared, folder, threads=threads)
    exported = time.monotonic()
    ladder = _ladder(shared, valid, speller, seed=int(recipe["seed"]))
    ladder |= {"ours, fp32": tried["fp32"], f"ours, shipped ({chosen.stem})": measured.figures}
    minutes = (minutes or {}) | {
        "exporting and measuring": (exported - began) / 60,
        "baselines": (time.monotonic() - exported) / 60,
    }
    report = TrainReport(
        recipe=recipe,
        items=_counts(shared, valid),
        quantisation=chosen.stem,
        tried={
            name: {"state_macro_f1": f.state_macro_f1, "state_accuracy": f.state_accuracy} for name, f in tried.items()
        },
        megabytes=round(size / 1e6, 2),
        minutes={name: round(value, 1) for name, value in minutes.items()},
        hardware=f"{os.cpu_count()} CPU cores, {_processor()}",
        day=date.today().isoformat(),
        ladder=ladder,
        calibration=calibration,
        evaluation=measured,
    )
    (out / "report.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (out / "encoder.md").write_text(model_card(report), encoding="utf-8")
    return report


def evaluate(shared: Path, folder: Path | None = None, *, split: Split = "valid", threads: int = 2) -> Evaluation:
    """Measure an encoder folder, by default the shipped one, on a labelled split, through the code that serves it.

    Raises:
        CorpusError: Texts or labels are missing.
        ModelError: The model's files are missing or altered.
    """
    encoder = Encoder.load(folder, threads=threads)
    items = _items(shared, split)
    states, actions, scenarios = _read(encoder, items)
    seeker, supporter, whole = rows(items)
    gold, guess = gold_states(items, seeker), states[seeker].argmax(axis=1)
    confusion = np.zeros((len(STATES), len(STATES)), dtype=int)
    np.add.at(confusion, (gold, guess), 1)
    action_scores = binary_scores(ACTIONS, gold_actions(items, supporter), (actions[supporter] >= 0.5).astype(float))
    measured = figures(items, states, actions, scenarios)
    return Evaluation(
        version=encoder.version,
        split=split,
        turns=sum(item.turn is not None for item in items),
        dialogues=len(whole),
        figures=measured.model_copy(update={"action_macro_f1": macro_f1(action_scores)}),
        states=tuple(class_scores(STATES, gold, guess)),
        actions=tuple(action_scores),
        scenarios=tuple(class_scores(SCENARIOS, gold_primary(items, whole), scenarios[whole].argmax(axis=1))),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


def _items(shared: Path, split: Split) -> list[Item]:
    return turn_items(shared, [split]) + dialogue_items(shared, [split], 0, 0)


def _spelled(speller: Speller, items: Sequence[Item]):
    from .fit import spell

    return spell(speller, items)


def _prepare(threads: int) -> Speller:
    from .network import minilm_folder

    speller = Speller.from_file(minilm_folder() / TOKENIZER_FILE, Limits())
    import torch

    torch.set_num_threads(threads)
    return speller


def _save(network, path: Path) -> None:
    import torch

    torch.save(network.state_dict(), path)


def _progress(show: bool):
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not show)


def _read(encoder: Encoder, items: Sequence[Item]) -> tuple[Array, Array, Array]:
    """Return states, actions and scenarios of all items; turns in small batches of like length, as in serving."""
    states = np.zeros((len(items), len(STATES)))
    actions = np.zeros((len(items), len(ACTIONS)))
    scenarios = np.zeros((len(items), len(SCENARIOS)))
    turns = [(i, item.turn) for i, item in enumerate(items) if item.turn]
    turns.sort(key=lambda pair: len(pair[1].content) + sum(len(text) for _, text in pair[1].context))
    for begin in range(0, len(turns), _BATCH):
        group = turns[begin : begin + _BATCH]
        reading = encoder.read([turn for _, turn in group])
        which = [i for i, _ in group]
        states[which], actions[which] = reading.states, reading.actions
    for i, item in enumerate(items):
        if item.lines:
            scenarios[i] = encoder.read_dialogue(item.lines)
    return states, actions, scenarios


def _named(logits: dict[str, Array]) -> dict[str, Array]:
    return {name: logits[name] for name in ("states", "actions", "scenarios")}


def _smallest(out: Path, measure) -> tuple[Path, dict[str, Figures]]:
    """Return the smallest export whose macro-F1 stays within `MOST_LOSS` of fp32, and the figures of those tried."""
    import torch

    from .export import VARIANTS, export_fp32
    from .network import Network

    work = out / "export"
    work.mkdir(exist_ok=True)
    network = Network(0.0)
    network.load_state_dict(torch.load(out / "weights.pt", weights_only=True))
    export_fp32(network, work / "fp32.onnx")
    tried = {"fp32": measure(work / "fp32.onnx")}
    for name, make in VARIANTS.items():
        make(work / "fp32.onnx", work / f"{name}.onnx")
        tried[name] = measure(work / f"{name}.onnx")
        if tried["fp32"].state_macro_f1 - tried[name].state_macro_f1 < MOST_LOSS:
            return work / f"{name}.onnx", tried
    raise ModelError(f"No export under {MOST_BYTES} bytes keeps the macro-F1 within {MOST_LOSS}: {tried}.")


def _calibrate(items: Sequence[Item], logits: dict[str, Array]) -> dict[str, Calibration]:
    seeker, supporter, whole = rows(items)
    turns = np.concatenate([seeker, supporter])
    primary = np.array([SCENARIOS.index(item.scenarios[0]) for item in items])
    half = np.array([sum(map(ord, item.group)) % 2 == 0 for item in items])
    return {
        "states": _softmax_calibration(logits["states"][seeker], gold_states(items, seeker), half[seeker]),
        "actions": _sigmoid_calibration(logits["actions"][supporter], gold_actions(items, supporter), half[supporter]),
        "turn_scenarios": _softmax_calibration(logits["scenarios"][turns], primary[turns], half[turns]),
        "scenarios": _softmax_calibration(logits["scenarios"][whole], primary[whole], half[whole]),
    }


def _softmax_calibration(logits: Array, gold: Array, half: Array) -> Calibration:
    def error(chances: Array) -> float:
        return expected_calibration_error(chances.max(axis=1), chances.argmax(axis=1) == gold)

    crossed = np.zeros_like(logits)
    for part in (half, ~half):
        crossed[part] = softmax(logits[part] / softmax_temperature(logits[~part], gold[~part]))
    return Calibration(
        temperature=round(softmax_temperature(logits, gold), 4),
        before=round(error(softmax(logits)), 4),
        after=round(error(crossed), 4),
    )


def _sigmoid_calibration(logits: Array, gold: Array, half: Array) -> Calibration:
    def error(chances: Array) -> float:
        return expected_calibration_error(chances.ravel(), gold.ravel())

    crossed = np.zeros_like(logits)
    for part in (half, ~half):
        crossed[part] = sigmoid(logits[part] / sigmoid_temperature(logits[~part], gold[~part]))
    return Calibration(
        temperature=round(sigmoid_temperature(logits, gold), 4),
        before=round(error(sigmoid(logits)), 4),
        after=round(error(crossed), 4),
    )


def _ladder(shared: Path, valid: Sequence[Item], speller: Speller, seed: int) -> dict[str, Figures]:
    from .fit import frozen_embeddings

    known = turn_items(shared, BUILD_SPLITS) + dialogue_items(shared, BUILD_SPLITS, 0, 0)

    def vectors(items: Sequence[Item]) -> Array:
        parts = [frozen_embeddings(speller, [read(item) for item in items]) for read in (current, before)]
        return np.hstack([part.numpy() for part in parts])

    return {
        "majority": majority(known, valid),
        "TF-IDF + logistic regression": tfidf(known, valid, seed),
        "frozen MiniLM + logistic regression": frozen(known, valid, vectors(known), vectors(valid), seed),
    }


def _counts(shared: Path, valid: Sequence[Item]) -> dict[str, int]:
    return {
        "training turns": len(turn_items(shared, BUILD_SPLITS)),
        "training dialogues": len(dialogue_items(shared, BUILD_SPLITS, 0, 0)),
        "composed risk lines": sum(len(read_risk_lines(path)) for path in RISK_TRAIN),
        "validation turns": sum(item.turn is not None for item in valid),
        "validation dialogues": sum(bool(item.lines) for item in valid),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def install(out: Path, folder: Path | None = None) -> Path:
    """Copy `out/model/` to where the encoder is served from, by default into the package, and return that folder."""
    target = folder or Path(str(files("esc_skills.skills_bank").joinpath("model")))
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted((out / "model").iterdir()):
        shutil.copyfile(file, target / file.name)
    return target
