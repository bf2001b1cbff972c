"""Which actions went well or badly in some moments of a run, beside what was expected there; smoothed.

Nothing but the run's own turns speaks. What an action is worth in a context is drawn towards what it is worth in the
whole run, and that towards 0, as if `SMOOTHING` more replies had done just so well. An action is named only where its
value is off 0 by `SURE` standard errors; where none is, none is named.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ..skills_bank.taxonomy import SupportAction
from .analysis import Moment
from .expectation import Expectation

SMOOTHING = 20.0
SURE = 1.28
"""One-sided 90%."""
LEAST = 4
"""Replies of an action in a context, at least, before anything is said of it."""
MOST = 3
NEVER_FAVOURED = frozenset({SupportAction.SAFETY_CHECK_AND_REFERRAL, SupportAction.SELF_DISCLOSURE})
"""The rail decides on the first; the second is for a person with a true story."""


class ActionValues:
    """The residuals of a run's replies, by what they did."""

    def __init__(self, moments: Sequence[Moment], expectation: Expectation) -> None:
        """Take the moments in the order in which the expectation has them."""
        fit = expectation.without(np.zeros(len(moments), dtype=bool))
        self.residuals, self._noise = fit.residuals, fit.noise
        self._did = {a: np.array([a in moment.actions for moment in moments]) for a in SupportAction}

    def good(self, where: NDArray[np.bool_], but: Collection[SupportAction] = ()) -> tuple[SupportAction, ...]:
        """Return the actions that went well there, whoever took them, best first."""
        found = self._values(where, self.residuals)
        sure = [action for action, (value, error) in found.items() if value - SURE * error > 0]
        named = [action for action in sure if action not in NEVER_FAVOURED and action not in but]
        return tuple(sorted(named, key=lambda action: -found[action][0])[:MOST])

    def bad(self, where: NDArray[np.bool_], residuals: NDArray[np.float64]) -> tuple[SupportAction, ...]:
        """Return the actions that went badly there, worst first; `residuals` beside what they are held against."""
        found = self._values(where, residuals)
        sure = [action for action, (value, error) in found.items() if value + SURE * error < 0]
        return tuple(sorted(sure, key=lambda action: found[action][0])[:MOST])

    def _values(
        self, where: NDArray[np.bool_], residuals: NDArray[np.float64]
    ) -> dict[SupportAction, tuple[float, float]]:
        """Return value and standard error of every action that was taken there often enough."""
        found = {}
        for action, did in self._did.items():
            here = did & where
            n = int(here.sum())
            if n < LEAST:
                continue
            usual = float(self.residuals[did].sum()) / (int(did.sum()) + SMOOTHING)
            value = (float(residuals[here].sum()) + SMOOTHING * usual) / (n + SMOOTHING)
            found[action] = (value, float(np.sqrt(self._noise / (n + SMOOTHING))))
        return found
