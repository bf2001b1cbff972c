"""Findings that say the same become one proposal, and the heaviest come first."""

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from esc_skills.evolve.consolidate import consolidate, consolidated
from esc_skills.evolve.models import Cite, Context, Finding, FindingKind, ProposalKind
from esc_skills.simulator.needs import HiddenNeed
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction

S, A = SeekerState, SupportAction
HOPE, BLAME = "meeting-hopelessness", "easing-self-blame"


@pytest.fixture(scope="module")
def bank() -> Bank:
    whole = Bank.load(shipped_bank())
    return replace(whole, skills={name: whole.skills[name] for name in (HOPE, BLAME)})


def finding(
    kind: FindingKind = FindingKind.HARM,
    skill: str | None = HOPE,
    turns: Iterable[int] = (1, 2),
    profile: str = "composed-1",
    **more: object,
) -> Finding:
    numbers = tuple(turns)
    values = {"what": f"Replies by {skill} were followed by less.", "effect": -2.0}
    cites = (Cite(profile=profile, turns=numbers),)
    return Finding.model_validate(
        {"kind": kind, "skill": skill, "cites": cites, "turns": len(numbers)} | values | more
    )  # fmt: skip


def gap(title: str = "", **more: object) -> Finding:
    if title:
        more |= {"source": "llm", "effect": None, "what": f"{title}: It was needed."}
    return finding(FindingKind.GAP, **({"skill": None} | more))


def test_all_about_one_skill_is_one_refinement(bank: Bank):
    findings = [
        finding(context=Context(states=(S.HOPELESSNESS,)), avoid=(A.SUMMARIZING,)),
        finding(what="It came too early.", profile="composed-2", favour=(A.OPEN_EXPLORATION, A.SUMMARIZING)),
        finding(skill=BLAME),
    ]
    first, second = consolidate(findings, bank)
    assert (first.id, first.kind, first.skill) == (f"refine-{HOPE}", ProposalKind.REFINE, HOPE)
    assert (first.talks, first.turns, len(first.findings)) == (2, 4, 2) and first.priority == 8.0
    assert first.avoid == (A.SUMMARIZING,) and first.favour == (A.OPEN_EXPLORATION,)
    assert second.id == f"refine-{BLAME}" and first.context == Context()


def test_words_that_did_not_land_join_the_refinement_and_their_action_is_not_blamed(bank: Bank):
    here = Context(states=(S.HOPELESSNESS,))
    words = [
        finding(
            FindingKind.WORDS, turns=(n,), context=here, what="Its words do not land.", reword=(action,), effect=-4.0
        )
        for n, action in enumerate((A.OPEN_EXPLORATION, A.NORMALIZATION), start=1)
    ]
    harm = finding(turns=(1, 3), context=here, avoid=(A.OPEN_EXPLORATION, A.SUMMARIZING))
    (proposal,) = consolidate([harm, *words], bank)
    assert proposal.id == f"refine-{HOPE}" and set(proposal.reword) == {A.OPEN_EXPLORATION, A.NORMALIZATION}
    assert proposal.avoid == (A.SUMMARIZING,) and len(proposal.findings) == 3
    assert proposal.priority == 8.0  # two replies by the wider finding, one more by the other words


def test_the_same_reason_is_kept_once_with_the_support_of_all(bank: Bank):
    told = {"what": "It gave advice before the fear was heard.", "source": "llm", "effect": None}
    again = told | {"what": "It gave advice before the fear was really heard."}
    other = told | {"what": "Praise came where nothing had been achieved."}
    findings = [finding(profile=f"composed-{n}", **each) for n, each in enumerate((told, again, other))]
    (proposal,) = consolidate(findings, bank)
    assert sorted(each.turns for each in proposal.findings) == [2, 4]
    merged = next(each for each in proposal.findings if each.turns == 4)
    assert {cite.profile for cite in merged.cites} == {"composed-0", "composed-1"}
    assert proposal.talks == 3 and proposal.priority == 3.0


def test_a_reply_that_two_findings_cite_counts_once_by_the_wider_one(bank: Bank):
    wide = finding(turns=(1, 2, 3, 4), effect=-1.0)
    narrow = finding(turns=(1, 2), effect=-6.0, context=Context(need=HiddenNeed.NO_FAULT))
    (proposal,) = consolidate([narrow, wide], bank)
    assert proposal.turns == 4 and proposal.priority == 4.0


def test_gaps_of_one_context_are_one_new_skill(bank: Bank):
    here = Context(states=(S.LONELINESS_AND_DISCONNECTION,), scenarios=(Scenario.LONELINESS,))
    there = Context(states=(S.ANGER_AND_FRUSTRATION,))
    found = consolidate([gap(context=here), gap(context=here, profile="composed-2"), gap(context=there)], bank)
    assert [proposal.kind for proposal in found] == [ProposalKind.CREATE] * 2
    assert found[0].id == "create-answering-loneliness-and-disconnection-in-loneliness" and found[0].talks == 2
    assert found[0].context == here and found[0].skill is None


def test_titles_of_a_model_that_share_their_words_are_one_new_skill(bank: Bank):
    grief = Context(states=(S.SADNESS_AND_GRIEF,))
    found = consolidate(
        [
            gap("Making room for mixed grief", context=grief, profile="composed-1"),
            gap("Make room for mixed grief", context=Context(), profile="composed-2"),
            gap("Saying no to a parent", context=grief, profile="composed-3"),
        ],
        bank,
    )
    assert [proposal.id for proposal in found] == ["create-making-room-for-mixed-grief", "create-saying-no-to-a-parent"]
    assert [proposal.talks for proposal in found] == [2, 1]


def test_a_skill_that_is_not_there_stays_a_gap_or_is_dropped(bank: Bank):
    proposals, dropped = consolidated([gap(skill="sitting-with-shame"), finding(skill="no-such-skill")], bank)
    assert [(proposal.id, proposal.title) for proposal in proposals] == [
        ("create-sitting-with-shame", "Sitting with shame")
    ]
    assert [each.finding.skill for each in dropped] == ["no-such-skill"] and "no skill 'no-such-skill'" in dropped[
        0
    ].reason


def test_two_new_skills_of_one_name_get_ids_of_their_own(bank: Bank):
    here = Context(states=(S.RESISTANCE,), scenarios=(Scenario.LONELINESS,))
    apart = [
        gap(context=here, favour=(A.RESTATEMENT, A.SUMMARIZING, A.NORMALIZATION)),
        gap(context=here, favour=(A.CLARIFYING_QUESTION, A.OPEN_EXPLORATION, A.FEELING_REFLECTION)),
    ]
    ids = [proposal.id for proposal in consolidate(apart, bank)]
    assert len(set(ids)) == 2 and all(id.startswith("create-answering-resistance-in-loneliness") for id in ids)


def test_unsafe_comes_before_all_else(bank: Bank):
    heavy = finding(turns=range(1, 10), effect=-9.0)
    unsafe = finding(FindingKind.UNSAFE, BLAME, turns=(1,), effect=None, what="It said so at high risk.")
    assert [proposal.skill for proposal in consolidate([heavy, unsafe], bank)] == [BLAME, HOPE]


def test_the_order_of_findings_makes_no_difference(bank: Bank):
    rng = random.Random(3)
    findings = [
        finding(
            rng.choice([FindingKind.HARM, FindingKind.GAP]),
            rng.choice([HOPE, BLAME, None]),
            turns=sorted(rng.sample(range(1, 10), 3)),
            profile=f"composed-{n % 4}",
            what=rng.choice(["Advice came early.", "Advice came much too early.", "Praise had no ground."]),
            context=Context(states=(rng.choice([S.HOPELESSNESS, S.SELF_BLAME]),)),
            effect=rng.choice([None, -1.0, -2.5]),
        )
        for n in range(30)
    ]
    once = consolidate(findings, bank)
    assert len({proposal.id for proposal in once}) == len(once)
    for _ in range(5):
        rng.shuffle(findings)
        assert consolidate(findings, bank) == once


def test_nothing_found_is_nothing_proposed(bank: Bank):
    assert consolidated([], bank) == ([], [])
