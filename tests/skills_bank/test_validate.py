"""Problems of a skill or a bank folder."""

import json
import os
from pathlib import Path

import pytest

from esc_skills.skills_bank import validate
from esc_skills.skills_bank.problems import Problem
from esc_skills.skills_bank.validate import problems_in_bank, problems_in_skill


def skill_at(tmp_path: Path, text: str, name: str = "calming-dread") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "SKILL.md").write_bytes(text.encode())
    return folder


def messages(problems: list[Problem]) -> list[str]:
    return [str(problem) for problem in problems]


def test_the_composed_skill_has_no_problem(tmp_path: Path, skill_text: str):
    assert messages(problems_in_skill(skill_at(tmp_path, skill_text), strict=True)) == []


def test_the_composed_bank_has_no_problem(bank_dir: Path):
    assert messages(problems_in_bank(bank_dir)) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: calming-dread", "name: calming", "'calming' is not the folder's"),
        ('esc-version: "1"', "esc-version: one", 'Write esc-version: "one"'),
        ("description: Calms", "description: Calms <b>", "angle bracket"),
        ("license: CC", "license: &a CC", "anchor"),
        ("esc-states: \"anxiety_and_fear ", "esc-states: \"resistance anxiety_and_fear ", "'resistance' has no plan"),
        ("esc-states: \"anxiety_and_fear ", "esc-states: \"", "a plan for 'anxiety_and_fear', not named in esc-states"),
        (" open_exploration\"", "\"", "A plan uses 'open_exploration'"),
        (" open_exploration\"", " open_exploration small_talk\"", "is no SupportAction"),
        (" open_exploration\"", " open_exploration self_disclosure\"", "names 'self_disclosure'"),
        ("## Risks and", "## Evidence\nNone.\n\n## Risks and", "stands there without references/evidence.json"),
        ("says so.", "says so [there](references/notes.md).", "leads nowhere"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named(tmp_path: Path, skill_text: str, old: str, new: str, message: str):
    found = messages(problems_in_skill(skill_at(tmp_path, skill_text.replace(old, new, 1))))
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- The worry about the talk circles and does not end.\n", "", "There are 2 activation conditions"),
        ("### When not to use\n- The seeker has calmed down and plans ahead.\n", "", "There are 0 conditions"),
        ("- **Cheering up**: The fear was made small. Signal: The seeker repeats it louder.\n", "", "2 pitfalls"),
        ("### Good: Asking openly", "### Bad: Asking openly", "There are 1 good examples"),
        ("It felt like a form.", "It took 5 minutes.", "A number stands in the prose: '5'"),
    ],
)
def test_what_only_the_shipped_bank_promises_is_checked_when_strict(
    tmp_path: Path, skill_text: str, old: str, new: str, message: str
):
    text = skill_text.replace(old, new)
    if "Bad: Asking" in text:
        text = text.replace("Why it works: The question", "What went wrong: The question")
    folder = skill_at(tmp_path, text)
    assert messages(problems_in_skill(folder)) == []
    assert any(message in problem for problem in messages(problems_in_skill(folder, strict=True)))


def test_numbered_lists_in_prose_are_no_numbers(tmp_path: Path, skill_text: str):
    text = skill_text.replace("The seeker says more", "1. First this.\n2. Then that.\n\nThe seeker says more")
    assert messages(problems_in_skill(skill_at(tmp_path, text), strict=True)) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("notes.txt", "lies where hosts do not look"),
        ("other/notes.md", "lies where hosts do not look"),
        ("references/notes.md", "is not linked"),
        ("references/inner/SKILL.md", "second SKILL.md"),
    ],
)
def test_stray_files_are_named(tmp_path: Path, skill_text: str, path: str, message: str):
    folder = skill_at(tmp_path, skill_text)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text("x", encoding="utf-8")
    assert any(message in problem for problem in messages(problems_in_skill(folder)))


def test_linked_support_files_and_editor_leftovers_are_fine(tmp_path: Path, skill_text: str):
    folder = skill_at(tmp_path, skill_text.replace("says so.", "says so, see `references/notes.md`."))
    (folder / "references").mkdir()
    (folder / "references/notes.md").write_text("x", encoding="utf-8")
    (folder / ".SKILL.md.swp").write_text("x", encoding="utf-8")
    assert messages(problems_in_skill(folder)) == []


def test_a_symbolic_link_is_named(tmp_path: Path, skill_text: str):
    folder = skill_at(tmp_path, skill_text)
    os.symlink(folder / "SKILL.md", folder / "copy.md")
    assert any("symbolic link" in problem for problem in messages(problems_in_skill(folder)))


def test_size_limits(tmp_path: Path, skill_text: str):
    folder = skill_at(tmp_path, skill_text + "\n## Long\n" + "word word word word word\n" * 900)
    found = " ".join(messages(problems_in_skill(folder)))
    assert "lines. Fix: Keep it to 500" in found
    assert "tokens. Fix: Keep it to 5000" in found


def test_a_folder_without_skill_file_and_a_file_that_is_not_utf8(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin/SKILL.md").write_bytes(b"---\nname: \xe9\n")
    found = messages(problems_in_bank(tmp_path))
    assert found[0].startswith("empty/SKILL.md: file: There is no SKILL.md.")
    assert found[1].startswith("latin/SKILL.md: file: It is not UTF-8 (byte 10).")


def test_broken_evidence_is_named_with_its_field(tmp_path: Path, skill_text: str):
    folder = skill_at(tmp_path, skill_text.replace("## Risks", "## Sources\n`references/evidence.json`\n\n## Risks"))
    (folder / "references").mkdir()
    (folder / "references/evidence.json").write_text(json.dumps({"format": 1, "skill": 3}), encoding="utf-8")
    assert any("skill: Input should be a valid string" in problem for problem in messages(problems_in_skill(folder)))


def test_text_shared_by_two_skills_is_named_when_strict(bank_dir: Path):
    found = messages(problems_in_bank(bank_dir, strict=True))
    assert len(found) == 1
    assert "calming-dread, calming-exams, calming-moves share the text 'yes that is just how it is'" in found[0]


def test_an_empty_bank_is_a_problem(tmp_path: Path):
    assert "There is no skill" in messages(problems_in_bank(tmp_path))[0]


def test_the_module_prints_problems_and_tells_by_its_exit_code(
    bank_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert validate.main([str(bank_dir)]) == 0
    assert capsys.readouterr().out == "No problems.\n"
    skill = bank_dir / "calming-dread/SKILL.md"
    skill.write_text("x", encoding="utf-8")
    assert validate.main([str(skill)]) == 1
    assert "SKILL.md:1: frontmatter:" in capsys.readouterr().out
    assert validate.main([str(tmp_path / "nowhere")]) == 2
    assert "There is no" in capsys.readouterr().err
