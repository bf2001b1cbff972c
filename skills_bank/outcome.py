"""What tends to follow an action: P(outcome | state, action, moment), learned from the labelled units.

A ridge-penalised logistic model per outcome, with main effects and the interactions state x action (overall and per
phase of the talk), factor x state and factor x action. The penalty plays the part of a prior: a cell with few units
falls back on its state, its action and the moment. `pipeline/select_fit.py` fits it; here it is read and evaluated for
all 15 x 17 cells at once. The probabilities are associations in the corpus, not effects of an intervention.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from .errors import ModelError
from .moment import Moment, factors
from .taxonomy import SeekerState, SupportAction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

OUTCOMES = ("positive", "negative", "positive_other")
"""Positive change, negative change, and positive change other than `more_specific_expression`."""
PHASES = ("early", "middle", "late")


class Outlook(NamedTuple):
    """Probabilities for every cell, each of shape (states, actions)."""

    positive: "Floats"
    negative: "Floats"
    positive_other: "Floats"
    practice: "Floats"
    """How often supporters took the action when it was followed by a positive change; rows sum to 1."""

    def value(self, caution: float, depth: float) -> "Floats":
        """Return the worth of each cell: positive - `caution` x negative + `depth` x positive_other."""
        return self.positive - caution * self.negative + depth * self.positive_other


class OutcomeModel:
    """The fitted weights, as arrays over states and actions."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        """Take the parsed `outcome.json`: for each of `OUTCOMES` and `practice`, a mapping of term to weights."""
        import numpy as np

        self._np = np
        self._terms = {
            name: {term: np.asarray(value, dtype=np.float64) for term, value in terms.items()}
            for name, terms in weights["models"].items()
        }
        missing = [name for name in (*OUTCOMES, "practice") if name not in self._terms]
        if missing:
            raise ModelError(f"outcome.json lacks the models {', '.join(missing)}; run `esc-skills fit selection`.")

    @classmethod
    def load(cls) -> Self:
        """Load the shipped weights.

        Raises:
            ModelError: The file is absent or incomplete.
        """
        path = files("esc_skills.skills_bank").joinpath("outcome.json")
        if not path.is_file():
            raise ModelError("skills_bank/outcome.json is missing; run `esc-skills fit selection`.")
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def outlook(self, moment: Moment) -> Outlook:
        """Return the outlook of every (state, action) at `moment`, one action per reply."""
        np = self._np
        probability = [1.0 / (1.0 + np.exp(-self._logits(name, moment))) for name in OUTCOMES]
        logits = self._logits("practice", moment)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Outlook(*probability, practice=odds / odds.sum(axis=1, keepdims=True))

    def _logits(self, name: str, moment: Moment) -> "Floats":
        terms, np = self._terms[name], self._np
        total = np.zeros((len(SeekerState), len(SupportAction)))
        for term in terms_of(moment):
            if term in terms:
                weight = terms[term]
                total += weight[:, None] if weight.shape == (len(SeekerState),) else weight
        for action in set(moment.last):
            column = list(SupportAction).index(action)
            total[:, column] += terms["repeat"][column]
        return total


def terms_of(moment: Moment) -> list[str]:
    """Return the names of the weight arrays that apply at `moment`; `repeat` is added per repeated action.

    Shapes: `intercept` (), `state` (15,), `action` (17,), `pair` (15, 17), `pair|phase` (15, 17), `factor` (),
    `factor|state` (15,), `factor|action` (17,). Arrays of length 15 run over states, of 17 over actions.
    """
    names = ["intercept", "state", "action", "pair", f"pair|{moment.stage}"]
    for factor in factors(moment):
        names += [factor, f"{factor}|state", f"{factor}|action"]
    return names
