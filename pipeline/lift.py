"""Outcome lift: what followed when real supporters did what a policy recommends, against when they did not.

The positive-change rate of turns that did it, minus that of turns that did not, standardised over the gold states
(direct standardisation: each state weighs as many turns as it has). It is an association in recorded talks, not the
effect of a recommendation. Intervals are percentile bootstrap over dialogues.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from ..skills_bank.ranking import ACTIONS, STATES
from ..skills_bank.taxonomy import ResponseChange, SupportAction
from .cases import Case
from .moments import SupportTurn

SMOOTHING = 5.0
"""Units' worth of the state's base rate added to each cell of the rival's table."""
RESAMPLES = 1000


class Estimate(BaseModel):
    """A figure with its 95% bootstrap interval over dialogues."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return `+0.271 [+0.20, +0.34]`."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


class Lift(BaseModel):
    """Outcome lift of one policy; `followed` is the share of turns that did what it recommends."""

    model_config = ConfigDict(frozen=True)

    followed: float
    positive: Estimate
    negative: Estimate
    positive_other: Estimate
    """Positive change other than more_specific_expression."""


def rival_actions(train: Sequence[SupportTurn], cases: Sequence[Case]) -> list[SupportAction]:
    """The rival: the best action per state in a plain table of smoothed rates (positive minus negative) of `train`."""
    base = np.zeros((2, len(STATES), 1))
    cell = np.zeros((2, len(STATES), len(ACTIONS)))
    worth = {"positive": 1, "negative": -1, "neutral": 0}
    for turn in train:
        for action in turn.actions:
            at = STATES.index(turn.state), ACTIONS.index(action)
            cell[0][at] += 1
            cell[1][at] += worth[turn.polarity]
    base[:] = cell.sum(axis=2, keepdims=True)
    prior = base[1] / np.maximum(base[0], 1)
    best = ((cell[1] + SMOOTHING * prior) / (cell[0] + SMOOTHING)).argmax(axis=1)
    return [ACTIONS[best[int(case.states.argmax())]] for case in cases]


_TOLD: dict[str, Callable[[SupportTurn], bool]] = {
    "positive": lambda t: t.polarity == "positive",
    "negative": lambda t: t.polarity == "negative",
    "positive_other": lambda t: t.polarity == "positive" and t.change != ResponseChange.MORE_SPECIFIC_EXPRESSION,
}


class Sums(NamedTuple):
    """Counts per dialogue, state, followed or not, from which every resample's lift is computed."""

    n: np.ndarray
    """(dialogues, states, 2)."""
    good: dict[str, np.ndarray]


def sums(turns: Sequence[SupportTurn], advice: Sequence[SupportAction]) -> Sums:
    """Count turns and outcomes per dialogue, gold state and whether the advice was followed."""
    dialogues = {name: i for i, name in enumerate(dict.fromkeys(turn.dialogue for turn in turns))}
    n = np.zeros((len(dialogues), len(STATES), 2))
    good = {name: np.zeros_like(n) for name in _TOLD}
    for turn, action in zip(turns, advice, strict=True):
        at = (dialogues[turn.dialogue], STATES.index(turn.state), int(action in turn.actions))
        n[at] += 1
        for name, told in _TOLD.items():
            good[name][at] += told(turn)
    return Sums(n, good)


def _standardised(n: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the lift from counts of shape (..., states, 2); states with an empty side carry no weight."""
    both = (n > 0).all(axis=-1)
    rate = good / np.maximum(n, 1)
    weight = n.sum(axis=-1) * both
    return (weight * (rate[..., 1] - rate[..., 0])).sum(axis=-1) / np.maximum(weight.sum(axis=-1), 1e-9)


def lift(turns: Sequence[SupportTurn], advice: Sequence[SupportAction], seed: int = 7) -> Lift:
    """Return the outcome lift of following `advice`, with bootstrap intervals over dialogues."""
    counts = sums(turns, advice)
    draws = _draws(len(counts.n), seed)
    found = {
        name: _estimate(
            float(_standardised(counts.n.sum(0), good.sum(0))),
            _standardised(_resampled(draws, counts.n), _resampled(draws, good)),
        )
        for name, good in counts.good.items()
    }
    followed = float(np.mean([action in turn.actions for turn, action in zip(turns, advice, strict=True)]))
    return Lift(followed=followed, **found)


def lift_difference(
    turns: Sequence[SupportTurn], ours: Sequence[SupportAction], rival: Sequence[SupportAction], seed: int = 7
) -> dict[str, Estimate]:
    """Return our lift minus the rival's per outcome, paired over the same bootstrap resamples."""
    a, b = sums(turns, ours), sums(turns, rival)
    draws = _draws(len(a.n), seed)
    return {
        name: _estimate(
            float(_standardised(a.n.sum(0), a.good[name].sum(0)) - _standardised(b.n.sum(0), b.good[name].sum(0))),
            _standardised(_resampled(draws, a.n), _resampled(draws, a.good[name]))
            - _standardised(_resampled(draws, b.n), _resampled(draws, b.good[name])),
        )
        for name in _TOLD
    }


def _draws(n: int, seed: int) -> np.ndarray:
    """Return how often each dialogue stands in each resample, (resamples, dialogues)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(float)


def _resampled(draws: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.tensordot(draws, counts, axes=1)


def _estimate(value: float, resamples: np.ndarray) -> Estimate:
    low, high = np.percentile(resamples, [2.5, 97.5])
    return Estimate(value=round(value, 4), low=round(float(low), 4), high=round(float(high), 4))
