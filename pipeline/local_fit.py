"""Fits what the local annotator ships: the change model, the thresholds of the actions, the order of actions.

All from the labels of train and failed. The encoder was trained on the same turns and is surer of them than of new
ones, so cross-validation within them would flatter; what is chosen here is judged on `valid` alone.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..skills_bank.encoder import Encoder
from ..skills_bank.taxonomy import Scenario, SupportAction
from .change_model import CHANGES, change_features, fit_change, interventions
from .corpus import Dialogue, iter_corpus
from .labels import BUILD_SPLITS, DialogueLabels, load_labels
from .local_annotator import ACTIONS, CARD_FILE, MODEL_FILE, LocalCard, chosen_scenarios, probe
from .reading import DialogueReading, read_whole

if TYPE_CHECKING:
    from ..skills_bank.fake_encoder import FakeEncoder

GRID = np.round(np.linspace(0.08, 0.8, 37), 2)
"""Thresholds that are tried."""
MIDDLE, PULL = 0.4, 2.0
"""Thresholds of actions with few turns are drawn towards the middle: F1 over a handful of turns is mostly chance."""


class Read(NamedTuple):
    """A labelled dialogue with its text and its reading."""

    labels: DialogueLabels
    dialogue: Dialogue
    reading: DialogueReading


def read_labelled(shared: Path, splits: Iterable[str], encoder: "Encoder | FakeEncoder") -> Iterator[Read]:
    """Read every labelled dialogue of the splits, one at a time.

    Raises:
        CorpusError: The corpus is absent under `shared`/data/esconv.
    """
    labels = {d.id: d for d in load_labels()}
    for split in splits:
        for dialogue in iter_corpus(shared / "data" / "esconv" / f"{split}.jsonl"):
            if dialogue.id in labels:
                yield Read(labels[dialogue.id], dialogue, read_whole(encoder, dialogue))


def fit_local(
    shared: Path, out: Path, encoder: Encoder | None = None, progress: Callable[[int], None] | None = None
) -> LocalCard:
    """Fit on train + failed and write `change_model.npz` and `local_annotator.json` into `out`.

    Raises:
        CorpusError: The corpus is absent.
    """
    encoder = encoder or Encoder.load(threads=2)
    features: list[NDArray[np.float64]] = []
    changes: list[int] = []
    chances: list[NDArray[np.float32]] = []
    actions: list[tuple[SupportAction, ...]] = []
    scenarios: list[tuple[NDArray[np.float32], tuple[Scenario, ...]]] = []
    for labels, _, reading in read_labelled(shared, BUILD_SPLITS, encoder):
        places = [i for i in interventions(reading) if labels.turns[i].change is not None]
        features.append(change_features(reading, places))
        changes += [CHANGES.index(change) for i in places if (change := labels.turns[i].change) is not None]
        for i, turn in enumerate(labels.turns):
            if turn.actions:
                chances.append(reading.rows.actions[i])
                actions.append(turn.actions)
        scenarios.append((reading.scenarios, labels.scenarios))
        if progress:
            progress(1)
    data = fit_change(np.concatenate(features), np.array(changes)).to_bytes()
    card = LocalCard(
        encoder=encoder.version,
        change_model=hashlib.sha256(data).hexdigest(),
        thresholds=dict(zip(ACTIONS, best_thresholds(np.stack(chances), actions), strict=True)),
        places=mean_places(actions),
        other_scenarios=best_other(scenarios),
        probe=probe(encoder),
    )
    # The card names the weights' checksum, so it comes last: an interrupted run is told from a finished one.
    put(out / MODEL_FILE, data)
    put(out / CARD_FILE, card.model_dump_json(indent=1).encode() + b"\n")
    return card


def best_thresholds(chances: NDArray[np.floating], actions: Sequence[Sequence[SupportAction]]) -> list[float]:
    """Return for each action the threshold of best F1, those of rare actions drawn towards `MIDDLE`."""
    gold = np.array([[action in given for action in ACTIONS] for given in actions])
    found: list[float] = []
    for column in range(len(ACTIONS)):
        over = chances[:, column][None, :] >= GRID[:, None]
        wanted = gold[:, column]
        f1 = 2 * (over & wanted).sum(axis=1) / np.maximum(over.sum(axis=1) + wanted.sum(), 1)
        found.append(float(GRID[int(np.argmax(f1 - PULL / (wanted.sum() + 1) * np.abs(GRID - MIDDLE)))]))
    return found


def mean_places(actions: Iterable[Sequence[SupportAction]]) -> dict[SupportAction, float]:
    """Return where each action stands on average among the actions of its turn, 0 first to 1 last."""
    places: dict[SupportAction, list[float]] = defaultdict(list)
    for given in actions:
        for i, action in enumerate(given):
            if len(given) > 1:
                places[action].append(i / (len(given) - 1))
    return {a: round(float(np.mean(places[a])), 3) if places[a] else 0.5 for a in ACTIONS}


def best_other(scenarios: Sequence[tuple[NDArray[np.floating], Sequence[Scenario]]]) -> float:
    """Return the least chance of a further scenario that gives the best micro-F1 of scenario sets."""

    def score(least: float) -> float:
        pairs = [(set(chosen_scenarios(chances, least)), set(given)) for chances, given in scenarios]
        return 2 * sum(len(a & b) for a, b in pairs) / sum(len(a) + len(b) for a, b in pairs)

    return float(max(GRID, key=lambda least: score(float(least))))


def put(path: Path, data: bytes) -> None:
    """Write a file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(data)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
