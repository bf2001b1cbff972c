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
    """One row a skill of the bank; `facet_at` is the row of the closest facet, -1 where a skill has none."""

    cover: "Floats"
    outcome: "Floats"
    facet: "Floats"
    scenario: "Floats"
    facet_at: "NDArray[np.int64]"
    similarity: float
    """The closest cosine of all."""

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

        self._np, self._vectors, self._owners = np, vectors, owners
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
        self._order = np.argsort(owners, kind="stable")
        self._starts = np.searchsorted(owners[self._order], np.arange(len(skills)))

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
        cover = self.cells.reshape(len(self.cells), -1) @ practice
        worth = self.worth(outlook, moment, weights)
        best = np.where(self.plans, worth[None], -np.inf).max(axis=2)
        best = np.where(self._planned, best, 0.0)
        mass = self._planned @ states
        outcome = (best @ states) / np.maximum(mass, 1e-6)
        facet, facet_at = self._closest(embedding)
        return Features(
            cover=np.log(cover + COVER_FLOOR),
            outcome=outcome,
            facet=facet - facet.mean(),
            scenario=self._lift @ scenarios,
            facet_at=facet_at,
            similarity=float(facet.max(initial=-1.0)),
        )

    def worth(self, outlook: Outlook, moment: Moment, weights: Weights) -> "Floats":
        """Return the worth of every cell (15, 17), less a cost where the action should wait."""
        value = outlook.value(weights.caution, weights.depth)
        for i, state in enumerate(STATES):
            for j, action in enumerate(ACTIONS):
                if held_back(action, state, moment):
                    value[i, j] -= HELD_BACK_COST
        return value

    def _closest(self, embedding: "NDArray[np.floating]") -> "tuple[Floats, NDArray[np.int64]]":
        """Return the best cosine per skill and the row of that facet."""
        np = self._np
        best, at = np.zeros(len(self.cells)), np.full(len(self.cells), -1, dtype=np.int64)
        if not len(self._vectors):
            return best, at
        cosine = (self._vectors @ embedding.astype(np.float32))[self._order]
        ends = np.append(self._starts[1:], len(cosine))
        for row, (begin, end) in enumerate(zip(self._starts, ends, strict=True)):
            if end > begin:
                place = begin + int(cosine[begin:end].argmax())
                best[row], at[row] = cosine[place], self._order[place]
        return best, at

    @staticmethod
    def scores(features: Features, weights: Weights) -> "Floats":
        """Return the score of every skill, between 0 and 1."""
        import numpy as np

        linear = features.matrix() @ np.array([weights.cover, weights.outcome, weights.facet, weights.scenario])
        return 1.0 / (1.0 + np.exp(-(weights.bias + linear)))
