"""A job's folder: who is alive, how it ends, how it is stopped and taken up again."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esc_skills.pipeline import jobs
from esc_skills.pipeline.jobs import (
    Job,
    JobSettings,
    JobState,
    all_jobs,
    cancel_job,
    create_job,
    find_job,
    is_held,
    run_here,
    spawn,
    take,
)
from esc_skills.skills_bank.errors import CorpusError, JobError, JobNotFound

SECRET = "the lilac parrot wept"


@pytest.fixture
def kind(monkeypatch):
    """Return a function that makes a kind of job out of an async function."""

    def make(work) -> str:
        monkeypatch.setitem(jobs.RUNNERS, "test", "jobs_under_test:work")
        monkeypatch.setattr(jobs, "import_module", lambda name: type("module", (), {"work": staticmethod(work)}))
        return "test"

    return make


def started(tmp_path: Path, kind: str) -> tuple[Job, list[jobs.Held]]:
    job, held = create_job(tmp_path / "jobs", kind, {"seed": 1})
    return job, [held]


def test_a_job_that_runs_through_is_completed(tmp_path, kind):
    async def work(job: Job) -> dict:
        job.advance("counting", 1, 3)
        job.note("Two are missing.")
        job.note("Two are missing.")
        return {"counted": 3}

    job, locks = started(tmp_path, kind(work))
    record = run_here(job, locks)
    assert (record.state, record.result, record.notes) == (JobState.COMPLETED, {"counted": 3}, ("Two are missing.",))
    assert Job(job.folder).look() == record
    assert record.plan == {"seed": 1} and record.pid == os.getpid()
    assert not is_held(job.lock)


def test_a_foreseen_error_is_told_as_it_is(tmp_path, kind):
    async def work(job: Job) -> dict:
        raise CorpusError("Nothing in it. Name another file.")

    job, locks = started(tmp_path, kind(work))
    record = run_here(job, locks)
    assert (record.state, record.error) == (JobState.FAILED, "Nothing in it. Name another file.")


def test_an_unforeseen_error_names_its_kind_and_never_what_it_quotes(tmp_path, kind, caplog):
    async def work(job: Job) -> dict:
        job.advance("annotating")
        raise KeyError(SECRET)

    job, locks = started(tmp_path, kind(work))
    record = run_here(job, locks)
    assert record.state is JobState.FAILED
    assert "KeyError in phase 'annotating'" in (record.error or "")
    assert SECRET not in (job.folder / "job.json").read_text(encoding="utf-8")
    assert "KeyError" in caplog.text and "test_jobs.py" in caplog.text
    assert SECRET not in caplog.text


def test_a_mark_stops_the_work_and_cancelling_again_changes_nothing(tmp_path, kind):
    async def work(job: Job) -> dict:
        job.ask_to_stop()
        await asyncio.sleep(30)
        return {}

    job, locks = started(tmp_path, kind(work))
    assert run_here(job, locks).state is JobState.CANCELLED
    before = (job.folder / "job.json").read_bytes()
    assert cancel_job(job).state is JobState.CANCELLED
    assert cancel_job(job).state is JobState.CANCELLED
    assert (job.folder / "job.json").read_bytes() == before


def test_cancelling_what_has_ended_gives_its_end(tmp_path, kind):
    async def work(job: Job) -> dict:
        return {"counted": 3}

    job, locks = started(tmp_path, kind(work))
    run_here(job, locks)
    assert cancel_job(job).state is JobState.COMPLETED


def test_a_job_whose_process_is_gone_has_failed_and_says_how_to_go_on(tmp_path):
    job, held = create_job(tmp_path, "build", {})
    assert job.look().state is JobState.RUNNING
    held.close()
    record = job.look()
    assert record.state is JobState.FAILED
    assert f"resume job {job.id}" in (record.error or "")
    assert job.read().state is JobState.RUNNING  # nobody but its process, or a cancel, writes there
    assert cancel_job(job).state is JobState.CANCELLED
    assert job.read().state is JobState.CANCELLED


def test_the_heartbeat_moves_while_nothing_else_does(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(jobs, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(jobs, "LOOK_SECONDS", 0.02)
    beats: list[str] = []

    async def work(job: Job) -> dict:
        for _ in range(3):
            beats.append(Job(job.folder).read().heartbeat)
            await asyncio.sleep(0.15)
        return {}

    job, locks = started(tmp_path, kind(work))
    run_here(job, locks)
    assert beats == sorted(set(beats))


def test_progress_is_written_at_a_new_phase_and_then_only_now_and_then(tmp_path):
    job, held = create_job(tmp_path, "build", {})
    job.advance("annotating", 0, 1000)
    for done in range(1, 1001):
        job.advance("annotating", done, 1000)
    shown = Job(job.folder).read().progress
    assert shown.total == 1000 and shown.done < 1000
    job.advance("writing", 0, 27)
    assert Job(job.folder).read().phase == "writing"
    held.close()


def test_a_lock_is_held_once_and_handed_on(tmp_path):
    path = tmp_path / ".lock"
    first = take(path)
    assert first is not None and is_held(path)
    assert take(path, wait=0.05) is None
    code = "import os, sys, time; time.sleep(30)"
    with subprocess.Popen([sys.executable, "-c", code], pass_fds=[first.descriptor]) as other:
        first.close()
        assert is_held(path), "the other process holds it now"
        other.kill()
    assert not is_held(path)
    again = take(path)
    assert again is not None
    again.close()


def test_an_unknown_id_is_named_with_the_newest_jobs(tmp_path):
    job, held = create_job(tmp_path, "build", {})
    held.close()
    for unknown in ("build-nothing", "../" + job.id, "", "."):
        with pytest.raises(JobNotFound, match=job.id):
            find_job(tmp_path, unknown)
    assert find_job(tmp_path, job.id).id == job.id


def test_jobs_are_listed_newest_first_and_other_folders_are_not(tmp_path):
    (tmp_path / "notes").mkdir()
    for name in ("build-20260101-000000-aaaaaa", "build-20260102-000000-aaaaaa"):
        create_job(tmp_path, "build", {}, job=name)[1].close()
    assert [job.id[6:14] for job in all_jobs(tmp_path)] == ["20260102", "20260101"]
    assert all_jobs(tmp_path / "nowhere") == []


def test_a_broken_record_is_an_error_that_names_the_file(tmp_path):
    job, held = create_job(tmp_path, "build", {})
    held.close()
    (job.folder / "job.json").write_text("{", encoding="utf-8")
    with pytest.raises(JobError, match=r"job\.json"):
        find_job(tmp_path, job.id).read()


def test_the_jobs_folder_is_a_setting(monkeypatch, tmp_path, isolated_home):
    assert JobSettings().jobs().is_relative_to(isolated_home)
    monkeypatch.setenv("ESC_JOBS_DIR", str(tmp_path))
    assert JobSettings().jobs() == tmp_path


@pytest.mark.slow
def test_a_spawned_job_has_its_own_session_holds_the_locks_and_prints_into_its_log(tmp_path):
    """The plan is no plan of a build, so the work fails at once; by then the process is what it is to be."""
    job, held = create_job(tmp_path / "jobs", "build", {"corpus": SECRET})
    other = take(tmp_path / "other.lock")
    assert other is not None
    spawn(job, [held, other])
    assert is_held(job.lock) and is_held(tmp_path / "other.lock")
    deadline = time.monotonic() + 60
    while job.look().state is JobState.RUNNING and time.monotonic() < deadline:
        time.sleep(0.05)
    record = job.look()
    assert record.state is JobState.FAILED and record.pid not in (None, os.getpid())
    assert "ValidationError" in (record.error or "")
    while is_held(job.lock) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_held(tmp_path / "other.lock")
    log = job.log.read_text(encoding="utf-8")
    assert "ValidationError" in log
    assert SECRET not in log
    assert SECRET not in json.dumps(record.model_dump(exclude={"plan"}))
