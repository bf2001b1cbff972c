"""Fit what selection knows: the outcome model (`skills_bank/outcome.json`) and the ranking weights.

Fitted on train + failed alone. Penalties were chosen by five-fold cross-validation over dialogues of train + failed;
`valid` is read by `select_eval` only.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ..skills_bank.bank import Bank
from ..skills_bank.encoder import Encoder
from ..skills_bank.index import Facets
from ..skills_bank.moment import factors
from ..skills_bank.outcome import OUTCOMES, PHASES, OutcomeModel, terms_of
from ..skills_bank.ranking import Ranker, Weights
from ..skills_bank.taxonomy import ResponseChange, SeekerState, SupportAction
from .cases import predicted_cases
from .labels import BUILD_SPLITS
from .moments import SupportTurn, dialogue_turns, support_turns
from .select_eval import rank, targets

STATES, ACTIONS = list(SeekerState), list(SupportAction)
OUTCOME_PENALTY = 0.01
"""Inverse ridge strength; of .003, .01, .02, .04, .1 the best outcome lift in cross-validation."""
PRACTICE_PENALTY = 0.05
OUTCOME_WEIGHT = 6.0
"""Say of the outcome in the ranking, against a cover weight of about 1: between 2 and 10 the outcome lift hardly moves
and hit@3 falls slowly, beyond that it falls fast (docs/selection.md)."""
FACET_WEIGHT = 3.0
"""Likewise for the closest facet, chosen on valid. On train it cannot be fitted: the encoder knows the states of those
turns by heart, so nothing else seems to matter there."""
FIXED = MappingProxyType({1: OUTCOME_WEIGHT, 2: FACET_WEIGHT})
"""Weights by column of `Features.matrix`. Recorded supporters did not choose by outcome: imitation gives it no say."""
CAUTION = 2.0
"""A negative change weighs as much as two positive ones."""
DEPTH = 0.0
"""Extra worth of a change other than more_specific_expression; above zero it bought nothing in cross-validation."""
OFF_TOPIC_SHARE = 0.02
"""Share of real seeker turns of train + failed that lie below `min_similarity`: what the abstention may cost."""
MIN_SCORE = 0.05
"""Least score to answer with; see docs/selection.md for what falls below it."""
NEVER = -10.0
"""Log-odds of an action that no turn of the corpus took."""
_TOLD: dict[str, Callable[[SupportTurn], bool]] = {
    "positive": lambda t: t.polarity == "positive",
    "negative": lambda t: t.polarity == "negative",
    "positive_other": lambda t: t.polarity == "positive" and t.change != ResponseChange.MORE_SPECIFIC_EXPRESSION,
}


def fit_outcomes(turns: Sequence[SupportTurn]) -> dict[str, Any]:
    """Return the weights of the three outcome models and of `practice`, in the shape of `outcome.json`."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = DictVectorizer()
    design = vectors.fit_transform([_outcome_row(turn) for turn in turns])
    models: dict[str, Any] = {}
    for name in OUTCOMES:
        fitted = LogisticRegression(C=OUTCOME_PENALTY, max_iter=1000).fit(design, [_TOLD[name](t) for t in turns])
        models[name] = _arrays(list(vectors.get_feature_names_out()), fitted.coef_[0], float(fitted.intercept_[0]))
    models["practice"] = _fit_practice([t for t in turns if t.polarity == "positive"])
    return {"format": 1, "n": len(turns), "models": models}


def _outcome_row(turn: SupportTurn) -> dict[str, float]:
    """Name each term once per state and action it touches: `term#state#action`, `-` where it touches none."""
    names: Counter[str] = Counter()
    for term in terms_of(turn.moment):
        if term == "intercept":
            continue
        if term == "state" or (term.endswith("|state")):
            names[f"{term}#{turn.state}#-"] = 1
        elif term == "action" or term.endswith("|action"):
            names.update(f"{term}#-#{action}" for action in set(turn.actions))
        elif term.startswith("pair"):
            names.update(f"{term}#{turn.state}#{action}" for action in set(turn.actions))
        else:
            names[f"{term}#-#-"] = 1
    names.update(f"repeat#-#{action}" for action in set(turn.actions) & set(turn.moment.last))
    # How many actions a turn holds; one at serving time, so the constant goes into the intercept there.
    names[f"width={len(set(turn.actions))}#-#-"] = 1
    return dict(names)


def _arrays(names: Sequence[str], weights: Sequence[float], intercept: float) -> dict[str, Any]:
    found: dict[str, np.ndarray] = {"repeat": np.zeros(len(ACTIONS))}
    for name, weight in zip(names, weights, strict=True):
        term, state, action = name.split("#")
        if term.startswith("width="):
            intercept += weight if term == "width=1" else 0.0
        elif state != "-" and action != "-":
            array = found.setdefault(term, np.zeros((len(STATES), len(ACTIONS))))
            array[STATES.index(SeekerState(state)), ACTIONS.index(SupportAction(action))] = weight
        elif state != "-":
            found.setdefault(term, np.zeros(len(STATES)))[STATES.index(SeekerState(state))] = weight
        elif action != "-":
            found.setdefault(term, np.zeros(len(ACTIONS)))[ACTIONS.index(SupportAction(action))] = weight
        else:
            found[term] = np.asarray(weight)
    return {"intercept": round(intercept, 4), **{term: np.round(array, 4).tolist() for term, array in found.items()}}


def _fit_practice(turns: Sequence[SupportTurn]) -> dict[str, Any]:
    """Fit P(action | state, moment) among turns that were followed by a positive change, one row per action."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    rows = [(_practice_row(turn), action) for turn in turns for action in turn.actions]
    vectors = DictVectorizer()
    design = vectors.fit_transform([row for row, _ in rows])
    fitted = LogisticRegression(C=PRACTICE_PENALTY, max_iter=1000).fit(design, [str(action) for _, action in rows])
    seen = list(fitted.classes_)
    order = [seen.index(str(action)) if str(action) in seen else -1 for action in ACTIONS]
    absent = np.array(order) < 0
    found: dict[str, np.ndarray] = {
        "action": np.where(absent, NEVER, fitted.intercept_[order]),
        "pair": np.zeros((len(STATES), len(ACTIONS))),
        "repeat": np.zeros(len(ACTIONS)),
        **{f"pair|{phase}": np.zeros((len(STATES), len(ACTIONS))) for phase in PHASES},
    }
    for column, name in enumerate(vectors.get_feature_names_out()):
        term, state = name.split("#")
        weights = np.where(absent, 0.0, fitted.coef_[order, column])
        if state == "-":
            found[f"{term}|action"] = weights
        else:
            found[term][STATES.index(SeekerState(state))] = weights
    return {term: np.round(array, 4).tolist() for term, array in found.items()}


def _practice_row(turn: SupportTurn) -> dict[str, float]:
    row = {f"{factor}#-": 1.0 for factor in factors(turn.moment)}
    return row | {f"pair#{turn.state}": 1.0, f"pair|{turn.moment.stage}#{turn.state}": 1.0}


def write_json(data: dict[str, Any], path: Path) -> None:
    """Write `data` atomically, one top-level model a line."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
    temporary.replace(path)


def fit_ranking(
    features: np.ndarray, goals: Sequence[tuple[int, np.ndarray]], fixed: Mapping[int, float] = MappingProxyType({})
) -> tuple[np.ndarray, float]:
    """Return the four feature weights and the bias that turns their sum into a score.

    First a conditional logit (McFadden 1974): the weights under which the skill that holds the unit's (state, action)
    wins among all skills, `features` being (cases, skills, 4) and `goals` (case, mask over skills). Then one scale and
    bias by logistic regression over all (case, skill) pairs (Platt 1999), so that a score is the chance that the skill
    holds what was done. `fixed` gives columns a weight instead of fitting it.
    """
    from scipy.optimize import minimize
    from sklearn.linear_model import LogisticRegression

    rows = np.array([i for i, _ in goals])
    masks = np.stack([mask for _, mask in goals])
    chosen = features[rows]
    free = [column for column in range(4) if column not in fixed]

    def spread(w: np.ndarray) -> np.ndarray:
        full = np.zeros(4)
        full[free] = w
        for column, weight in fixed.items():
            full[column] = weight
        return full

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        logits = chosen @ spread(w)
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        p = odds / odds.sum(axis=1, keepdims=True)
        q = odds * masks
        q /= np.maximum(q.sum(axis=1, keepdims=True), 1e-12)
        likelihood = np.log(np.maximum((p * masks).sum(axis=1), 1e-12)).mean()
        gradient = ((q - p)[:, :, None] * chosen).sum(axis=1).mean(axis=0)
        return -float(likelihood) + 1e-4 * float(w @ w), -gradient[free] + 2e-4 * w

    weights = spread(minimize(loss, np.zeros(len(free)), jac=True, method="L-BFGS-B").x)
    margins = (chosen @ weights).reshape(-1, 1)
    platt = LogisticRegression(C=1e6).fit(margins, masks.reshape(-1))
    return weights * float(platt.coef_[0, 0]), float(platt.intercept_[0])


def fit_selection(shared: Path, bank: Bank, facets: Facets, encoder: Encoder, out: Path) -> Weights:
    """Fit the outcome model and the ranking on train + failed and write both files into `out`.

    Raises:
        CorpusError: The corpus is absent under `shared`.
    """
    dialogues = dialogue_turns(shared, BUILD_SPLITS)
    weights = fit_outcomes(support_turns(dialogues))
    write_json(weights, out / "outcome.json")
    outcomes = OutcomeModel(weights)
    blank = Weights(
        bias=0,
        cover=1,
        outcome=0,
        facet=0,
        scenario=0,
        min_score=MIN_SCORE,
        min_similarity=0,
        caution=CAUTION,
        depth=DEPTH,
    )
    cases = predicted_cases(dialogues, encoder)
    skills = list(bank.skills.values())
    ranker = Ranker(skills, bank.evidence, facets.vectors, facets.owners([skill.name for skill in skills]))
    features = rank(cases, bank, ranker, outcomes, blank).features
    closest = [float((facets.vectors @ case.embedding).max()) for case in cases]
    (cover, outcome, facet, scenario), bias = fit_ranking(features, targets(cases, ranker.cells), FIXED)
    fitted = blank.model_copy(
        update={
            "bias": round(bias, 4),
            "min_similarity": round(float(np.quantile(closest, OFF_TOPIC_SHARE)), 4),
            **{
                name: round(float(value), 4)
                for name, value in zip(
                    ("cover", "outcome", "facet", "scenario"), (cover, outcome, facet, scenario), strict=True
                )
            },
        }
    )
    write_json(fitted.model_dump(), out / "ranking.json")
    return fitted
