"""The feature vector by which prototypes are grouped into situations.

Each block is centred, scaled to a mean squared length of one, and multiplied by its weight, so that a weight says what
share of the distance between two prototypes a block may decide (its square, against the sum of the squares).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..skills_bank.models import InterventionUnit, Prototype
from ..skills_bank.taxonomy import ACTION_INFO, STATE_INFO, ResponseChange, SeekerState, SupportAction
from .corpus import Dialogue
from .frozen import embed
from .labels import BUILD_SPLITS, DialogueLabels
from .prototypes import by_cell

WEIGHTS: dict[str, float] = {
    # What the seeker is in decides first: a supporter recognises a situation by the state, then chooses what to do.
    "state": 1.0,
    # Hill's stage of the action (exploration, insight, action): separates hearing somebody out from moving forward.
    "stage": 0.7,
    # What seekers in that cell really say; keeps states together whose lines are alike whatever their names.
    "lines": 0.6,
    # Definition and example of the action: kinds of the same stage that mean nearly the same stay together.
    "action": 0.4,
    # What followed. Kept low: it is the noisiest block, and a situation is to be recognised before its outcome.
    "outcome": 0.3,
    # Where in the talk the cell occurs, 0 at its start to 1 at its end.
    "position": 0.3,
    # Asking about danger and pointing to help is a protocol that cuts across all states: it is to stand as one.
    "safety": 0.8,
}
SHRINKAGE = 20
"""Units' worth of the state's mean that is mixed into a cell's own mean, so that a cell of six does not run off."""
Place = tuple[str, int]
"""Dialogue id and number of a supporter turn."""


def seeker_lines(labels: Sequence[DialogueLabels], dialogues: Mapping[str, Dialogue]) -> dict[Place, str]:
    """Return the seeker turn before each labelled supporter turn."""
    return {
        (labelled.id, turn.turn): dialogues[labelled.id].text(labelled.turns[i - 1].utterances)
        for labelled in labels
        if labelled.split in BUILD_SPLITS
        for i, turn in enumerate(labelled.turns)
        if turn.change is not None
    }


def positions(labels: Sequence[DialogueLabels]) -> dict[Place, float]:
    """Return how far into its dialogue each supporter turn stands, from 0 (first turn) to 1 (last turn)."""
    return {
        (labelled.id, turn.turn): (turn.turn - 1) / (len(labelled.turns) - 1)
        for labelled in labels
        for turn in labelled.turns
        if turn.change is not None
    }


class Features:
    """What is computed once per corpus: vectors of the lines and the definitions, and the positions."""

    def __init__(self, lines: Mapping[Place, np.ndarray], where: Mapping[Place, float], cache: Path | None) -> None:
        self._lines = lines
        self._where = where
        states = [f"{info.name}. {info.definition} {info.example}" for info in STATE_INFO.values()]
        actions = [f"{info.name}. {info.definition} {info.example}" for info in ACTION_INFO.values()]
        self._states = dict(zip(SeekerState, embed(states, cache=cache), strict=True))
        self._actions = dict(zip(SupportAction, embed(actions, cache=cache), strict=True))

    def matrix(
        self, units: Sequence[InterventionUnit], kept: Sequence[Prototype], weights: Mapping[str, float] = WEIGHTS
    ) -> np.ndarray:
        """Return one row per prototype of `kept`, from the units it stands for."""
        changes = list(ResponseChange)
        known = {
            (unit.dialogue, unit.turn, unit.change): np.concatenate(
                [
                    self._lines[unit.dialogue, unit.turn],
                    np.eye(len(changes))[changes.index(unit.change)],
                    [self._where[unit.dialogue, unit.turn]],
                ]
            )
            for unit in units
        }
        cells = by_cell(units)
        rows = {cell: np.stack([known[u.dialogue, u.turn, u.change] for u in group]) for cell, group in cells.items()}
        state_mean = {
            state: np.concatenate([rows[cell] for cell in rows if cell[0] == state]).mean(axis=0)
            for state in {p.state for p in kept}
        }
        means = np.stack(
            [
                (rows[p.state, p.action].sum(axis=0) + SHRINKAGE * state_mean[p.state])
                / (len(rows[p.state, p.action]) + SHRINKAGE)
                for p in kept
            ]
        )
        width = means.shape[1] - len(changes) - 1
        stages = sorted({info.hill_stage for info in ACTION_INFO.values()})
        blocks = {
            "state": np.stack([self._states[p.state] for p in kept]),
            "stage": np.array([[ACTION_INFO[p.action].hill_stage == stage for stage in stages] for p in kept], float),
            "lines": means[:, :width],
            "action": np.stack([self._actions[p.action] for p in kept]),
            "outcome": np.sqrt(means[:, width:-1]),  # square roots: Euclidean distance is then Hellinger's
            "position": means[:, -1:],
            "safety": np.array([[p.action == SupportAction("safety_check_and_referral")] for p in kept], float),
        }
        return np.hstack([weights[name] * _scaled(block) for name, block in blocks.items()])


def _scaled(block: np.ndarray) -> np.ndarray:
    centred = block - block.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=1).mean())
    return centred / length if length > 0 else centred
