import numpy as np
import pytest

from esc_skills.skills_bank.advice import MOST_QUESTIONS, held_back, order
from esc_skills.skills_bank.models import ActionStep
from esc_skills.skills_bank.moment import Moment, factors
from esc_skills.skills_bank.taxonomy import SeekerState, SupportAction

A, S = SupportAction, SeekerState


def moment(*recent: SupportAction, **changes: object) -> Moment:
    """A talk whose last replies did one action each."""
    base = Moment(len(recent), tuple((action,) for action in recent), S.SADNESS_AND_GRIEF, 12, 30, False)
    return base._replace(**changes)  # pyright: ignore[reportArgumentType]


def steps(*actions: SupportAction) -> list[ActionStep]:
    return [ActionStep(action=action, how="How.") for action in actions]


def value(**worth: float) -> np.ndarray:
    return np.array([worth.get(action.value, 0.0) for action in A])


def test_a_fourth_question_in_a_row_waits():
    asked = moment(*[A.CLARIFYING_QUESTION] * MOST_QUESTIONS)
    assert "questions" in held_back(A.OPEN_EXPLORATION, S.SADNESS_AND_GRIEF, asked)
    assert not held_back(A.EMOTIONAL_VALIDATION, S.SADNESS_AND_GRIEF, asked)


def test_a_question_is_free_again_after_something_else():
    mixed = moment(A.OPEN_EXPLORATION, A.EMOTIONAL_VALIDATION, A.OPEN_EXPLORATION)
    assert mixed.questions_in_a_row == 1
    assert not held_back(A.OPEN_EXPLORATION, S.SADNESS_AND_GRIEF, mixed)


def test_pushed_back_advice_is_not_repeated():
    advised = moment(A.EMOTIONAL_VALIDATION, A.PRACTICAL_SUGGESTION)
    for action in (A.PRACTICAL_SUGGESTION, A.INFORMATION_GIVING, A.COLLABORATIVE_PLANNING):
        assert held_back(action, S.RESISTANCE, advised) == "advice was just pushed back"
        assert not held_back(action, S.CALM_OR_HOPEFUL, advised)


def test_reframing_waits_until_a_feeling_was_acknowledged():
    assert held_back(A.COGNITIVE_REFRAMING, S.SELF_BLAME, moment(A.OPEN_EXPLORATION))
    assert not held_back(A.COGNITIVE_REFRAMING, S.SELF_BLAME, moment(A.EMOTIONAL_VALIDATION))


def test_a_summary_waits_for_something_to_sum_up():
    assert held_back(A.SUMMARIZING, S.SADNESS_AND_GRIEF, moment())
    assert not held_back(A.SUMMARIZING, S.SADNESS_AND_GRIEF, moment(A.OPEN_EXPLORATION, A.RESTATEMENT))


def test_self_disclosure_is_left_to_people():
    assert "human" in held_back(A.SELF_DISCLOSURE, S.SADNESS_AND_GRIEF, moment(A.EMOTIONAL_VALIDATION))


def test_order_puts_the_better_outcome_first_and_what_waits_last():
    ranked = order(
        steps(A.EMOTIONAL_VALIDATION, A.COGNITIVE_REFRAMING, A.OPEN_EXPLORATION),
        S.SELF_BLAME,
        moment(A.RESTATEMENT),
        value(emotional_validation=0.3, cognitive_reframing=0.9, open_exploration=0.5),
    )
    assert [item.step.action for item in ranked] == [
        A.OPEN_EXPLORATION,
        A.EMOTIONAL_VALIDATION,
        A.COGNITIVE_REFRAMING,
    ]
    assert ranked[-1].held_back == "acknowledge the feeling first"


def test_ties_keep_the_authors_order():
    ranked = order(steps(A.NORMALIZATION, A.RESTATEMENT), S.SADNESS_AND_GRIEF, moment(), value())
    assert [item.step.action for item in ranked] == [A.NORMALIZATION, A.RESTATEMENT]


@pytest.mark.parametrize(("turns", "stage"), [(0, "early"), (3, "early"), (4, "middle"), (8, "middle"), (9, "late")])
def test_stage_follows_the_supporter_turns(turns: int, stage: str):
    assert moment(supporter_turns=turns).stage == stage


def test_factors_name_what_the_last_reply_did():
    found = factors(moment(A.PRACTICAL_SUGGESTION, asks=True))
    assert {
        "last=practical_suggestion",
        "last_family=advice",
        "advised=True",
        "acknowledged=False",
        "asks=True",
    } <= set(found)
