"""The `build` and `corpus` commands, as a user types them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from esc_skills.pipeline.cli import build_app, corpus_app
from esc_skills.skills_bank.errors import CorpusError, InputError

RUNNER = CliRunner()
DIALOGUE = {
    "id": "own-1",
    "dialog": [
        {"speaker": "seeker", "content": "The rent went up, write me at x@y.example.com"},
        {"speaker": "supporter", "content": "Since when?", "strategy": "Questions"},
    ],
}


def run(app, *arguments: str | Path, ok: bool = True):
    result = RUNNER.invoke(app, [str(a) for a in arguments])
    if ok:
        assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def own_corpus(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(DIALOGUE) + "\n{}\n", encoding="utf-8")
    return path


def test_units_are_written_as_json_lines(tmp_path: Path):
    run(build_app, "units", "--out", tmp_path / "units.jsonl")
    lines = (tmp_path / "units.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 17554
    assert json.loads(lines[0])["split"] == "train"


def test_prototypes_are_written_as_json(tmp_path: Path):
    run(build_app, "prototypes", "--out", tmp_path / "p" / "prototypes.json")
    assert len(json.loads((tmp_path / "p" / "prototypes.json").read_text(encoding="utf-8"))) == 217


def test_corpus_check_counts_what_was_skipped_and_masked(own_corpus: Path):
    found = json.loads(run(corpus_app, "check", own_corpus, "--json").stdout)
    assert found["dialogues"] == 1
    assert found["skipped"] == [{"where": "own.jsonl, dialogue 2", "reason": "no list `dialog`"}]
    assert found["scrubbed"] == {"email": 1}
    assert found["renamed"] == {"Questions → Question": 1}


def test_corpus_check_names_what_it_skipped(own_corpus: Path):
    assert "skipped own.jsonl, dialogue 2: no list `dialog`" in run(corpus_app, "check", own_corpus).output


@pytest.mark.parametrize("command", [["clusters"], ["dossiers", "--out", "x"]])
def test_step_that_reads_text_asks_for_a_corpus(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESC_SHARED_DIR", raising=False)
    error = run(build_app, *command, ok=False).exception
    assert isinstance(error, InputError) and "--corpus PATH" in str(error)


def test_corpus_that_no_label_fits_is_an_error(own_corpus: Path, tmp_path: Path):
    error = run(build_app, "dossiers", "--corpus", own_corpus, "--out", tmp_path / "out", ok=False).exception
    assert isinstance(error, CorpusError) and "No labelled dialogue fits" in str(error)
    assert not (tmp_path / "out").exists()


def test_evidence_check_fails_until_it_was_written(tmp_path: Path, skill_text: str):
    folder = tmp_path / "calming-dread"
    folder.mkdir()
    (folder / "SKILL.md").write_text(skill_text.replace('"c1"', '"c03"'), encoding="utf-8")
    before = run(build_app, "evidence", "--bank", tmp_path, "--check", ok=False)
    assert before.exit_code == 1 and "it is missing" in before.output
    run(build_app, "evidence", "--bank", tmp_path)
    run(build_app, "evidence", "--bank", tmp_path, "--check")


def test_relabel_needs_the_annotations(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ESC_SHARED_DIR", raising=False)
    assert isinstance(run(build_app, "units", "--relabel", ok=False).exception, InputError)
