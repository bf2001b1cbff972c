"""New words for steps: which lines are taken, in which attempt, and that plain ones are heard as their action."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from esc_skills.evolve.plain_lines import LIGHT, load_plain_lines
from esc_skills.evolve.rewording import LANDS, local_hear, reworded, seekers
from esc_skills.evolve.screen import unsafe_lines
from esc_skills.evolve.words import Words
from esc_skills.pipeline.phrasebook import load_phrases
from esc_skills.simulator.hearing import Heard
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.models import Message, Skill
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.taxonomy import SeekerState, SupportAction

S, A = SeekerState, SupportAction
HOPE, INSIGHT = "meeting-hopelessness", "deepening-an-insight"
WANTED = {S.HOPELESSNESS: (A.OPEN_EXPLORATION,)}
BOOK = load_phrases()


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load(shipped_bank())


def line_of(skill: Skill, state: SeekerState, action: SupportAction) -> str:
    plan = skill.plan_for(state)
    assert plan is not None
    return next(step.say or "" for step in plan.steps if step.action == action)


class Ear:
    """Hears an open question in these lines, and nothing in particular in any other."""

    def __init__(self, *lands: str, strange: Sequence[str] = ()) -> None:
        self.lands, self.strange = lands, strange

    def __call__(self, talk: Sequence[Message]) -> Heard:
        text = talk[-1].content
        action = A.OPEN_EXPLORATION if text in self.lands else A.NORMALIZATION
        return Heard({action: 0.9}, off_topic=text in self.strange)


def offered(bank: Bank, skill: str = HOPE, state: SeekerState = S.HOPELESSNESS) -> list[str]:
    return list(Words(BOOK, bank, skill).lines(bank.skills[skill], state, A.OPEN_EXPLORATION))


def write(bank: Bank, ear: Ear, attempt: int = 1) -> tuple[str, list[str]]:
    skill, told = reworded(bank.skills[HOPE], WANTED, Words(BOOK, bank, HOPE), ear, attempt)
    return line_of(skill, S.HOPELESSNESS, A.OPEN_EXPLORATION), told


def test_the_first_line_that_lands_is_taken_and_each_attempt_takes_another(bank: Bank):
    lines = offered(bank)
    ear = Ear(lines[1], lines[3], lines[4])
    taken = [write(bank, ear, attempt)[0] for attempt in (1, 2, 3)]
    assert taken == [lines[1], lines[3], lines[4]]
    assert write(bank, ear, 4)[0] == lines[4]  # there is no other that lands


def test_a_line_about_something_else_does_not_land(bank: Bank):
    lines = offered(bank)
    assert write(bank, Ear(*lines, strange=lines[:2]))[0] == lines[2]


def test_words_that_are_no_better_stay_and_it_is_said(bank: Bank):
    line, told = write(bank, Ear())
    assert line == line_of(bank.skills[HOPE], S.HOPELESSNESS, A.OPEN_EXPLORATION)
    assert told == [
        "hopelessness: keeps its words for open exploration: none of the library's is heard as it more often."
    ]


def test_the_best_is_taken_where_none_lands_and_it_is_said(bank: Bank):
    lines, talks = offered(bank), seekers(BOOK, S.HOPELESSNESS)
    few = set(talks[: len(talks) // 2])

    def ear(talk: Sequence[Message]) -> Heard:
        good = talk[0].content in few and talk[1].content == lines[2]
        return Heard({A.OPEN_EXPLORATION if good else A.NORMALIZATION: 0.9})

    skill, told = reworded(bank.skills[HOPE], WANTED, Words(BOOK, bank, HOPE), ear, 1)
    assert line_of(skill, S.HOPELESSNESS, A.OPEN_EXPLORATION) == lines[2]
    assert f"by {len(few)} of {len(talks)}" in told[0] and "none lands surely" in told[0]


def test_only_the_words_of_these_steps_change(bank: Bank):
    old = bank.skills[HOPE]
    skill, told = reworded(old, WANTED, Words(BOOK, bank, HOPE), Ear(*offered(bank)), 1)
    steps = [(plan, n) for plan in old.plans for n in range(len(plan.steps))]
    changed = [
        step.action
        for plan, n in steps
        if (step := plan.steps[n]) != next(new for new in skill.plans if new.state == plan.state).steps[n]
    ]
    assert changed == [A.OPEN_EXPLORATION] and len(told) == 1
    assert skill.model_copy(update={"plans": old.plans}) == old


def test_the_moment_an_old_line_answered_goes_with_it(bank: Bank):
    old = bank.skills[HOPE]
    plans = tuple(
        plan.model_copy(
            update={
                "steps": tuple(
                    step.model_copy(update={"how": "Ask one thing. If they write “the kiln went cold”"})
                    for step in plan.steps
                )
            }
        )
        for plan in old.plans
    )
    skill, _ = reworded(
        old.model_copy(update={"plans": plans}), WANTED, Words(BOOK, bank, HOPE), Ear(*offered(bank)), 1
    )
    plan = skill.plan_for(S.HOPELESSNESS)
    assert plan is not None
    assert {step.how for step in plan.steps if step.action == A.OPEN_EXPLORATION} == {"Ask one thing."}


def test_the_safety_check_and_words_about_oneself_are_never_written_anew(bank: Bank):
    safety = bank.skills["checking-safety-and-referring"]
    wanted = {state: (A.SAFETY_CHECK_AND_REFERRAL, A.SELF_DISCLOSURE) for state in S}
    assert reworded(safety, wanted, Words(BOOK, bank, safety.name), Ear(), 1) == (safety, [])


def test_lines_that_are_said_or_speak_of_somebody_are_not_offered(bank: Bank):
    lines = offered(bank)
    assert not any(f" {word} " in f" {line.lower()} " for line in lines for word in ("he", "she", "his", "her"))
    other = bank.skills[INSIGHT]
    plans = tuple(
        plan.model_copy(update={"steps": tuple(step.model_copy(update={"say": lines[0]}) for step in plan.steps)})
        for plan in other.plans
    )
    taken = {**bank.skills, INSIGHT: other.model_copy(update={"plans": plans})}
    assert lines[0] not in offered(replace(bank, skills=taken))


def test_nobody_is_told_of_pain_in_a_light_state():
    lines = load_plain_lines()[A.FEELING_REFLECTION]
    assert not set(lines.heavy) & {line for state in LIGHT for line in lines.lines(state)}
    assert set(lines.heavy) < set(lines.lines(S.SADNESS_AND_GRIEF))


def test_plain_lines_are_safe_and_said_once():
    lines = [line for plain in load_plain_lines().values() for line in (*plain.any, *plain.heavy)]
    assert len(set(lines)) == len(lines)
    assert [reason for line in lines for reason in unsafe_lines(line)] == []
    assert not {A.SAFETY_CHECK_AND_REFERRAL, A.SELF_DISCLOSURE} & set(load_plain_lines())


@pytest.mark.slow
@pytest.mark.parametrize("action", list(load_plain_lines()))
def test_plain_lines_are_heard_as_their_action(action: SupportAction):
    plain = load_plain_lines()[action]
    for line in (*plain.any, *plain.heavy):
        for state in (S.HOPELESSNESS, S.RESISTANCE):
            talks = [[Message(role="seeker", content=said), Message(role="supporter", content=line)]
                     for said in seekers(BOOK, state)]  # fmt: skip
            share = sum(action in local_hear(talk).actions for talk in talks) / len(talks)
            assert share >= LANDS, (line, state)
