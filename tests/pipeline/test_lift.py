import numpy as np
import pytest

from esc_skills.pipeline.lift import lift, lift_difference
from esc_skills.pipeline.moments import SupportTurn
from esc_skills.pipeline.select_eval import hits, random_hits
from esc_skills.skills_bank.moment import Moment
from esc_skills.skills_bank.taxonomy import ResponseChange as C
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction

S, A = SeekerState, SupportAction
MOMENT = Moment(1, (), None, 5, 5, False)


def turn(dialogue: int, state: SeekerState, action: SupportAction, change: C) -> SupportTurn:
    return SupportTurn(f"d{dialogue}", 1, Scenario.LONELINESS, state, (action,), change, MOMENT)


def test_lift_is_the_difference_of_rates_within_states_weighted_by_their_turns():
    turns = [
        *[turn(i, S.SELF_BLAME, A.NORMALIZATION, C.EMOTIONAL_RELIEF) for i in range(4)],
        *[turn(i, S.SELF_BLAME, A.RESTATEMENT, C.NO_OBSERVABLE_CHANGE) for i in range(2)],
        *[turn(i, S.SELF_BLAME, A.RESTATEMENT, C.EMOTIONAL_RELIEF) for i in range(2)],
        # In this state doing it makes no difference, and it has as many turns.
        *[turn(i, S.RESISTANCE, A.NORMALIZATION, C.INCREASED_RESISTANCE) for i in range(4)],
        *[turn(i, S.RESISTANCE, A.RESTATEMENT, C.INCREASED_RESISTANCE) for i in range(4)],
    ]
    found = lift(turns, [A.NORMALIZATION] * len(turns))
    assert found.positive.value == pytest.approx((0.5 + 0.0) / 2)
    assert found.negative.value == 0
    assert found.followed == 0.5
    assert found.positive.low <= found.positive.value <= found.positive.high


def test_a_state_where_nobody_followed_carries_no_weight():
    turns = [
        turn(0, S.SELF_BLAME, A.NORMALIZATION, C.EMOTIONAL_RELIEF),
        turn(1, S.SELF_BLAME, A.RESTATEMENT, C.NO_OBSERVABLE_CHANGE),
        turn(2, S.RESISTANCE, A.RESTATEMENT, C.EMOTIONAL_RELIEF),
    ]
    assert lift(turns, [A.NORMALIZATION] * 3).positive.value == 1.0


def test_more_specific_expression_is_left_out_of_the_third_figure():
    turns = [
        turn(0, S.SELF_BLAME, A.OPEN_EXPLORATION, C.MORE_SPECIFIC_EXPRESSION),
        turn(1, S.SELF_BLAME, A.RESTATEMENT, C.NO_OBSERVABLE_CHANGE),
    ]
    found = lift(turns, [A.OPEN_EXPLORATION] * 2)
    assert (found.positive.value, found.positive_other.value) == (1.0, 0.0)


def test_a_policy_does_not_differ_from_itself():
    turns = [turn(i, S.SELF_BLAME, list(A)[i % 3], list(C)[i % 5]) for i in range(40)]
    advice = [A.OPEN_EXPLORATION] * 40
    difference = lift_difference(turns, advice, advice)
    assert all((d.value, d.low, d.high) == (0, 0, 0) for d in difference.values())


def test_hits_count_targets_among_the_first_k():
    orders = np.array([[2, 0, 1], [1, 2, 0]])
    goals = [(0, np.array([True, False, False])), (1, np.array([False, True, False]))]
    assert hits(orders, goals, (1, 3)) == {1: 0.5, 3: 1.0}


def test_random_hits_are_the_hypergeometric_expectation():
    goals = [(0, np.array([True] + [False] * 9))]
    assert random_hits(goals, (1, 3)) == pytest.approx({1: 0.1, 3: 0.3})
