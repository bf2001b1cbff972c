"""SAGE's state machine: edges by example, invariants by property."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esc_skills.simulator.emotion import (
    RLVER,
    RULES,
    SAGE,
    EmotionState,
    End,
    clipped,
    end_of,
    is_failure,
    is_success,
    moved,
    rules_named,
    says_goodbye,
    state_of,
    trajectory,
)
from esc_skills.skills_bank.errors import InputError

changes = st.lists(st.integers(-60, 60), max_size=30)
all_rules = st.sampled_from(list(RULES.values()))


@pytest.mark.parametrize(
    ("points", "state"),
    [(100, "S"), (99, "A"), (70, "A"), (69, "B"), (40, "B"), (39, "C"), (10, "C"), (9, "F"), (0, "F"), (-5, "F")],
)
def test_states_begin_at_their_thresholds(points: int, state: str):
    assert state_of(points) == EmotionState(state)
    assert state_of(points).recorded == f"Emotion-{state}"


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [(40, 25, 50), (40, -25, 30), (95, 10, 100), (100, 10, 100), (5, -10, 0), (40, 0, 40)],
)
def test_sage_clips_caps_and_holds_at_the_floor(before: int, change: int, after: int):
    assert moved(before, change) == after


def test_rlver_neither_clips_nor_has_a_floor():
    assert moved(30, 25, RLVER) == 55
    assert moved(30, -40, RLVER) == -10
    assert moved(90, 40, RLVER) == 100


def test_starts_and_rounds_of_both_sets():
    assert (SAGE.start, SAGE.rounds, SAGE.messages) == (40, 10, 20)
    assert (RLVER.start, RLVER.rounds) == (30, 8)


@pytest.mark.parametrize(
    ("points", "replies", "goodbye", "end"),
    [
        (100, 3, False, End.SUCCESS),
        (100, 10, True, End.SUCCESS),
        (9, 3, True, End.FAILURE),
        (10, 3, False, None),
        (99, 9, False, None),
        (55, 4, True, End.GOODBYE),
        (55, 10, False, End.ROUNDS),
        (55, 9, False, None),
    ],
)
def test_sage_ends(points: int, replies: int, goodbye: bool, end: End | None):
    assert end_of(points, replies, goodbye=goodbye) == end


@pytest.mark.parametrize(
    ("points", "replies", "goodbye", "end"),
    [(100, 3, False, None), (5, 3, False, None), (1, 3, False, None), (0, 3, False, End.FAILURE),
     (100, 3, True, End.GOODBYE), (50, 8, False, End.ROUNDS)],
)  # fmt: skip
def test_rlver_ends_only_at_zero_by_goodbye_or_after_eight(points: int, replies: int, goodbye: bool, end: End | None):
    assert end_of(points, replies, goodbye=goodbye, rules=RLVER) == end


def test_four_times_the_worst_change_ends_a_sage_talk_at_zero():
    assert trajectory([-10] * 4) == (40, 30, 20, 10, 0)


def test_six_times_the_best_change_ends_it_at_a_hundred():
    assert trajectory([99] * 6) == (40, 50, 60, 70, 80, 90, 100)


@given(changes)
def test_a_sage_talk_stays_within_its_bounds_and_moves_at_most_ten(seq: list[int]):
    points = trajectory(seq)
    assert points[0] == 40 and len(points) == len(seq) + 1
    assert all(0 <= p <= 100 for p in points)
    assert all(abs(b - a) <= 10 for a, b in pairwise(points))


@given(changes, all_rules)
def test_no_value_exceeds_the_cap_and_a_smaller_change_never_gives_more(seq: list[int], rules):
    assert all(p <= rules.cap for p in trajectory(seq, rules)[1:])
    assert all(a >= b for a, b in zip(trajectory(seq, rules), trajectory([c - 1 for c in seq], rules), strict=True))


@given(changes)
def test_until_it_ends_a_sage_talk_never_needs_the_floor(seq: list[int]):
    points = SAGE.start
    for change in seq:
        if end_of(points, 0):
            break
        assert points + clipped(change) >= 0
        points = moved(points, change)


@given(st.integers(-20, 120), st.integers(0, 12), st.booleans(), all_rules)
def test_a_talk_that_ends_stays_ended_with_more_replies(points: int, replies: int, goodbye: bool, rules):
    end = end_of(points, replies, goodbye=goodbye, rules=rules)
    later = end_of(points, replies + 1, goodbye=goodbye, rules=rules)
    assert end is None or later == end


@given(st.integers(-20, 120), st.integers(0, 9), st.booleans())
def test_under_sage_rules_success_and_failure_are_the_states_s_and_f(points: int, replies: int, goodbye: bool):
    end = end_of(points, replies, goodbye=goodbye)
    assert (end == End.SUCCESS) == (state_of(points) == EmotionState.S) == is_success(points)
    assert (end == End.FAILURE) == (state_of(points) == EmotionState.F) == is_failure(points)


@given(st.integers(-20, 120), st.integers(0, 60))
def test_states_do_not_get_worse_as_points_rise(points: int, more: int):
    order = list(EmotionState)
    assert order.index(state_of(points + more)) <= order.index(state_of(points))


@pytest.mark.parametrize(
    "text",
    ["Okay, bye.", "Thanks for listening. Goodbye!", "I have to go, take care", "well, see you then", "bye bye", "BYE",
     "That helped. Good night.", "好吧，再见。", "那就这样，拜拜"],
)  # fmt: skip
def test_a_farewell_that_closes_the_message_is_a_goodbye(text: str):
    assert says_goodbye(text)


@pytest.mark.parametrize(
    "text",
    ["He never said goodbye.", "I did not get to say goodbye to her, that is what hurts.", "goodbye was all he wrote",
     "I take care of my mother.", "They said they would see you there, not me.", "", "I lie awake.", "我很难过"],
)  # fmt: skip
def test_a_farewell_that_is_told_of_is_none(text: str):
    assert not says_goodbye(text)


def test_unknown_rules_are_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"'mild'.*sage, rlver"):
        rules_named("mild")
    assert rules_named("rlver") is RLVER
