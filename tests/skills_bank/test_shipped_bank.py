"""The bank that ships: what a counselling trainer and every consumer of SKILL.md would check."""

import re
from itertools import combinations
from pathlib import Path
from typing import get_args

import pytest
from skills_ref.validator import validate as agentskills_validate

from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.index import facets_of
from esc_skills.skills_bank.place import find_bank, shipped_bank
from esc_skills.skills_bank.settings import Shipped
from esc_skills.skills_bank.taxonomy import SeekerState, SupportAction
from esc_skills.skills_bank.validate import problems_in_bank

BANKS = get_args(Shipped)
FOLDERS = [folder for name in BANKS for folder in sorted(shipped_bank(name).glob("*/"))]


@pytest.fixture(scope="module", params=BANKS)
def bank(request: pytest.FixtureRequest) -> Bank:
    return Bank.load(shipped_bank(request.param))


def test_there_are_twenty_seven_skills_one_per_situation():
    skills = Bank.load(shipped_bank("S0")).skills
    assert len(skills) == 27
    assert len({skill.extra_metadata["esc-cluster"] for skill in skills.values()}) == 27


def test_the_evolved_bank_says_what_each_changed_text_came_from():
    before, after = (Bank.load(shipped_bank(name)).skills for name in BANKS)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed
    assert {name: after[name].parent for name in changed} == {
        name: f"{name}@{before[name].version}" for name in changed
    }


def test_either_bank_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in BANKS:
        monkeypatch.setenv("ESC_SHIPPED_BANK", name)
        found, problems = find_bank(tmp_path / "bank").read()
        assert (found.version, problems) == (name, [])


@pytest.mark.parametrize("name", BANKS)
def test_the_strict_checks_find_nothing(name: Shipped):
    assert [str(problem) for problem in problems_in_bank(shipped_bank(name), strict=True)] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
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
