"""The figures of selection on `valid`: hit@k and outcome lift, with rivals, on gold and on predicted states.

hit@k: for a positive key unit, does the skill whose prototypes include its (state, action) stand among the top k?
Outcome lift: the positive-change rate of real supporter turns that did what the top skill recommends, minus that of
turns that did not, standardised over the gold states (direct standardisation: each state weighs as many turns as it
has). It is an association in recorded talks, not the effect of a recommendation.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from ..skills_bank.advice import order
from ..skills_bank.bank import Bank
from ..skills_bank.classify import likely_actions
from ..skills_bank.encoder import Encoder, Turn
from ..skills_bank.models import Message
from ..skills_bank.moment import RECENT, Moment
from ..skills_bank.outcome import OutcomeModel
from ..skills_bank.ranking import ACTIONS, SCENARIOS, STATES, Ranker, Weights
from ..skills_bank.taxonomy import ResponseChange, SeekerState, SupportAction
from .labels import DialogueLabels
from .moments import SupportTurn, support_turns

SMOOTHING = 20.0
"""Units' worth of the state's base rate added to each cell of the rival's table."""
RESAMPLES = 1000
Dialogues = Mapping[str, tuple[DialogueLabels, tuple[Message, ...]]]


class Case(NamedTuple):
    """One real supporter turn with a reading of what stood before it, gold or predicted."""

    turn: SupportTurn
    states: np.ndarray
    scenarios: np.ndarray
    embedding: np.ndarray
    moment: Moment


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


def predicted_cases(dialogues: Dialogues, encoder: Encoder) -> list[Case]:
    """Read every dialogue through the encoder, each turn once, and return one case per support turn."""
    by_dialogue: dict[str, list[SupportTurn]] = defaultdict(list)
    for turn in support_turns(dialogues):
        by_dialogue[turn.dialogue].append(turn)
    found: list[Case] = []
    for name, turns in by_dialogue.items():
        found += _read_dialogue(dialogues[name][1], turns, encoder)
    return found


def _read_dialogue(messages: Sequence[Message], turns: Sequence[SupportTurn], encoder: Encoder) -> list[Case]:
    reading = encoder.read([
        Turn(m.role, m.content, tuple((c.role, c.content) for c in messages[max(0, i - 2) : i]))
        for i, m in enumerate(messages)
    ])
    found = []
    for turn in turns:
        before = range(turn.index)
        seeker = [i for i in before if messages[i].role == "seeker"]
        supporter = [i for i in before if messages[i].role == "supporter"]
        moment = turn.moment._replace(
            recent=tuple(likely_actions(reading.actions[i]) for i in supporter[-RECENT:]),
            previous_state=STATES[int(reading.states[seeker[-2]].argmax())] if len(seeker) > 1 else None,
        )
        scenarios = encoder.read_dialogue([(m.role, m.content) for m in messages[: turn.index]])
        last = seeker[-1]
        found.append(
            Case(turn, reading.states[last].astype(float), scenarios.astype(float), reading.embedding[last], moment)
        )
    return found


def gold_cases(cases: Sequence[Case]) -> list[Case]:
    """Return the same cases with the labelled state, scenario and moment in place of the encoder's."""
    found = []
    for case in cases:
        states, scenarios = np.zeros(len(STATES)), np.zeros(len(SCENARIOS))
        states[STATES.index(case.turn.state)] = 1.0
        scenarios[SCENARIOS.index(case.turn.scenario)] = 1.0
        found.append(case._replace(states=states, scenarios=scenarios, moment=case.turn.moment))
    return found


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
        worth = ranker.worth(outlook, case.moment, weights)[STATES.index(plan.state)]
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


def rival_actions(train: Sequence[SupportTurn], cases: Sequence[Case]) -> list[SupportAction]:
    """The rival: the best action per state in a plain table of smoothed positive rates of train + failed."""
    base: dict[SeekerState, list[int]] = defaultdict(lambda: [0, 0])
    cell: dict[tuple[SeekerState, SupportAction], list[int]] = defaultdict(lambda: [0, 0])
    for turn in train:
        good = int(turn.polarity == "positive")
        base[turn.state][0] += good
        base[turn.state][1] += 1
        for action in set(turn.actions):
            cell[turn.state, action][0] += good
            cell[turn.state, action][1] += 1

    def rate(state: SeekerState, action: SupportAction) -> float:
        prior = base[state][0] / max(1, base[state][1])
        return (cell[state, action][0] + SMOOTHING * prior) / (cell[state, action][1] + SMOOTHING)

    best = {state: max(ACTIONS, key=lambda action: rate(state, action)) for state in STATES}
    return [best[STATES[int(case.states.argmax())]] for case in cases]


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


def popularity(train: Sequence[SupportTurn], cells: np.ndarray) -> np.ndarray:
    """Return skill rows by how many positive key units of train + failed their prototypes hold, most first."""
    counts: Counter[int] = Counter()
    for turn in train:
        if turn.polarity == "positive":
            for action in turn.actions:
                rows = np.flatnonzero(cells[:, STATES.index(turn.state), ACTIONS.index(action)])
                counts.update(int(row) for row in rows)
    return np.array(sorted(range(len(cells)), key=lambda row: (-counts[row], row)))


