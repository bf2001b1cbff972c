"""The figures of selection on `valid`: hit@k and outcome lift, with rivals, on gold and on predicted states.

hit@k: for a positive key unit, does the skill whose prototypes include its (state, action) stand among the top k?
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from ..skills_bank.advice import order
from ..skills_bank.bank import Bank
from ..skills_bank.encoder import Encoder, Turn
from ..skills_bank.index import Facets
from ..skills_bank.outcome import OutcomeModel
from ..skills_bank.ranking import ACTIONS, STATES, Ranker, Weights, off_topic
from ..skills_bank.taxonomy import SupportAction
from .cases import Case, gold_cases, predicted_cases
from .labels import BUILD_SPLITS
from .lift import Estimate, Lift, lift, lift_difference, rival_actions
from .moments import SupportTurn, dialogue_turns, support_turns

KS = (1, 3)


class Ranked(NamedTuple):
    """What the bank says to each case: skill rows best first (n, skills) and the top skill's first action."""

    order: np.ndarray
    action: list[SupportAction]
    features: np.ndarray
    """(n, skills, 4)."""


def rank(cases: Sequence[Case], bank: Bank, ranker: Ranker, outcomes: OutcomeModel, weights: Weights) -> Ranked:
    """Rank the bank's skills for every case, as `Selector.select` does."""
    skills = list(bank.skills.values())
    orders, actions, features = [], [], []
    for case in cases:
        outlook = outcomes.outlook(case.moment)
        found = ranker.features(case.states, case.scenarios, case.embedding, case.moment, outlook, weights)
        ordered = np.argsort(-Ranker.scores(found, weights), kind="stable")
        skill = skills[int(ordered[0])]
        plan = max(skill.plans, key=lambda plan: case.states[STATES.index(plan.state)])
        worth = found.worth[STATES.index(plan.state)]
        orders.append(ordered)
        actions.append(order(plan.steps, plan.state, case.moment, worth)[0].step.action)
        features.append(found.matrix())
    return Ranked(np.stack(orders), actions, np.stack(features))


def targets(cases: Sequence[Case], cells: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return (case, mask over skills) for every positive key unit that some skill's prototypes include."""
    found = []
    for i, case in enumerate(cases):
        if case.turn.polarity != "positive":
            continue
        for action in case.turn.actions:
            mask = cells[:, STATES.index(case.turn.state), ACTIONS.index(action)] > 0
            if mask.any():
                found.append((i, mask))
    return found


def hits(orders: np.ndarray, goals: Sequence[tuple[int, np.ndarray]], ks: Sequence[int] = (1, 3)) -> dict[int, float]:
    """Return hit@k for each k."""
    return {k: float(np.mean([mask[orders[i, :k]].any() for i, mask in goals])) for k in ks}


def random_hits(goals: Sequence[tuple[int, np.ndarray]], ks: Sequence[int] = (1, 3)) -> dict[int, float]:
    """Return the expected hit@k of a random order."""
    found = {}
    for k in ks:
        misses = []
        for _, mask in goals:
            n, m = len(mask), int(mask.sum())
            misses.append(np.prod([(n - m - j) / (n - j) for j in range(k)]))
        found[k] = float(1 - np.mean(misses))
    return found


def popularity(train: Sequence[SupportTurn], cells: np.ndarray) -> np.ndarray:
    """Return skill rows by how many positive key units of train + failed their prototypes hold, most first."""
    counts: Counter[int] = Counter()
    for turn in train:
        if turn.polarity == "positive":
            for action in turn.actions:
                rows = np.flatnonzero(cells[:, STATES.index(turn.state), ACTIONS.index(action)])
                counts.update(int(row) for row in rows)
    return np.array(sorted(range(len(cells)), key=lambda row: (-counts[row], row)))


class Hits(BaseModel):
    """hit@1 and hit@3 of one ranking."""

    model_config = ConfigDict(frozen=True)

    name: str
    at: dict[int, float]


class View(BaseModel):
    """All figures on one reading of the states: gold or predicted."""

    model_config = ConfigDict(frozen=True)

    reading: str
    turns: int
    units: int
    hits: tuple[Hits, ...]
    ours: Lift
    rival: Lift
    difference: dict[str, Estimate]


def view(
    reading: str, cases: Sequence[Case], train: Sequence[SupportTurn], bank: Bank, facets: Facets,
    outcomes: OutcomeModel, weights: Weights,
) -> View:  # fmt: skip
    """Return every figure for one reading of the states."""
    skills = list(bank.skills.values())
    ranker = Ranker(skills, bank.evidence, facets.vectors, facets.owners([skill.name for skill in skills]))
    ranked = rank(cases, bank, ranker, outcomes, weights)
    goals = targets(cases, ranker.cells)
    turns = [case.turn for case in cases]
    rival = rival_actions(train, cases)
    popular = np.tile(popularity(train, ranker.cells), (len(cases), 1))
    return View(
        reading=reading,
        turns=len(cases),
        units=len(goals),
        hits=(
            Hits(name="random order (expected)", at=random_hits(goals, KS)),
            Hits(name="most popular skills", at=hits(popular, goals, KS)),
            Hits(name="cosine to the description only", at=hits(by_description(cases, bank, facets), goals, KS)),
            Hits(name="**select_skill**", at=hits(ranked.order, goals, KS)),
        ),
        ours=lift(turns, ranked.action),
        rival=lift(turns, rival),
        difference=lift_difference(turns, ranked.action, rival),
    )


def by_description(cases: Sequence[Case], bank: Bank, facets: Facets) -> np.ndarray:
    """Rank skills by the cosine of the seeker's turn to their description alone, as most skill servers do."""
    owners = facets.owners(list(bank.skills))
    rows = np.array([kind == "description" for kind in facets.kinds])
    vectors = np.zeros((len(bank.skills), facets.vectors.shape[1]))
    vectors[owners[rows]] = facets.vectors[rows]
    return np.argsort(-(np.stack([case.embedding for case in cases]) @ vectors.T), axis=1, kind="stable")


def abstentions(
    lines: Sequence[str], cases: Sequence[Case], facets: Facets, encoder: Encoder, weights: Weights
) -> dict[str, float]:
    """Return the share of off-topic lines and of real seeker turns at which the bank says that nothing fits."""

    def share(states: np.ndarray, embeddings: np.ndarray) -> float:
        closest = (embeddings @ facets.vectors.T).max(axis=1)
        return float(np.mean([off_topic(s, float(c), weights) for s, c in zip(states, closest, strict=True)]))

    reading = encoder.read([Turn("seeker", line) for line in lines])
    return {
        "off topic": share(reading.states, reading.embedding),
        "seeker turns": share(np.stack([c.states for c in cases]), np.stack([c.embedding for c in cases])),
    }


def evaluate(
    shared: Path, bank: Bank, facets: Facets, encoder: Encoder, outcomes: OutcomeModel, weights: Weights,
    off_topic_lines: Sequence[str] = (),
) -> tuple[tuple[View, View], dict[str, float]]:  # fmt: skip
    """Return the figures on `valid`, on gold and on predicted states, and how often the bank abstains.

    Raises:
        CorpusError: The corpus is absent under `shared`.
    """
    train = support_turns(dialogue_turns(shared, BUILD_SPLITS))
    cases = predicted_cases(dialogue_turns(shared, ["valid"]), encoder)
    gold = view("gold", gold_cases(cases), train, bank, facets, outcomes, weights)
    predicted = view("predicted", cases, train, bank, facets, outcomes, weights)
    return (gold, predicted), abstentions(off_topic_lines, cases, facets, encoder, weights)
