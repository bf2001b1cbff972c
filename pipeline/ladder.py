"""The baselines that the encoder is measured against: majority, TF-IDF and frozen MiniLM with logistic regression."""

from collections.abc import Sequence

import numpy as np

from ..skills_bank.taxonomy import Scenario, SeekerState, SupportAction
from .items import Item
from .scores import Array, Figures, class_scores, macro_f1, top1_among, top_k, weighted_f1

STATES, ACTIONS, SCENARIOS = list(SeekerState), list(SupportAction), list(Scenario)


def figures(items: Sequence[Item], states: Array, actions: Array, scenarios: Array) -> Figures:
    """Return the figures of scores given for every item (n, classes).

    States are measured on turns with a state, actions on turns with actions, scenarios on whole dialogues.
    """
    seeker, supporter, whole = rows(items)
    gold = gold_states(items, seeker)
    labels = class_scores(STATES, gold, states[seeker].argmax(axis=1))
    primary = gold_primary(items, whole)
    return Figures(
        state_accuracy=float((states[seeker].argmax(axis=1) == gold).mean()),
        state_macro_f1=macro_f1(labels),
        state_weighted_f1=weighted_f1(labels),
        state_top3=top_k(states[seeker], gold, 3),
        action_top1=top1_among(actions[supporter], gold_actions(items, supporter)),
        scenario_accuracy=float((scenarios[whole].argmax(axis=1) == primary).mean()),
    )


def rows(items: Sequence[Item]) -> tuple[Array, Array, Array]:
    """Return the rows of turns with a state, of turns with actions, and of dialogues."""
    return (
        np.array([i for i, item in enumerate(items) if item.state]),
        np.array([i for i, item in enumerate(items) if item.actions]),
        np.array([i for i, item in enumerate(items) if item.lines and item.scenarios]),
    )


def gold_states(items: Sequence[Item], which: Array) -> Array:
    """Return the state index of each row."""
    return np.array([STATES.index(items[i].state) for i in which])  # type: ignore[arg-type]


def gold_actions(items: Sequence[Item], which: Array) -> Array:
    """Return the actions of each row as a 0/1 matrix."""
    return np.array([[float(action in items[i].actions) for action in ACTIONS] for i in which])


def gold_primary(items: Sequence[Item], which: Array) -> Array:
    """Return the index of each row's primary scenario."""
    return np.array([SCENARIOS.index(items[i].scenarios[0]) for i in which])


def majority(train: Sequence[Item], valid: Sequence[Item]) -> Figures:
    """Return the figures of always answering by frequency in training."""
    seeker, supporter, whole = rows(train)
    n = len(valid)
    return figures(
        valid,
        np.tile(np.bincount(gold_states(train, seeker), minlength=len(STATES)), (n, 1)),
        np.tile(gold_actions(train, supporter).sum(axis=0), (n, 1)),
        np.tile(np.bincount(gold_primary(train, whole), minlength=len(SCENARIOS)), (n, 1)),
    )


def tfidf(train: Sequence[Item], valid: Sequence[Item], seed: int) -> Figures:
    """Return the figures of logistic regression on TF-IDF of words and word pairs, current turn and context apart."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    def texts(items: Sequence[Item]) -> tuple[list[str], list[str]]:
        return [current(item) for item in items], [before(item) for item in items]

    own, context = (TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True) for _ in range(2))
    (now, then), (now_v, then_v) = texts(train), texts(valid)
    matrix = hstack([own.fit_transform(now), context.fit_transform(then)]).tocsr()
    return _regression(
        train, valid, matrix, hstack([own.transform(now_v), context.transform(then_v)]).tocsr(), 4.0, seed
    )


def frozen(train: Sequence[Item], valid: Sequence[Item], matrix: Array, matrix_valid: Array, seed: int) -> Figures:
    """Return the figures of logistic regression on frozen sentence vectors of the current turn and of its context."""
    return _regression(train, valid, matrix, matrix_valid, 4.0, seed)


def current(item: Item) -> str:
    """Return the text that is read: the turn, or the seeker's lines of a dialogue."""
    return item.turn.content if item.turn else " ".join(text for role, text in item.lines if role == "seeker")


def before(item: Item) -> str:
    """Return the context of a turn as one text."""
    return " ".join(text for _, text in item.turn.context) if item.turn else ""


def _regression(train, valid, matrix, matrix_valid, c: float, seed: int) -> Figures:
    from sklearn.linear_model import LogisticRegression

    seeker, supporter, whole = rows(train)
    pairs = [(i, ACTIONS.index(action)) for i in supporter for action in train[i].actions]
    tasks = {
        "states": (seeker, gold_states(train, seeker), len(STATES)),
        # One row per (turn, action): the ranking of actions is what top-1 asks for.
        "actions": (np.array([i for i, _ in pairs]), np.array([a for _, a in pairs]), len(ACTIONS)),
        "scenarios": (whole, gold_primary(train, whole), len(SCENARIOS)),
    }
    scores: dict[str, Array] = {}
    for name, (which, gold, size) in tasks.items():
        model = LogisticRegression(C=c, max_iter=300, random_state=seed).fit(matrix[which], gold)
        scores[name] = np.full((len(valid), size), -np.inf)
        scores[name][:, model.classes_] = model.predict_log_proba(matrix_valid)
    return figures(valid, **scores)
