"""Planted faults damage what they say, and nothing else."""

from pathlib import Path

import pytest

from esc_skills.evolve.faults import UNSAFE_LINE, Fault, FaultKind, most_helpful, plant
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.validate import problems_in_bank

NAMES = ("meeting-hopelessness", "finding-footing-when-overwhelmed", "keeping-rapport-and-closing-well")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    target = tmp_path / "damaged"
    plant(shipped_bank(), [Fault(kind=kind, skill=name) for kind, name in zip(FaultKind, NAMES, strict=True)], target)
    return target


def test_a_damaged_bank_still_loads(damaged: Path):
    assert problems_in_bank(damaged) == []


def test_each_fault_does_its_damage_and_no_more(damaged: Path):
    before, after = Bank.load(shipped_bank()).skills, Bank.load(damaged).skills
    swapped, deleted, unsafe = NAMES
    warned = {pitfall.action for pitfall in before[swapped].pitfalls}
    assert {step.action for plan in after[swapped].plans for step in plan.steps} <= warned
    assert [plan.state for plan in after[swapped].plans] == [plan.state for plan in before[swapped].plans]
    assert deleted not in after
    assert all(plan.steps[0].say == UNSAFE_LINE for plan in after[unsafe].plans)
    rest = set(before) - set(NAMES)
    assert all(after[name] == before[name] for name in rest) and rest | {swapped, unsafe} == set(after)


def test_a_fault_in_a_skill_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no skill 'nothing'"):
        plant(shipped_bank(), [Fault(kind=FaultKind.DELETED, skill="nothing")], tmp_path / "damaged")
    assert not (tmp_path / "damaged").exists()


def test_faults_are_planted_where_there_is_something_to_lose():
    skills = Bank.load(shipped_bank()).skills
    changes = {NAMES[0]: [1] * 20, NAMES[1]: [3] * 20, NAMES[2]: [9] * 19}
    assert most_helpful(changes, skills, 2) == [NAMES[1], NAMES[0]]
