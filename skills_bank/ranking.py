"""Rank a bank's skills for one reading of a talk.

score = sigmoid(bias + w_cover x cover + w_outcome x outcome + w_facet x facet + w_scenario x scenario), where

- cover: log of the probability that a helpful supporter would now do something this skill is made of;
- outcome: the best worth among the skill's own actions, weighted by how likely each of its states is;
- facet: the closest cosine between the seeker's words and a facet of the skill, above the bank's mean;
- scenario: expected log lift of the talk's scenarios in the skill's units.

The weights are fitted by `pipeline/select_fit.py` and lie in `ranking.json`.
"""

import json
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from .advice import held_back
from .errors import ModelError
from .models import Evidence, Skill
from .moment import Moment
from .outcome import Outlook
from .taxonomy import STATE_INFO, Scenario, SeekerState, SupportAction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STATES, ACTIONS, SCENARIOS = list(SeekerState), list(SupportAction), list(Scenario)
HELD_BACK_COST = 0.3
"""Worth taken off an action that should wait; larger than the spread of worths within a state."""
FEELING = 0.5
"""From this probability on, that some state with a feeling in it holds, a turn is never taken as off topic."""
COVER_FLOOR = 0.01
SCENARIO_PRIOR = 20.0
"""Units' worth of the bank's scenario mix added to each skill's before the log lift is taken."""


class Weights(BaseModel):
    """What `ranking.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    bias: float
    cover: float
    outcome: float
    facet: float
    scenario: float
    min_score: float
    """Below this the bank abstains."""
    min_similarity: float
    """Closest cosine to any facet below which a turn without a clear feeling is taken as off topic."""
    caution: float
    """Cost of a negative change, in positive changes."""
    depth: float
    """Extra worth of a positive change other than `more_specific_expression`."""

    @classmethod
    def load(cls) -> Self:
        """Load the shipped weights.

        Raises:
            ModelError: The file is absent.
        """
        path = files("esc_skills.skills_bank").joinpath("ranking.json")
        if not path.is_file():
            raise ModelError("skills_bank/ranking.json is missing; run `esc-skills fit selection`.")
        return cls(**json.loads(path.read_text(encoding="utf-8")))


class Features(NamedTuple):
    """One row a skill of the bank."""

    cover: "Floats"
    outcome: "Floats"
    facet: "Floats"
    scenario: "Floats"
    cosine: "NDArray[np.float32]"
    """(facets,) cosine of each facet, sorted by skill; see `Ranker.closest_facet`."""
    similarity: float
    """The closest cosine of all."""
    worth: "Floats"
    """(15, 17) worth of each state's actions at this moment; not a feature of a skill, kept for ordering its steps."""

    def matrix(self) -> "Floats":
        """Return the four features as columns (skills, 4)."""
        import numpy as np

        return np.stack([self.cover, self.outcome, self.facet, self.scenario], axis=1)


def off_topic(states: "Floats", similarity: float, weights: Weights) -> bool:
    """Whether a turn is far from every facet of the bank and shows no clear feeling."""
    feeling = sum(float(states[i]) for i, state in enumerate(STATES) if STATE_INFO[state].valence != "neutral")
    return similarity < weights.min_similarity and feeling < FEELING


class Ranker:
    """What ranking needs of one bank version, as arrays with one row a skill."""

    def __init__(
        self, skills: "Sequence[Skill]", evidence: "Mapping[str, Evidence]", vectors: "NDArray[np.float32]",
        owners: "NDArray[np.int64]",
    ) -> None:  # fmt: skip
        """Take the skills in order, their evidence, the facet vectors (m, 384) and each facet's skill row (m,)."""
        import numpy as np

        self._np = np
        self.cells = np.zeros((len(skills), len(STATES), len(ACTIONS)))
        self.plans = np.zeros((len(skills), len(STATES), len(ACTIONS)), dtype=bool)
        for row, skill in enumerate(skills):
            for plan in skill.plans:
                for step in plan.steps:
                    self.plans[row, STATES.index(plan.state), ACTIONS.index(step.action)] = True
            proof = evidence.get(skill.name)
            # A skill with no evidence (a person's own) covers what its plans say.
            cells = [(p.state, p.action) for p in proof.prototypes] if proof else []
            for state, action in cells:
                self.cells[row, STATES.index(state), ACTIONS.index(action)] = 1.0
            if not cells:
                self.cells[row] = self.plans[row]
        self._planned = self.plans.any(axis=2)
        self._lift = self._scenario_lift(skills, evidence)
        self._flat = self.cells.reshape(len(skills), -1)
        # Facets sorted by skill, so that one `reduceat` finds the best of each; skills without a facet have none there.
        self._order = np.argsort(owners, kind="stable")
        self._vectors = np.ascontiguousarray(vectors[self._order])
        self._with_facets, self._starts = np.unique(owners[self._order], return_index=True)

    def _scenario_lift(self, skills: "Sequence[Skill]", evidence: "Mapping[str, Evidence]") -> "Floats":
        """Return log P(scenario | skill) / P(scenario), smoothed, of shape (skills, 18)."""
        np = self._np
        counts = np.zeros((len(skills), len(SCENARIOS)))
        for row, skill in enumerate(skills):
            proof = evidence.get(skill.name)
            for prototype in proof.prototypes if proof else ():
                for scenario, n in prototype.scenarios.items():
                    counts[row, SCENARIOS.index(scenario)] += n
            if not proof:
                for scenario in skill.scenarios:
                    counts[row, SCENARIOS.index(scenario)] += SCENARIO_PRIOR
        total = counts.sum(axis=0) + 1.0
        base = total / total.sum()
        share = (counts + SCENARIO_PRIOR * base) / (counts.sum(axis=1, keepdims=True) + SCENARIO_PRIOR)
        return np.log(share / base)

    def features(
        self,
        states: "Floats",
        scenarios: "Floats",
        embedding: "NDArray[np.floating]",
        moment: Moment,
        outlook: Outlook,
        weights: Weights,
    ) -> Features:
        """Return the features of every skill for one reading."""
        np = self._np
        practice = (states[:, None] * outlook.practice).reshape(-1)
        cover = self._flat @ practice
        worth = self.worth(outlook, moment, weights)
        best = np.where(self.plans, worth[None], -np.inf).max(axis=2)
        best = np.where(self._planned, best, 0.0)
        mass = self._planned @ states
        outcome = (best @ states) / np.maximum(mass, 1e-6)
        facet, cosine = self._closest(embedding)
        return Features(
            cover=np.log(cover + COVER_FLOOR),
            outcome=outcome,
            facet=facet - facet.mean(),
            scenario=self._lift @ scenarios,
            cosine=cosine,
            similarity=float(facet.max(initial=-1.0)),
            worth=worth,
        )

    def worth(self, outlook: Outlook, moment: Moment, weights: Weights) -> "Floats":
        """Return the worth of every cell (15, 17), less a cost where the action should wait."""
        value = outlook.value(weights.caution, weights.depth)
        for i, state in enumerate(STATES):
            for j, action in enumerate(ACTIONS):
                if held_back(action, state, moment):
                    value[i, j] -= HELD_BACK_COST
        return value

    def _closest(self, embedding: "NDArray[np.floating]") -> "tuple[Floats, NDArray[np.float32]]":
        """Return the best cosine per skill and all cosines, facets in the order of `_order`."""
        np = self._np
        best = np.zeros(len(self.cells))
        cosine = self._vectors @ embedding.astype(np.float32)
        if len(cosine):
            best[self._with_facets] = np.maximum.reduceat(cosine, self._starts)
        return best, cosine

    def closest_facet(self, row: int, features: Features) -> int:
        """Return the place of skill `row`'s closest facet among the facets given at the start; -1 if it has none."""
        place = int(self._np.searchsorted(self._with_facets, row))
        if place == len(self._with_facets) or self._with_facets[place] != row:
            return -1
        begin = int(self._starts[place])
        end = int(self._starts[place + 1]) if place + 1 < len(self._starts) else len(self._order)
        return int(self._order[begin + int(features.cosine[begin:end].argmax())])

    @staticmethod
    def scores(features: Features, weights: Weights) -> "Floats":
        """Return the score of every skill, between 0 and 1."""
        import numpy as np

        linear = features.matrix() @ np.array([weights.cover, weights.outcome, weights.facet, weights.scenario])
        return 1.0 / (1.0 + np.exp(-(weights.bias + linear)))
