"""What change is to be expected at a moment of a run, and by how much some of its replies fell short of it.

The expectation is a small additive model: state of the seeker, hidden need, character, band of the emotion, and the
change of the turn before, fitted to the run's own turns; how far states, needs, characters and bands lie apart is
learned from them as well (random effects by empirical Bayes: Dempster, Laird & Rubin 1977). On 200 talks of the shipped
bank it explains 39% of the variance of the changes in talks left out, 32% of it by the change of the turn before alone;
what remains is hardly correlated within a talk (0.04, against 0.43 of the changes themselves). A table over all four
labels would have a turn or two a cell.

The replies that are looked at are left out of the fit, spreads included, or a fault would be part of what is expected.
Where a skill is the only one for a state, little is left from which to know how hard that state is; then the state's
effect stays near 0 and its uncertainty, as large as states were seen to differ, goes into the test.
"""

from collections.abc import Sequence
from math import erfc, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..simulator.needs import Character, HiddenNeed
from ..skills_bank.taxonomy import SeekerState
from .analysis import Moment

Floats = NDArray[np.float64]
BANDS = (30, 50, 70)
STATES, NEEDS, CHARACTERS = list(SeekerState), list(HiddenNeed), list(Character)
FREE = 2
"""Columns that are not drawn towards 0: the mean and the last change."""
GROUPS = (len(STATES), len(NEEDS), len(CHARACTERS), len(BANDS) + 1)
"""Columns after these, group by group; each group's spread is learned."""
VAGUE = 1e-6
ROUNDS = 20


class Shortfall(NamedTuple):
    """How some replies did beside what was expected of them."""

    effect: float
    """Mean of change minus expectation, in points a reply."""
    error: float
    """Its standard error, talks being the units."""
    p: float
    """Of an effect so low or lower, if there were none: one-sided."""
    turns: int
    talks: int


class Expectation:
    """The model over some moments; every moment must have been scored."""

    def __init__(self, moments: Sequence[Moment]) -> None:
        """Take the moments and add up what every fit needs.

        Raises:
            ValueError: There is no moment.
        """
        if not moments:
            raise ValueError("No scored reply to learn from what is to be expected.")
        self._x = np.array([_row(moment) for moment in moments])
        self._y = np.array([float(moment.change or 0) for moment in moments])
        keys = {key: place for place, key in enumerate(dict.fromkeys(moment.talk for moment in moments))}
        self._talk = np.array([keys[moment.talk] for moment in moments])
        self._sums = _Sums.of(self._x, self._y)

    def without(self, left_out: NDArray[np.bool_]) -> "Expected":
        """Return what is expected of every moment by those that are not left out."""
        fit = _fitted(self._sums.less(_Sums.of(self._x[left_out], self._y[left_out])))
        return Expected(self._y - self._x @ fit.weights, self._x, self._talk, fit)


class _Sums(NamedTuple):
    """All that a fit needs of some moments."""

    gram: Floats
    moment: Floats
    square: float
    n: int

    @classmethod
    def of(cls, x: Floats, y: Floats) -> "_Sums":
        """Add them up."""
        return cls(x.T @ x, x.T @ y, float(y @ y), len(y))

    def less(self, other: "_Sums") -> "_Sums":
        """Return the sums without some of the moments."""
        return _Sums(
            self.gram - other.gram, self.moment - other.moment, self.square - other.square, self.n - other.n
        )  # fmt: skip


class _Fit(NamedTuple):
    weights: Floats
    covariance: Floats
    noise: float
    """Variance of what is left to chance."""
    spread: float
    """How far states lie apart, in points: a standard deviation."""


def _fitted(sums: _Sums) -> _Fit:
    """Return the fit by expectation maximisation, over weights as the unknown and spreads and noise as parameters.

    Labels that no moment has say nothing of the spread of the others; they get the group's.
    """
    columns = len(sums.moment)
    prior, noise = np.ones(columns), max(sums.square / max(sums.n, 1), VAGUE)
    prior[:FREE] = VAGUE
    seen = sums.gram.diagonal() > 0.5
    weights, covariance = np.zeros(columns), np.eye(columns)
    for _ in range(ROUNDS):
        covariance = np.asarray(np.linalg.inv(sums.gram / noise + np.diag(prior)), dtype=np.float64)
        weights = covariance @ sums.moment / noise
        left = sums.square - 2 * weights @ sums.moment + weights @ sums.gram @ weights
        noise = max(float(left + np.sum(sums.gram * covariance)) / max(sums.n, 1), VAGUE)
        begin = FREE
        for size in GROUPS:
            group = np.arange(begin, begin + size)
            known = group[seen[group]]
            if len(known):
                prior[group] = 1 / max(float((weights[known] ** 2 + covariance[known, known]).mean()), VAGUE)
            begin += size
    return _Fit(weights, covariance, noise, float(prior[FREE]) ** -0.5)


class Expected(NamedTuple):
    """One fit, and how every moment did beside it."""

    residuals: Floats
    x: Floats
    talk: NDArray[np.int64]
    fit: _Fit

    @property
    def spread(self) -> float:
        """How far states lie apart, in points: a standard deviation."""
        return self.fit.spread

    @property
    def noise(self) -> float:
        """Variance of what is left to chance."""
        return self.fit.noise

    def shortfall(self, cell: NDArray[np.bool_]) -> Shortfall:
        """Return how the moments of `cell`, of which there must be some, did beside the expectation.

        The variance is that of the ratio of sums over talks (cluster-robust, Liang & Zeger 1986), at least what
        independent replies would give, plus that of the expectation itself.
        """
        effect, turns = float(self.residuals[cell].mean()), int(cell.sum())
        _, talk = np.unique(self.talk[cell], return_inverse=True)
        talks = int(talk.max()) + 1
        apart = np.bincount(talk, self.residuals[cell] - effect)
        clustered = float(apart @ apart) * talks / max(talks - 1, 1) / turns**2
        mean = self.x[cell].mean(axis=0)
        error = sqrt(max(clustered, self.noise / turns) + float(mean @ self.fit.covariance @ mean))
        return Shortfall(effect, error, low_tail(effect / error, talks - 1), turns, talks)


def low_tail(t: float, freedom: int) -> float:
    """Return P(T <= t) of Student's t with so many degrees of freedom, by Wallace's normal approximation (1959)."""
    n = max(freedom, 1)
    z = sqrt(n * log(1 + t * t / n)) * (8 * n + 1) / (8 * n + 3)
    return 0.5 * erfc(z / sqrt(2)) if t < 0 else 1 - 0.5 * erfc(z / sqrt(2))


def passing(p: Sequence[float], rate: float) -> list[bool]:
    """Return which tests pass at a false discovery rate (Benjamini & Hochberg 1995)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    last = max((rank for rank, i in enumerate(order, start=1) if p[i] <= rate * rank / len(p)), default=0)
    passed = set(order[:last])
    return [i in passed for i in range(len(p))]


def _row(moment: Moment) -> list[float]:
    band = sum(moment.points >= edge for edge in BANDS)
    return [
        1.0,
        moment.last / 10,
        *(float(moment.state == state) for state in STATES),
        *(float(moment.need == need) for need in NEEDS),
        *(float(moment.character == character) for character in CHARACTERS),
        *(float(band == place) for place in range(len(BANDS) + 1)),
    ]
