"""Banks with candidates in them: at once, whole, and never another in the same place."""

from pathlib import Path

import pytest
from made import DREAD, MakeCandidate

from esc_skills.evolve.staging import INDEX, facets_in, stage
from esc_skills.simulator.sources import BankRef
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import BankError


def test_a_candidate_takes_the_place_of_its_skill_and_all_else_stays(
    parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path
):
    staged = stage(parent, [make_candidate(3)], tmp_path / "staged")
    old, new = Bank.load(parent.folder), Bank.load(staged.folder)
    assert [name for name in old.skills if old.hashes[name] != new.hashes[name]] == [DREAD]
    assert "shift 3" in new.texts[DREAD] and new.hash == staged.hash != parent.hash
    assert new.version == staged.version


def test_a_byte_identical_candidate_gives_the_parents_hash(
    parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path
):
    assert stage(parent, [make_candidate(None)], tmp_path / "staged").hash == parent.hash


def test_a_renamed_or_new_skill_and_one_left_out(parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path):
    text = make_candidate().files["SKILL.md"].replace(DREAD, "calming-storms")
    text = text.replace("## Overview\n", "## Overview\nSee [the notes](references/notes.md).\n\n")
    files = {"SKILL.md": text, "references/notes.md": "Composed."}
    renamed = make_candidate(skill="calming-storms", files=files)
    staged = stage(parent, [renamed], tmp_path / "staged", without=["calming-exams"])
    bank = Bank.load(staged.folder)
    assert list(bank.skills) == ["calming-moves", "calming-storms"]
    assert bank.contents["calming-storms"]["references/notes.md"] == b"Composed."
    beside = stage(parent, [renamed.model_copy(update={"replaces": None})], tmp_path / "beside")
    assert len(Bank.load(beside.folder).skills) == 4


def test_the_same_again_writes_nothing_and_something_else_is_refused(
    parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path
):
    first = stage(parent, [make_candidate(3)], tmp_path / "staged")
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    assert stage(parent, [make_candidate(3)], tmp_path / "staged") == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == before
    with pytest.raises(BankError, match="holds another bank"):
        stage(parent, [make_candidate(4)], tmp_path / "staged")


def test_problems_are_named_and_nothing_is_left_behind(parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path):
    broken = make_candidate(files={"SKILL.md": "no frontmatter"})
    with pytest.raises(BankError, match=rf"problems:\n.*{DREAD}"):
        stage(parent, [broken], tmp_path / "banks" / "staged")
    assert list((tmp_path / "banks").iterdir()) == []


def test_what_a_killed_writer_left_is_cleared(parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path):
    left = tmp_path / ".staged.1.new"
    left.mkdir()
    stage(parent, [make_candidate(3)], tmp_path / "staged")
    assert not left.exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"replaces": None}, "has a skill 'calming-dread' already"),
        ({"replaces": "calming-nobody"}, "no skill 'calming-nobody'"),
        ({"skill": "Calming_Dread"}, "is no skill name"),
        ({"files": {"notes.md": "x"}}, "has no SKILL.md"),
        ({"files": {"SKILL.md": "x", "../up.md": "x"}}, "is no path"),
        ({"files": {"SKILL.md": "x", "/etc/up.md": "x"}}, "is no path"),
        ({"files": {"SKILL.md": "x", ".hidden/up.md": "x"}}, "is no path"),
    ],
)
def test_a_candidate_that_does_not_fit_is_refused(
    more: dict, told: str, parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path
):
    with pytest.raises(BankError, match=told):
        stage(parent, [make_candidate(3, **more)], tmp_path / "staged")
    assert not (tmp_path / "staged").exists()


def test_two_candidates_for_one_skill_are_refused(parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path):
    with pytest.raises(BankError, match="replaced twice"):
        stage(parent, [make_candidate(3), make_candidate(4)], tmp_path / "staged")


def test_a_parent_that_was_changed_meanwhile_is_refused(parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path):
    (parent.folder / "calming-moves" / "note.md").write_text("New.", encoding="utf-8")
    with pytest.raises(BankError, match="was changed since"):
        stage(parent, [make_candidate(3)], tmp_path / "staged")


@pytest.mark.slow
def test_vectors_of_what_was_not_changed_are_the_parents_and_new_ones_depend_on_their_text_alone(
    parent: BankRef, make_candidate: MakeCandidate, tmp_path: Path
):
    known = facets_in(parent)
    text = make_candidate().files["SKILL.md"]
    one = text.replace("The body speaks of the talk", "The knees go soft before the talk")
    two = one.replace("- The seeker fears the talk and says so.", "- The seeker dreads the day of it.")
    staged = [
        stage(parent, [make_candidate(files={"SKILL.md": each})], tmp_path / name)
        for name, each in (("one", one), ("two", two))
    ]
    for ref in staged:
        assert (ref.index / "vectors.npz").is_file() and ref.index == ref.folder / INDEX
    first, second = ({t: v.tobytes() for t, v in zip(f.texts, f.vectors, strict=True)} for f in map(facets_in, staged))
    before = {t: v.tobytes() for t, v in zip(known.texts, known.vectors, strict=True)}
    assert all(first[t] == before[t] for t in first.keys() & before.keys())
    changed = first.keys() - before.keys()
    assert len(changed) == 1 and all(first[t] == second[t] for t in changed)
