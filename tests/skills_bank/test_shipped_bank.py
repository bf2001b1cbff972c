"""The bank that ships: what a counselling trainer and every consumer of SKILL.md would check."""

import re
from itertools import combinations
from pathlib import Path

import pytest
from skills_ref.validator import validate as agentskills_validate

from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.index import facets_of
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.taxonomy import SeekerState, SupportAction
from esc_skills.skills_bank.validate import problems_in_bank


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank.load(shipped_bank())


def test_there_are_twenty_seven_skills_one_per_situation(bank: Bank):
    assert len(bank.skills) == 27
    assert len({skill.extra_metadata["esc-cluster"] for skill in bank.skills.values()}) == 27


def test_the_strict_checks_find_nothing():
    assert [str(problem) for problem in problems_in_bank(shipped_bank(), strict=True)] == []


@pytest.mark.parametrize("folder", sorted(shipped_bank().glob("*/")), ids=lambda folder: folder.name)
def test_agentskills_accepts_each_skill(folder: Path):
    assert list(agentskills_validate(folder)) == []


def test_every_state_of_the_taxonomy_has_a_plan(bank: Bank):
    assert {plan.state for skill in bank.skills.values() for plan in skill.plans} == set(SeekerState)


def test_one_skill_handles_risk_one_resistance_one_grief(bank: Bank):
    def leads(state: SeekerState) -> list[str]:
        return [skill.name for skill in bank.skills.values() if skill.states == (state,)]

    safety = [s.name for s in bank.skills.values() if s.actions == (SupportAction.SAFETY_CHECK_AND_REFERRAL,)]
    assert safety == ["checking-safety-and-referring"]
    assert leads(SeekerState.RESISTANCE)
    assert leads(SeekerState.SADNESS_AND_GRIEF)


def test_plans_recommend_nothing_that_more_often_hurt_than_helped(bank: Bank):
    """Asking about safety is the exception: it is asked to know, not to soothe."""
    for name, skill in bank.skills.items():
        cells = {(p.state, p.action): p for p in bank.evidence[name].prototypes}
        for plan in skill.plans:
            for step in plan.steps:
                cell = cells.get((plan.state, step.action))
                assert cell is not None, f"{name}: {step.action} has no prototype in {plan.state}"
                if step.action != SupportAction.SAFETY_CHECK_AND_REFERRAL:
                    assert cell.positive.rate > cell.negative.rate, f"{name}: {plan.state}, {step.action}"


def test_no_two_skills_share_a_facet(bank: Bank):
    seen: dict[str, str] = {}
    for skill in bank.skills.values():
        for facet in facets_of(skill):
            key = " ".join(re.findall(r"\w+", facet.text.lower()))
            assert seen.setdefault(key, skill.name) == skill.name, f"{seen[key]} and {skill.name}: {facet.text!r}"


def test_skills_are_distinct_texts(bank: Bank):
    """No two skills share more than a twentieth of their five-word runs."""

    def runs(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"[a-z']+", text.lower())
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    texts = {name: runs(text.split("\n## Evidence")[0].split("\n---\n", 1)[1]) for name, text in bank.texts.items()}
    for (a, one), (b, other) in combinations(texts.items(), 2):
        assert len(one & other) / min(len(one), len(other)) < 0.05, (a, b)
