import numpy as np
import pytest

from esc_skills.pipeline.moments import SupportTurn
from esc_skills.pipeline.select_fit import fit_outcomes, fit_ranking
from esc_skills.skills_bank.moment import Moment
from esc_skills.skills_bank.outcome import OutcomeModel
from esc_skills.skills_bank.taxonomy import ResponseChange as C
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction

MOMENT = Moment(2, ((SupportAction.RESTATEMENT,),), None, 8, 20, False)


def turn(n: int, action: SupportAction, change: C) -> SupportTurn:
    return SupportTurn(f"d{n}", 1, Scenario.LONELINESS, SeekerState.SELF_BLAME, (action,), change, MOMENT)


def test_the_outcome_model_learns_which_action_is_followed_by_relief():
    turns = [turn(i, SupportAction.NORMALIZATION, C.EMOTIONAL_RELIEF) for i in range(60)]
    turns += [turn(i, SupportAction.PRACTICAL_SUGGESTION, C.INCREASED_RESISTANCE) for i in range(60)]
    turns += [turn(i, SupportAction.RESTATEMENT, C.MORE_SPECIFIC_EXPRESSION) for i in range(60)]
    turns += [turn(i, SupportAction.OPEN_EXPLORATION, C.INCREASED_OPENNESS) for i in range(10)]
    outlook = OutcomeModel(fit_outcomes(turns)).outlook(MOMENT)
    actions = list(SupportAction)
    good, bad, asked = map(actions.index, ("normalization", "practical_suggestion", "restatement"))
    row = list(SeekerState).index(SeekerState.SELF_BLAME)
    assert outlook.positive[row, good] > outlook.positive[row, bad]
    assert outlook.negative[row, bad] > outlook.negative[row, good]
    assert outlook.positive_other[row, good] > outlook.positive_other[row, asked]
    assert outlook.practice[row, good] > outlook.practice[row, bad]


def test_the_ranking_finds_the_column_that_tells_and_keeps_what_is_fixed():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(300, 5, 4))
    goals = [(i, np.arange(5) == int(features[i, :, 0].argmax())) for i in range(300)]
    weights, bias = fit_ranking(features, goals)
    assert weights[0] > 5 * np.abs(weights[1:]).max()
    assert bias < 0, "one skill in five fits, so a middling score says no"
    fixed, _ = fit_ranking(features, goals, {1: 2.0, 2: 1.0})
    assert fixed[1] == pytest.approx(2 * fixed[2]), "scaled together"
