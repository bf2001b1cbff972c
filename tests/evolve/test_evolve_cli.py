"""The `evolve` commands, as a user types them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from esc_skills.evolve.cli import app
from esc_skills.evolve.plan import EvolvePlan, start_evolution
from esc_skills.evolve.record import EvolveRun
from esc_skills.pipeline import jobs
from esc_skills.pipeline.jobs import Job, JobState, find_job
from esc_skills.server.__main__ import LAZY
from esc_skills.skills_bank.errors import InputError, JobError
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.store import BankStore

from .scripted_evolution import DREAD, run, write_profiles
from .scripted_evolution import ScriptedParts as Parts

RUNNER = CliRunner()


class Shell:
    """A user's folders, and the commands typed there."""

    def __init__(self, root: Path, skills: Path) -> None:
        self.jobs, self.bank = root / "jobs", root / "bank"
        self.profiles = write_profiles(root / "made.jsonl", 36)
        BankStore(self.bank).init_from(skills)

    def type(self, *arguments: str | Path, ok: bool = True):
        result = RUNNER.invoke(app, [str(argument) for argument in arguments])
        if ok:
            assert result.exit_code == 0, (result.output, result.exception)
        return result

    def evolve(self, *arguments: str | Path, ok: bool = True):
        some = ("--profiles", self.profiles, "--bank", self.bank, "--repeats", "2")
        return self.type("run", *some, *arguments, ok=ok)


@pytest.fixture
def shell(tmp_path: Path, bank_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    made = Shell(tmp_path, bank_dir)
    monkeypatch.setenv("ESC_JOBS_DIR", str(made.jobs))
    monkeypatch.setattr(jobs, "_runner", lambda kind: run)
    monkeypatch.setattr("esc_skills.evolve.cli.go_gently", lambda: None)
    return made


def test_the_commands_are_mounted():
    assert LAZY["evolve"][0] == "esc_skills.evolve.cli"
    named = {command.name for command in app.registered_commands}
    assert named == {"run", "propose", "jobs", "status", "cancel", "show", "diff", "report"}


@pytest.mark.slow
def test_an_evolution_is_run_shown_and_reported(shell: Shell, tmp_path: Path):
    job = shell.evolve().stdout.strip().splitlines()[-1]
    assert find_job(shell.jobs, job).look().state is JobState.COMPLETED
    assert f"refine-{DREAD}.1" in shell.type("show", job).stdout
    diff = shell.type("diff", job, f"refine-{DREAD}.2").stdout
    assert "+It may shift -3 points, try 2." in diff
    status = shell.type("status", job).stdout
    assert "completed: " in status and "parent bank: mean" in status and "4 of 4 proposals tried" in status
    assert shell.type("jobs").stdout.startswith(job)
    page = tmp_path / "page.html"
    assert shell.type("report", job, "--out", page).stdout.strip() == str(page)
    assert "<html" in page.read_text(encoding="utf-8")
    assert len(BankStore(shell.bank).history()) == 1


@pytest.mark.slow
def test_with_apply_the_new_version_is_printed(shell: Shell):
    version = shell.evolve("--apply").stdout.strip().splitlines()[-1]
    assert version == BankStore(shell.bank).active() and version.startswith("v0002-")


def test_a_dry_run_starts_nothing(shell: Shell):
    said = shell.evolve("--dry-run", "--cap-candidates", "3").stdout
    assert "up to 3 attempts" in said and "no call to a language model, no network" in said
    assert not shell.jobs.exists()


def test_what_cannot_be_done_is_refused_before_a_job_is_made(shell: Shell, bank_dir: Path):
    error = shell.evolve("--apply", "--bank", bank_dir, ok=False).exception
    assert isinstance(error, InputError) and "plain folder" in str(error)
    assert not shell.jobs.exists()


@pytest.mark.slow
def test_a_failed_evolution_says_why_and_is_resumed(shell: Shell, monkeypatch: pytest.MonkeyPatch):
    def broken(self, bank):
        raise InputError("The analyzer is ill.")

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "analyzer", broken)
        failed = shell.evolve("--cap-candidates", "1", ok=False)
    assert isinstance(failed.exception, JobError) and "The analyzer is ill." in str(failed.exception)
    job = shell.jobs.iterdir().__next__().name
    status = shell.type("status", job, ok=False)
    assert status.exit_code == 1 and "The analyzer is ill." in status.stdout
    shell.type("run", "--resume", job, "--cap-candidates", "2")
    done = EvolveRun(shell.jobs / job)
    assert done.job().state is JobState.COMPLETED and done.plan().caps.candidates == 2
    assert "2 candidates, cap 2" in (done.end().cap or "")


def test_cancel_ends_a_job_whose_process_is_gone(shell: Shell):
    job, locks = start_evolution(shell.jobs, _plan(shell))
    for held in locks:
        held.close()
    assert shell.type("cancel", job.id).stdout.startswith("cancelled: ")
    assert Job(job.folder).look().state is JobState.CANCELLED


def test_status_as_json_is_the_record(shell: Shell):
    job, locks = start_evolution(shell.jobs, _plan(shell))
    for held in locks:
        held.close()
    found = json.loads(shell.type("status", job.id, "--json", ok=False).stdout)
    assert found["id"] == job.id and found["kind"] == "evolve"


def test_a_run_that_is_not_there_is_named(shell: Shell):
    error = shell.type("show", "evolve-nowhere", ok=False).exception
    assert isinstance(error, InputError) and "No evolution 'evolve-nowhere'" in str(error)


def _plan(shell: Shell) -> EvolvePlan:
    from .scripted_evolution import scripted_plan

    return scripted_plan(shell.profiles, shell.bank)


@pytest.mark.slow
def test_a_text_that_changes_nothing_is_indecisive_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ESC_JOBS_DIR", str(tmp_path / "jobs"))
    monkeypatch.setenv("ESC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr("esc_skills.evolve.cli.go_gently", lambda: None)
    text = shipped_bank() / "meeting-hopelessness" / "SKILL.md"
    said = RUNNER.invoke(app, ["propose", str(text), "--reason", "None.", "--bank", str(tmp_path / "bank"), "--apply"])
    assert said.exit_code == 0, (said.output, said.exception)
    assert said.stdout.startswith("indecisive: ")
    assert not BankStore(tmp_path / "bank").initialised


def test_a_text_that_is_no_file_is_named(tmp_path: Path):
    said = RUNNER.invoke(app, ["propose", str(tmp_path / "none.md"), "--reason", "None."])
    assert isinstance(said.exception, InputError) and "none.md" in str(said.exception)
