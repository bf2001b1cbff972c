"""Intervals and tests by resampling, with a seed of their own: the same numbers give the same figures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DRAWS = 2000
LEVEL = 0.95
SEED = 20240


class Estimate(NamedTuple):
    """A figure with its interval."""

    value: float
    low: float
    high: float


def ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """Return sum(above) / sum(below) with a percentile bootstrap interval over the rows (Efron 1979).

    A row is a conversation; with `below` all 1 this is a mean over conversations, with it the number of scored turns a
    mean over turns whose rows stay together, since the turns of one talk are not independent. Draws that leave nothing
    below are left out.
    """
    top, bottom = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    total = bottom.sum()
    if total == 0:
        return Estimate(0.0, 0.0, 0.0)
    # How often each row is drawn, in all draws; the sums are then one product.
    times = np.random.default_rng(SEED).multinomial(len(top), np.full(len(top), 1 / len(top)), size=DRAWS)
    drawn = times @ bottom
    found = (times @ top)[drawn > 0] / drawn[drawn > 0]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(found, [tail, 100 - tail])
    return Estimate(float(top.sum() / total), float(low), float(high))


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean with its bootstrap interval."""
    return ratio(values, [1.0] * len(values))


def sign_flip_p(differences: Sequence[int]) -> float:
    """Return the exact two-sided p of a paired sign-flip test (Fisher 1935) of whole differences.

    Under the null each difference could as well have had the other sign. Of all 2^n sums the share is returned that is
    at least as far from 0 as the one seen. Whole numbers make that exact: the distribution of the sum is built up
    difference by difference, over at most sum(|d|) values, instead of drawn.
    """
    sizes = [abs(int(d)) for d in differences if d]
    seen, most = abs(sum(int(d) for d in differences)), sum(sizes)
    if not sizes:
        return 1.0
    chances = np.zeros(2 * most + 1)
    chances[most] = 1.0
    reach = 0
    for size in sizes:
        reach += size
        begin, end = most - reach, most + reach + 1
        part = np.zeros(end - begin)
        inner = chances[begin + size : end - size]
        part[2 * size :] += inner
        part[: len(part) - 2 * size] += inner
        chances[begin:end] = part / 2
    sums = np.abs(np.arange(-most, most + 1))
    return float(min(1.0, chances[sums >= seen].sum()))
