"""One version of a bank in memory."""

import json
import shutil
import time
from pathlib import Path

import pytest

from esc_skills.skills_bank.bank import Bank, read_manifest, seal
from esc_skills.skills_bank.errors import BankError, SkillNotFound
from esc_skills.skills_bank.place import shipped_bank


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name / "SKILL.md"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_folder_is_loaded_in_order_of_name(bank_dir: Path):
    bank = Bank.load(bank_dir)
    assert list(bank.skills) == ["calming-dread", "calming-exams", "calming-moves"]
    assert bank.texts["calming-exams"] == (bank_dir / "calming-exams/SKILL.md").read_text(encoding="utf-8")
    assert bank.skills["calming-exams"].title == "Calming the exam"
    assert bank.version == f"local-{bank.hash[:8]}"
    assert bank.evidence == {}


def test_support_files_are_kept_with_the_skill(bank_dir: Path):
    edit(bank_dir, "calming-dread", "says so.", "says so, see `references/notes.md`.")
    (bank_dir / "calming-dread/references").mkdir()
    (bank_dir / "calming-dread/references/notes.md").write_text("A note.", encoding="utf-8")
    bank = Bank.load(bank_dir)
    assert bank.support_files("calming-dread") == {"references/notes.md": b"A note."}
    assert set(bank.files("calming-dread")) == {"SKILL.md", "references/notes.md"}
    with pytest.raises(SkillNotFound, match="Known skills: calming-dread"):
        bank.files("hug")


def test_nothing_of_a_loaded_bank_can_be_changed(bank_dir: Path):
    bank = Bank.load(bank_dir)
    with pytest.raises(TypeError):
        bank.skills["x"] = bank.skills["calming-dread"]  # pyright: ignore[reportIndexIssue]
    with pytest.raises(AttributeError):
        bank.version = "x"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_hash_follows_the_content_alone(bank_dir: Path, tmp_path: Path):
    before = Bank.load(bank_dir)
    shutil.copytree(bank_dir, tmp_path / "copy")
    assert Bank.load(tmp_path / "copy").hash == before.hash
    (bank_dir / "calming-dread/.SKILL.md.swp").write_text("x", encoding="utf-8")
    assert Bank.load(bank_dir).hash == before.hash
    edit(bank_dir, "calming-dread", "says so", "says it")
    assert Bank.load(bank_dir).hash != before.hash
    edit(bank_dir, "calming-dread", "says it", "says so")
    assert Bank.load(bank_dir).hash == before.hash


def test_strict_loading_names_every_broken_skill(bank_dir: Path):
    edit(bank_dir, "calming-dread", "## Pitfalls", "## Traps")
    edit(bank_dir, "calming-moves", "name: calming-moves", "name: moves")
    with pytest.raises(BankError) as caught:
        Bank.load(bank_dir)
    assert "2 problem(s)" in str(caught.value)
    assert "calming-dread/SKILL.md: Pitfalls: The section is missing" in str(caught.value)
    assert "'moves' is not the folder's" in str(caught.value)


def test_a_broken_edit_keeps_the_last_good_text_and_the_rest_goes_on(bank_dir: Path):
    before = Bank.load(bank_dir)
    edit(bank_dir, "calming-dread", "## Pitfalls", "## Traps")
    edit(bank_dir, "calming-moves", "says so", "says it")
    after, problems = Bank.load_lenient(bank_dir, before)
    assert [problem.file for problem in problems] == ["calming-dread/SKILL.md"]
    assert after.skills["calming-dread"] == before.skills["calming-dread"]
    assert after.texts["calming-dread"] == before.texts["calming-dread"]
    assert "says it" in after.texts["calming-moves"]
    assert after.version != before.version


def test_a_skill_half_saved_is_kept_and_a_removed_one_goes(bank_dir: Path):
    before = Bank.load(bank_dir)
    (bank_dir / "calming-dread/SKILL.md").unlink()
    shutil.rmtree(bank_dir / "calming-moves")
    after, problems = Bank.load_lenient(bank_dir, before)
    assert set(after.skills) == {"calming-dread", "calming-exams"}
    assert "There is no SKILL.md" in str(problems[0])


def test_without_an_earlier_version_a_broken_skill_is_left_out(bank_dir: Path):
    edit(bank_dir, "calming-dread", "## Pitfalls", "## Traps")
    bank, problems = Bank.load_lenient(bank_dir)
    assert set(bank.skills) == {"calming-exams", "calming-moves"}
    assert len(problems) == 1


def test_a_bank_with_nothing_to_serve_is_an_error(tmp_path: Path):
    with pytest.raises(BankError, match="There is no bank at"):
        Bank.load_lenient(tmp_path / "nowhere")
    with pytest.raises(BankError, match="no skill that can be served"):
        Bank.load_lenient(tmp_path)


def test_an_unchanged_skill_is_not_parsed_again(bank_dir: Path):
    before = Bank.load(bank_dir)
    edit(bank_dir, "calming-moves", "says so", "says it")
    after, _ = Bank.load_lenient(bank_dir, before)
    assert after.skills["calming-dread"] is before.skills["calming-dread"]
    assert after.skills["calming-moves"] is not before.skills["calming-moves"]


def test_sealing_names_the_version_and_an_edit_shows(bank_dir: Path):
    manifest = seal(bank_dir, "S0", "composed for a test")
    bank = Bank.load(bank_dir)
    assert (bank.version, manifest.hash) == ("S0", bank.hash)
    assert manifest.skills["calming-dread"].hash == bank.hashes["calming-dread"]
    assert seal(bank_dir, "S0", "composed for a test") == manifest
    edit(bank_dir, "calming-dread", "says so", "says it")
    bank = Bank.load(bank_dir)
    assert bank.version == f"S0+{bank.hash[:8]}"


def test_a_manifest_of_a_newer_format_says_what_to_do(bank_dir: Path):
    seal(bank_dir, "S0", "x")
    path = bank_dir / "bank.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"format": 2}), encoding="utf-8")
    with pytest.raises(BankError, match=r"format: .* or update esc-skills"):
        read_manifest(bank_dir)


@pytest.mark.slow
def test_a_thousand_skills_load_fast(tmp_path: Path, make_skill_text):
    for number in range(1000):
        folder = tmp_path / f"calming-s{number:04d}"
        folder.mkdir()
        (folder / "SKILL.md").write_text(make_skill_text(folder.name, f"thing {number}"), encoding="utf-8")
    began = time.process_time()
    bank = Bank.load(tmp_path)
    assert len(bank.skills) == 1000
    assert time.process_time() - began < 1.5  # 0.4 s on a quiet machine


def test_the_shipped_bank_is_what_its_manifest_says():
    if read_manifest(shipped_bank()) is None:
        pytest.skip("the shipped bank is not sealed yet: esc-skills bank seal skills_bank/skills --version S0 ...")
    bank = Bank.load(shipped_bank())
    assert bank.manifest is not None
    assert bank.version == bank.manifest.version, "run `esc-skills bank seal` after an edit of the shipped skills"
