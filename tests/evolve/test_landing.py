"""Words that do not land: which steps are told of, in what numbers, and when nothing is said."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from esc_skills.evolve.landing import landings, unlanded
from esc_skills.evolve.models import Finding, FindingKind
from esc_skills.evolve.wordings import KINDS
from esc_skills.simulator.local_seeker import FAULTS
from esc_skills.simulator.seeker import Appraisal
from esc_skills.simulator.session import Transcript, TurnRecord
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.taxonomy import SeekerState, SupportAction

sys.path.insert(0, str(Path(__file__).parent))
from composed_talks import read, run

from esc_skills.evolve.analysis import moments_of
from esc_skills.evolve.expectation import Expectation
from esc_skills.evolve.local_analyzer import LocalAnalyzer

S, A = SeekerState, SupportAction
HOPE, BLAME = "meeting-hopelessness", "easing-self-blame"
OWN = {S.HOPELESSNESS: HOPE, S.SELF_BLAME: BLAME}
ACTIONS = (A.OPEN_EXPLORATION, A.EMOTIONAL_VALIDATION)
Hearing = Callable[[str, SupportAction, int], tuple[SupportAction, ...]]


@pytest.fixture(scope="module")
def bank() -> Bank:
    whole = Bank.load(shipped_bank())
    return replace(whole, skills={name: whole.skills[name] for name in OWN.values()})


def says(bank: Bank, skill: str, state: SeekerState, action: SupportAction) -> str:
    plan = bank.skills[skill].plan_for(state)
    assert plan is not None
    return next(step.say or "" for step in plan.steps if step.action == action)


def talks(
    bank: Bank,
    hears: Hearing,
    cost: float = -3.0,
    off_topic: Hearing = lambda *_: (),
    own_words: bool = True,
    n: int = 60,
) -> list[Transcript]:
    """Talks in which every reply is a step's words; open questions of the one skill are followed by `cost`.

    `hears` gives what is heard; `off_topic` anything where the reply seems to be about something else.
    """

    def effect(_: S, skill: str | None, action: A, __: object) -> float:
        return cost if (skill, action) == (HOPE, A.OPEN_EXPLORATION) else 0.0

    def told(place: int, turn: TurnRecord) -> TurnRecord:
        skill, action = turn.followed, turn.actions[0]
        if skill is None:
            return turn
        text = says(bank, skill, next(s for s, name in OWN.items() if name == skill), action)
        note = FAULTS["off_topic"] if off_topic(skill, action, place) else "Heard."
        assert turn.appraisal is not None
        return turn.model_copy(
            update={
                "supporter": text if own_words else f"That is reply {turn.number}.",
                "heard": hears(skill, action, place),
                "appraisal": Appraisal.model_validate({**turn.appraisal.model_dump(), "content": note}),
            }
        )

    states = tuple(OWN)
    held = run(n, states, lambda state, _: OWN.get(state), effect, actions=ACTIONS)
    return [
        talk.model_copy(update={"turns": tuple(told(i * 8 + j, turn) for j, turn in enumerate(talk.turns))})
        for i, talk in enumerate(held)
    ]


def found(bank: Bank, held: list[Transcript]) -> list[Finding]:
    moments = list(moments_of(held, read))
    return unlanded(moments, bank, Expectation(moments))


def heard(_: str, action: SupportAction, __: int) -> tuple[SupportAction, ...]:
    return (action,)


def misheard(skill: str, action: SupportAction, _: int) -> tuple[SupportAction, ...]:
    return (A.CLARIFYING_QUESTION,) if (skill, action) == (HOPE, A.OPEN_EXPLORATION) else (action,)


def test_words_that_are_heard_as_something_else_are_told_in_numbers(bank: Bank):
    held = talks(bank, misheard)
    (finding,) = found(bank, held)
    assert (finding.kind, finding.skill, finding.context.states) == (FindingKind.WORDS, HOPE, (S.HOPELESSNESS,))
    assert finding.reword == (A.OPEN_EXPLORATION,) and finding.avoid == finding.favour == ()
    assert finding.effect == pytest.approx(-3.0, abs=1.0) and finding.p is not None and finding.p < 0.001
    n = sum(turn.followed == HOPE and turn.actions[0] == A.OPEN_EXPLORATION for talk in held for turn in talk.turns)
    assert finding.turns == n == sum(len(cite.turns) for cite in finding.cites)
    assert f"{n} were not heard as that but as clarifying question ({n})" in " ".join(finding.what.lower().split())


def test_the_analyzer_tells_of_them(bank: Bank):
    findings = LocalAnalyzer(bank, read).findings(list(moments_of(talks(bank, misheard), read)))
    assert [f.skill for f in findings if f.kind == FindingKind.WORDS] == [HOPE]


def test_words_that_land_are_not_told_of_however_they_do(bank: Bank):
    assert found(bank, talks(bank, heard)) == []


def test_misheard_words_that_do_no_worse_are_left_alone(bank: Bank):
    assert found(bank, talks(bank, misheard, cost=3.0)) == []


def test_words_about_something_else_are_told_of_though_the_action_is_heard(bank: Bank):
    def strange(skill: str, action: SupportAction, place: int) -> tuple[SupportAction, ...]:
        return (action,) if (skill, action) == (HOPE, A.OPEN_EXPLORATION) and place % 3 == 0 else ()

    (finding,) = found(bank, talks(bank, heard, off_topic=strange))
    assert finding.reword == (A.OPEN_EXPLORATION,) and "0 were not heard as that, and" in finding.what


def test_where_all_words_are_misheard_half_is_enough(bank: Bank):
    held = talks(bank, lambda *_: (A.SUMMARIZING,))
    assert {f.skill for f in found(bank, held)} >= {HOPE}


def test_a_seeker_that_does_not_say_what_it_heard_is_no_evidence(bank: Bank):
    assert found(bank, talks(bank, lambda *_: ())) == []


def test_too_few_replies_are_no_evidence(bank: Bank):
    assert found(bank, talks(bank, misheard, n=3)) == []


def test_the_state_is_that_of_the_plan_the_words_stand_in(bank: Bank):
    held = talks(bank, heard)
    moments = list(moments_of(held, read))  # the first reply of each talk answers neutral narration
    assert {cell.state for cell in landings(moments, bank)} == set(OWN)
    assert sum(len(cell.places) for cell in landings(moments, bank)) == sum(m.followed is not None for m in moments)


def test_words_of_a_model_count_for_the_state_that_was_answered(bank: Bank):
    moments = list(moments_of(talks(bank, misheard, own_words=False), read))
    cells = {(cell.skill, cell.state, cell.action) for cell in landings(moments, bank)}
    assert cells == {(name, state, action) for state, name in OWN.items() for action in ACTIONS}
    (finding,) = unlanded(moments, bank, Expectation(moments))
    assert finding.skill == HOPE


def test_words_of_safety_and_of_oneself_are_not_looked_at(bank: Bank):
    moments = [
        moment._replace(actions=(action,), followed=HOPE, state=S.HOPELESSNESS, heard=(A.SUMMARIZING,))
        for moment in moments_of(talks(bank, heard), read)
        for action in (A.SAFETY_CHECK_AND_REFERRAL, A.SELF_DISCLOSURE)
    ]
    assert landings(moments, bank) == []


def test_every_kind_of_finding_has_a_word():
    assert set(KINDS) == set(FindingKind)
