"""Figures of a classifier of turns: accuracy, macro-F1, top-3, calibration, tables; and temperature scaling."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Array = NDArray[Any]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassScore(_Frozen):
    """Precision, recall and F1 of one label."""

    label: str
    precision: float
    recall: float
    f1: float
    n: int


class Figures(_Frozen):
    """The figures by which encoders are compared on one split; a figure a model does not have is None."""

    state_accuracy: float
    state_macro_f1: float
    state_weighted_f1: float
    state_top3: float
    action_top1: float
    scenario_accuracy: float
    action_macro_f1: float | None = None


def softmax(logits: Array) -> Array:
    """Return row-wise softmax."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: Array) -> Array:
    """Return the logistic function."""
    return 1.0 / (1.0 + np.exp(-logits))


def class_scores(labels: Sequence[str], gold: Array, predicted: Array) -> list[ClassScore]:
    """Return one-against-rest scores of single-label predictions, given as indices."""
    return binary_scores(labels, np.eye(len(labels))[gold], np.eye(len(labels))[predicted])


def binary_scores(labels: Sequence[str], gold: Array, predicted: Array) -> list[ClassScore]:
    """Return scores of multi-label predictions, given as 0/1 matrices; an empty ratio counts as 0."""
    hits = (gold * predicted).sum(0)
    wanted, given = gold.sum(0), predicted.sum(0)
    precision = hits / np.maximum(given, 1)
    recall = hits / np.maximum(wanted, 1)
    f1 = 2 * hits / np.maximum(wanted + given, 1)
    return [
        ClassScore(label=label, precision=float(p), recall=float(r), f1=float(f), n=int(n))
        for label, p, r, f, n in zip(labels, precision, recall, f1, wanted, strict=True)
    ]


def macro_f1(scores: Sequence[ClassScore]) -> float:
    """Return the unweighted mean F1 over the labels that occur."""
    return float(np.mean([score.f1 for score in scores if score.n]))


def weighted_f1(scores: Sequence[ClassScore]) -> float:
    """Return the mean F1 weighted by how often a label occurs."""
    return float(np.average([score.f1 for score in scores], weights=[score.n for score in scores]))


def top_k(scores: Array, gold: Array, k: int) -> float:
    """Return the share of rows whose gold index is among the k best scores."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((best == gold[:, None]).any(axis=1).mean())


def top1_among(scores: Array, gold: Array) -> float:
    """Return the share of rows whose best score belongs to one of the row's gold labels (0/1 matrix)."""
    return float(gold[np.arange(len(gold)), scores.argmax(axis=1)].mean())


def expected_calibration_error(confidence: Array, correct: Array, bins: int = 15) -> float:
    """Return the expected calibration error (Naeini et al. 2015) over equal-width bins of confidence."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(correct[place == b].mean() - confidence[place == b].mean())) * float((place == b).mean())
        for b in range(bins)
        if (place == b).any()
    ]
    return sum(gaps)


def softmax_temperature(logits: Array, gold: Array) -> float:
    """Return the temperature that minimises the negative log likelihood (Guo et al. 2017)."""

    def cost(temperature: float) -> float:
        chances = softmax(logits / temperature)
        return float(-np.log(chances[np.arange(len(gold)), gold] + 1e-12).mean())

    return _minimum(cost)


def sigmoid_temperature(logits: Array, gold: Array) -> float:
    """Return the temperature that minimises the mean binary cross-entropy."""

    def cost(temperature: float) -> float:
        z = logits / temperature
        return float((np.logaddexp(0.0, z) - gold * z).mean())

    return _minimum(cost)


def _minimum(cost: Any) -> float:
    """Return the best temperature between 0.2 and 5 by a fine logarithmic grid: one dimension, no surprises."""
    grid = np.geomspace(0.2, 5.0, 321)
    return float(grid[int(np.argmin([cost(float(t)) for t in grid]))])
