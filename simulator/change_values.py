"""What a response change is worth: how much the reported intensity of a dialogue drops with its share of the turns."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..pipeline.labels import DialogueLabels
from ..skills_bank.errors import InputError
from ..skills_bank.taxonomy import ResponseChange
from .judgement import Interval
from .recorded import RESAMPLES, Floats
from .response import (
    CHANGES,
    SIGNS,
)

RIDGE = (30.0, 100.0, 300.0, 1000.0)


def shares_of(dialogue: DialogueLabels) -> Floats | None:
    """Return each change's share of a dialogue's interventions; None where none is labelled."""
    counts = np.zeros(len(CHANGES))
    for turn in dialogue.turns:
        if turn.change is not None:
            counts[CHANGES.index(turn.change)] += 1
    return counts / counts.sum() if counts.sum() else None


def fit_values(
    labels: Sequence[DialogueLabels], drops: Mapping[str, float], resamples: int = RESAMPLES
) -> tuple[dict[ResponseChange, Interval], float, int]:
    """Return what each change is worth, the ridge that was chosen, and how many dialogues told.

    Ridge regression of the drop in intensity on the shares of the changes, drawn towards a multiple of the polarity; a
    change is never worth the opposite of its polarity. Scaled to a standard deviation of 1 over all changes that
    occurred, and centred.
    """
    rows = [(shares, drops[d.id]) for d in labels if d.id in drops and (shares := shares_of(d)) is not None]
    if len(rows) < 2 * len(CHANGES):
        raise InputError(f"{len(rows)} dialogues carry both intensities; too few to tell what a change is worth.")
    x, y = np.array([shares for shares, _ in rows]), np.array([drop for _, drop in rows])
    often = x.mean(axis=0)
    off = {ridge: _held_out(x, y, ridge) for ridge in RIDGE}
    best_ridge = min(RIDGE, key=lambda r: off[r].mean())
    # The strongest ridge that is no worse than the best by more than one standard error (Breiman et al. 1984).
    room = float((off[best_ridge]).std() / len(y) ** 0.5)
    ridge = max(r for r in RIDGE if off[r].mean() <= off[best_ridge].mean() + room)
    random = np.random.default_rng(7)
    draws: list[Floats] = []
    for _ in range(resamples):
        pick = random.integers(len(y), size=len(y))
        draws.append(_scaled(_values(x[pick], y[pick], ridge), often))
    best, scattered = _scaled(_values(x, y, ridge), often), np.array(draws)
    return {c: interval_of(best[i], scattered[:, i]) for i, c in enumerate(CHANGES)}, ridge, len(y)


def _held_out(x: Floats, y: Floats, ridge: float) -> Floats:
    """Return the squared error of each dialogue, predicted from the other four fifths."""
    fold, found = np.arange(len(y)) % 5, np.zeros(len(y))
    for k in range(5):
        rest, out = fold != k, fold == k
        told = (x[out] - x[rest].mean(axis=0)) @ _values(x[rest], y[rest], ridge)
        found[out] = (y[out] - y[rest].mean() - told) ** 2
    return found


def _values(x: Floats, y: Floats, ridge: float) -> Floats:
    centred, off = x - x.mean(axis=0), y - y.mean()
    side = centred @ SIGNS
    base = float(side @ off / (side @ side))
    rest = off - base * side
    # A change's share varies by a tenth or so, hence the ridge in hundredths.
    moved = np.linalg.solve(centred.T @ centred + ridge / 100 * np.eye(len(CHANGES)), centred.T @ rest)
    values = base * SIGNS + moved
    return np.where(SIGNS > 0, np.maximum(values, 0), np.where(SIGNS < 0, np.minimum(values, 0), values))


def _scaled(values: Floats, often: Floats) -> Floats:
    centre = float(often @ values)
    return (values - centre) / max(float(np.sqrt(often @ (values - centre) ** 2)), 1e-9)


def interval_of(value: float, draws: Floats) -> Interval:
    """Return a value with the middle 95% of its draws, (n,)."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value=round(float(value), 4), low=round(float(low), 4), high=round(float(high), 4))
