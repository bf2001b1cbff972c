"""`esc-skills bank ...`"""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from esc_skills.server.cli_bank import bank_app
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import BankError, SkillNotFound, VersionNotFound
from esc_skills.skills_bank.settings import Settings


def run(*arguments: object, code: int = 0, stdin: str | None = None) -> str:
    result: Result = CliRunner().invoke(bank_app, [str(argument) for argument in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def edit(path: Path, old: str = "says so", new: str = "says it") -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def home_bank(isolated_home: Path, bank_dir: Path) -> Path:
    """The user's bank, begun from the three composed skills."""
    assert "v0001-" in run("init", "--from", bank_dir)
    return isolated_home / "bank"


def test_a_bank_can_be_looked_at(home_bank: Path):
    assert "calming-exams  Calms a seeker who is afraid of the exam." in run("list")
    assert json.loads(run("list", "--json"))["skills"][0]["name"] == "calming-dread"
    assert run("show", "calming-moves").startswith("---\nname: calming-moves\n")
    assert f"edit     {home_bank / 'working'}" in run("path")
    with pytest.raises(SkillNotFound):
        run("show", "hug")


def test_from_edit_to_rollback(home_bank: Path):
    edit(home_bank / "working/calming-dread/SKILL.md")
    assert run("adopt", "-m", "plainer").startswith("Active: v0002-")
    second, first = json.loads(run("history", "--json"))
    assert (second["active"], second["note"], second["parent"]) == (True, "plainer", first["version"])
    assert "+- The seeker fears the talk and says it." in run("diff", "v0001")
    assert run("diff", "v0002") == "No difference.\n"
    assert run("rollback", "v0001") == f"Active: {first['version']} (3 skills).\n"
    assert f"* {first['version']}" in run("history")
    assert [line.split()[1] for line in run("history", "--switches").splitlines()] == ["init", "commit", "rollback"]
    with pytest.raises(VersionNotFound, match="Known versions: v0002"):
        run("rollback", "v9")


def test_validate_prints_problems_and_exits_with_one(home_bank: Path):
    assert run("validate") == "No problems.\n"
    edit(home_bank / "working/calming-dread/SKILL.md", "## Pitfalls", "## Traps")
    assert "calming-dread/SKILL.md: Pitfalls: The section is missing." in run("validate", code=1)
    assert "share the text" in run("validate", "--strict", home_bank / "current", code=1)
    assert "Pitfalls" in run("adopt", code=1)
    run("reset", stdin="n\n", code=1)
    assert "is as in v0001-" in run("reset", "--yes")
    assert run("validate") == "No problems.\n"


def test_skills_can_be_imported_committed_and_exported(home_bank: Path, tmp_path: Path, make_skill_text):
    skill = tmp_path / "calming-rain"
    skill.mkdir()
    (skill / "SKILL.md").write_text(make_skill_text("calming-rain", "the rain"), encoding="utf-8")
    assert "(4 skills)" in run("import", skill, "-m", "rain")
    assert run("export", tmp_path / "out") == f"4 skills in {tmp_path / 'out'}.\n"
    edit(tmp_path / "out/calming-rain/SKILL.md")
    assert run("commit", tmp_path / "out", "-m", "plainer").startswith("Active: v0003-")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(BankError, match="holds no skill"):
        run("import", tmp_path / "nothing")


def test_sealing_a_folder_names_its_version(bank_dir: Path):
    run("seal", bank_dir, "--version", "S0", "--provenance", "composed")
    assert Bank.load(bank_dir).version == "S0"


def test_a_plain_folder_says_how_to_get_versions(bank_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ESC_BANK_DIR", str(bank_dir))
    assert "kind     plain" in run("path")
    assert "local-" in run("history")
    with pytest.raises(BankError, match="bank init --from"):
        run("commit", bank_dir)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ESC_PORT", "9000")
    monkeypatch.setenv("ESC_TOKEN", "hush")
    settings = Settings()
    assert settings.port == 9000
    assert "hush" not in repr(settings)
    assert all(field.description for field in Settings.model_fields.values())
