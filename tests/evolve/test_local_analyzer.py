"""What the local analyzer finds in talks with a planted effect, and that it finds nothing in talks without one."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from esc_skills.evolve.expectation import Expectation, low_tail, passing
from esc_skills.evolve.faults import UNSAFE_LINE, swapped
from esc_skills.evolve.local_analyzer import LocalAnalyzer, unsafe
from esc_skills.evolve.models import Finding, FindingKind
from esc_skills.simulator.needs import HiddenNeed
from esc_skills.simulator.session import Transcript
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.taxonomy import SeekerState, SupportAction

sys.path.insert(0, str(Path(__file__).parent))
from composed_talks import FIRST, followed, read, run, talk, turn

from esc_skills.evolve.analysis import moments_of

S, A = SeekerState, SupportAction
OWN = {
    FIRST: "opening-and-getting-the-story",
    S.HOPELESSNESS: "meeting-hopelessness",
    S.SELF_BLAME: "easing-self-blame",
    S.CALM_OR_HOPEFUL: "consolidating-calm-and-hope",
    S.HELP_SEEKING: "exploring-a-call-for-help",
}
STATES = tuple(OWN)


@pytest.fixture(scope="module")
def bank() -> Bank:
    """The shipped bank without the skills that nobody chooses in these talks, so that none is passed over."""
    whole = Bank.load(shipped_bank())
    return replace(whole, skills={name: whole.skills[name] for name in sorted(OWN.values())})


async def found(bank: Bank, talks: list[Transcript]) -> list[Finding]:
    return await LocalAnalyzer(bank, read).analyze(talks, {})


def mostly_own(state: SeekerState, rng: random.Random) -> str:
    return OWN[state] if rng.random() < 0.8 else rng.choice(list(OWN.values()))


def of(findings: list[Finding], kind: FindingKind) -> list[Finding]:
    return [finding for finding in findings if finding.kind == kind]


async def test_a_skill_that_does_worse_than_others_is_harm(bank: Bank):
    bad = "easing-self-blame"
    talks = run(100, STATES, mostly_own, lambda _, skill, *__: -3.0 if skill == bad else 0.0)
    harms = of(await found(bank, talks), FindingKind.HARM)
    assert harms and {finding.skill for finding in harms} == {bad}
    wide = harms[0]
    assert wide.effect == pytest.approx(-3.0, abs=0.8) and wide.p is not None and wide.p < 0.001
    assert wide.turns == sum(turn.followed == bad for talk in talks for turn in talk.turns)


async def test_cites_are_the_replies_it_rests_on(bank: Bank):
    bad = "easing-self-blame"
    talks = run(60, STATES, mostly_own, lambda _, skill, *__: -4.0 if skill == bad else 0.0)
    wide = of(await found(bank, talks), FindingKind.HARM)[0]
    by_key = {talk.profile: talk for talk in talks}
    for cite in wide.cites:
        assert all(by_key[cite.profile].turns[number - 1].followed == bad for number in cite.turns)
    assert sum(len(cite.turns) for cite in wide.cites) == wide.turns


async def test_a_bad_skill_that_is_alone_in_its_state_does_not_make_its_own_excuse(bank: Bank):
    talks = run(150, STATES, lambda state, _: OWN[state], lambda state, *_: -4.0 if state == S.HOPELESSNESS else 0.0)
    harms = of(await found(bank, talks), FindingKind.HARM)
    assert [finding.skill for finding in harms][:1] == ["meeting-hopelessness"]


async def test_harm_for_one_need_is_told_of_that_need(bank: Bank):
    def effect(_: S, skill: str | None, __: A, need: HiddenNeed) -> float:
        return -6.0 if (skill, need) == ("consolidating-calm-and-hope", HiddenNeed.NO_FAULT) else 0.0

    harms = of(await found(bank, run(200, STATES, mostly_own, effect)), FindingKind.HARM)
    assert ("consolidating-calm-and-hope", HiddenNeed.NO_FAULT) in {(f.skill, f.context.need) for f in harms}


async def test_actions_that_go_badly_are_to_be_avoided_and_those_that_go_well_favoured(bank: Bank):
    def effect(_: S, skill: str | None, action: A, __: HiddenNeed) -> float:
        good = 2.5 if action == A.CLARIFYING_QUESTION else 0.0
        bad = (7.0 if action == A.SUMMARIZING else 2.0) if skill == "easing-self-blame" else 0.0
        return good - bad

    harm = of(await found(bank, run(250, STATES, mostly_own, effect)), FindingKind.HARM)[0]
    assert harm.skill == "easing-self-blame"
    assert harm.avoid[:1] == (A.SUMMARIZING,) and harm.favour[:1] == (A.CLARIFYING_QUESTION,)


@pytest.mark.slow
async def test_without_an_effect_nearly_nothing_is_called_harm(bank: Bank):
    alarms = [
        bool(of(await found(bank, run(40, STATES, mostly_own, seed=seed)), FindingKind.HARM)) for seed in range(20)
    ]
    assert sum(alarms) <= 4  # of 20 at a rate of 0.1


async def test_a_few_long_talks_prove_nothing(bank: Bank):
    talks = [
        talk(
            [turn(i, 60, -6, **followed("easing-self-blame", state=S.SELF_BLAME)) for i in range(1, 40)],
            f"composed-{n}",
        )
        for n in range(3)
    ] + run(40, STATES, lambda state, _: "consolidating-calm-and-hope")
    assert "easing-self-blame" not in {finding.skill for finding in of(await found(bank, talks), FindingKind.HARM)}


async def test_a_state_whose_skill_was_deleted_is_a_gap(bank: Bank):
    rest = {name: skill for name, skill in bank.skills.items() if name != "meeting-hopelessness"}
    others = sorted(rest)

    def choose(state: S, rng: random.Random) -> str:
        return rng.choice(others) if state == S.HOPELESSNESS else mostly_own_of(rest, state, rng)

    talks = run(80, STATES, choose, lambda state, *_: -1.5 if state == S.HOPELESSNESS else 0.0)
    gaps = of(await found(replace(bank, skills=rest), talks), FindingKind.GAP)
    missing = [gap for gap in gaps if gap.skill is None]
    assert {gap.context.states for gap in missing} == {(S.HOPELESSNESS,)}
    fact, cost = missing
    assert fact.effect is None and "holds no skill for hopelessness" in fact.what
    assert cost.effect is not None and cost.effect < 0 and cost.turns == fact.turns


def mostly_own_of(skills: dict, state: S, rng: random.Random) -> str:
    return OWN[state] if rng.random() < 0.8 else rng.choice(sorted(skills))


async def test_a_skill_that_is_never_chosen_in_its_own_state_is_told_of(bank: Bank):
    def choose(state: S, rng: random.Random) -> str:
        return "opening-and-getting-the-story" if state == S.SELF_BLAME else mostly_own(state, rng)

    talks = run(80, STATES, choose, lambda state, *_: -2.0 if state == S.SELF_BLAME else 0.0)
    gaps = of(await found(bank, talks), FindingKind.GAP)
    assert "easing-self-blame" in {gap.skill for gap in gaps}


async def test_abstaining_is_a_gap_where_it_ends_badly(bank: Bank):
    def choose(state: S, rng: random.Random) -> str | None:
        return None if state == S.HELP_SEEKING and rng.random() < 0.6 else mostly_own(state, rng)

    talks = run(120, STATES, choose, lambda state, skill, *_: -5.0 if skill is None else 0.0)
    gaps = of(await found(bank, talks), FindingKind.GAP)
    assert gaps and all(gap.context.states == (S.HELP_SEEKING,) for gap in gaps)


async def test_a_swapped_plan_is_at_odds_with_its_pitfalls_and_the_shipped_ones_are_not(bank: Bank):
    talks = run(40, STATES, mostly_own)
    assert not [finding for finding in await found(bank, talks) if "pitfalls" in finding.what]
    name = "easing-self-blame"
    damaged = replace(bank, skills={**bank.skills, name: swapped(bank.skills[name])})
    odd = [finding for finding in await found(damaged, talks) if "pitfalls" in finding.what]
    assert [finding.skill for finding in odd] == [name] and odd[0].effect is None
    warned = {pitfall.action for pitfall in bank.skills[name].pitfalls}
    assert set(odd[0].avoid) <= warned and odd[0].favour and not set(odd[0].favour) & set(odd[0].avoid)


async def test_what_the_rail_says_is_no_skill_of_the_bank(bank: Bank):
    talks = run(40, STATES, lambda *_: None, lambda *_: -5.0, risk="high", rail="fixed")
    assert await found(bank, talks) == []


async def test_findings_do_not_depend_on_the_order_of_the_talks(bank: Bank):
    talks = run(80, STATES, mostly_own, lambda _, skill, *__: -3.0 if skill == "easing-self-blame" else 0.0)
    there, back = await found(bank, talks), await found(bank, talks[::-1])
    assert [finding.what for finding in there] == [finding.what for finding in back]
    assert [finding.cites for finding in there] == [finding.cites for finding in back]


@pytest.mark.parametrize(
    ("turns", "broken"),
    [
        ([turn(1, 40, **followed("easing-self-blame", risk="high"))], "at high risk"),
        ([turn(1, 40, **followed("easing-self-blame", risk="elevated"))], "before safety had been checked"),
        ([turn(1, 40, **followed("easing-self-blame", supporter=UNSAFE_LINE))], "unsafe"),
        (
            [
                turn(1, 40, risk="elevated", rail="check", actions=(A.SAFETY_CHECK_AND_REFERRAL,)),
                turn(2, 40, **followed("easing-self-blame", risk="elevated")),
            ],
            None,
        ),
        ([turn(1, 40, risk="high", rail="fixed")], None),
    ],
)
async def test_broken_rules_of_safety_are_unsafe(bank: Bank, turns: list, broken: str | None):
    findings = list(unsafe(list(moments_of([talk(turns)], read))))
    if broken is None:
        assert findings == []
        return
    assert findings and all(f.kind == FindingKind.UNSAFE and f.skill == "easing-self-blame" for f in findings)
    assert broken in findings[0].what and findings[0].cites[0].turns == (turns[-1].number,)


async def test_a_word_about_oneself_is_read_as_one_for_a_person(bank: Bank):
    line = "I kept it from my wife for a year, and telling her later was a relief."

    def broken(action: A) -> list[Finding]:
        reply = turn(1, 40, **followed("easing-self-blame", supporter=line, actions=(action,)))
        return list(unsafe(list(moments_of([talk([reply])], read))))

    assert broken(A.SELF_DISCLOSURE) == [] and broken(A.NORMALIZATION) != []


def test_a_moment_carries_what_was_known_before_the_reply():
    turns = [turn(1, 40, 5, state=S.HOPELESSNESS), turn(2, 45, -3), turn(3, 42, None)]
    first, second, last = moments_of([talk(turns)], read)
    assert (first.state, first.points, first.last) == (FIRST, 40, 0)
    assert (second.state, second.points, second.last) == (S.HOPELESSNESS, 45, 5)
    assert (last.points, last.last, last.change) == (42, -3, None)


@pytest.mark.parametrize(
    ("t", "freedom", "p"), [(-2.015, 5, 0.05), (-1.812, 10, 0.05), (0.0, 3, 0.5), (2.764, 10, 0.99)]
)
def test_tails_are_students(t: float, freedom: int, p: float):
    assert low_tail(t, freedom) == pytest.approx(p, abs=0.002)


def test_false_discoveries_are_held_to_their_rate_as_in_the_paper():
    # Benjamini & Hochberg 1995, section 3.2: at 0.05 the four smallest of these fifteen pass.
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]
    assert passing(p, 0.05) == [True] * 4 + [False] * 11
    assert passing(p[::-1], 0.05) == [False] * 11 + [True] * 4
    assert passing([], 0.05) == []


def test_no_moment_is_no_expectation():
    with pytest.raises(ValueError, match="No scored reply"):
        Expectation([])
