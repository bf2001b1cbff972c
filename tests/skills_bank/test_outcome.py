import numpy as np
import pytest

from esc_skills.skills_bank.errors import ModelError
from esc_skills.skills_bank.moment import Moment
from esc_skills.skills_bank.outcome import OUTCOMES, OutcomeModel, terms_of
from esc_skills.skills_bank.taxonomy import SeekerState, SupportAction

START = Moment(0, (), None, 10, 10, False)


def weights(**terms: object) -> dict[str, object]:
    model = {"intercept": 0.0, "repeat": [0.0] * len(SupportAction), **terms}
    return {"format": 1, "models": {name: model for name in (*OUTCOMES, "practice")}}


def test_no_evidence_means_even_odds():
    outlook = OutcomeModel(weights()).outlook(START)
    assert outlook.positive.shape == (len(SeekerState), len(SupportAction))
    assert np.allclose(outlook.positive, 0.5)
    assert np.allclose(outlook.practice.sum(axis=1), 1.0)


def test_a_term_of_states_moves_rows_and_a_term_of_actions_moves_columns():
    state = [1.0] + [0.0] * (len(SeekerState) - 1)
    action = [0.0] * (len(SupportAction) - 1) + [2.0]
    outlook = OutcomeModel(weights(state=state, action=action)).outlook(START)
    assert np.allclose(outlook.positive[0, 0], 1 / (1 + np.exp(-1)))
    assert np.allclose(outlook.positive[1, -1], 1 / (1 + np.exp(-2)))
    assert np.allclose(outlook.positive[0, -1], 1 / (1 + np.exp(-3)))


def test_repeating_the_last_action_is_weighed():
    repeat = [0.0] * len(SupportAction)
    repeat[0] = -1.0
    model = OutcomeModel(weights(repeat=repeat))
    first = next(iter(SupportAction))
    again = START._replace(supporter_turns=1, recent=((first,),))
    assert model.outlook(again).positive[0, 0] < model.outlook(START).positive[0, 0]


def test_worth_charges_negatives_and_credits_depth():
    outlook = OutcomeModel(weights()).outlook(START)
    assert np.allclose(outlook.value(caution=1.0, depth=0.2), 0.5 - 0.5 + 0.1)


def test_incomplete_weights_are_named():
    with pytest.raises(ModelError, match="practice"):
        OutcomeModel({"models": {name: {} for name in OUTCOMES}})


def test_the_moment_names_terms_for_its_phase():
    assert "pair|early" in terms_of(START)
    assert "pair|late" in terms_of(START._replace(supporter_turns=12))


def test_the_shipped_model_knows_the_field():
    outlook = OutcomeModel.load().outlook(START._replace(supporter_turns=1, words=4, words_so_far=6))
    states, actions = list(SeekerState), list(SupportAction)
    row = outlook.positive[states.index(SeekerState.SADNESS_AND_GRIEF)]
    # Early on and after few words an open question is followed by more than small talk is.
    assert row[actions.index(SupportAction.OPEN_EXPLORATION)] > row[actions.index(SupportAction.RAPPORT_AND_CLOSING)]
    assert ((outlook.positive > 0) & (outlook.positive < 1)).all()
