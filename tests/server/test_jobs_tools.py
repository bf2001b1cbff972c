"""`build_bank`, `build_status`, `cancel_build`: submit, ask, stop; over stdio and HTTP, and after a restart."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError

from esc_skills.pipeline.jobs import Job, JobSettings, JobState, all_jobs
from esc_skills.server.app import create_server
from esc_skills.server.jobs import allowed
from esc_skills.server.loader import BankLoader
from esc_skills.server.watch import LiveBank
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.settings import Settings
from esc_skills.skills_bank.store import BankStore

SERVE_FAKE = Path(__file__).with_name("serve_fake.py")
WORRIED = "I am so anxious and scared about the exam deadline next week that I can't sleep."
NOTHING = (
    '{"id": "a", "dialog": [{"speaker": "seeker", "content": "Hello"}, {"speaker": "supporter", "content": "Hi"}]}\n'
)
"""A corpus that gives no prototype: a build of it fails, by a permanent failure."""


@pytest.fixture
def bank(tmp_path: Path, folder: Path) -> Path:
    """A bank with versions, begun from the sample skills."""
    BankStore(tmp_path / "store").init_from(folder)
    return tmp_path / "store"


@pytest.fixture
def live(bank: Path) -> LiveBank:
    return LiveBank(BankLoader(Settings(bank_dir=bank), encoder=FakeEncoder()), watch=False)


@pytest.fixture
def jobs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ESC_JOBS_DIR", str(tmp_path / "jobs"))
    return tmp_path / "jobs"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "talks" / "nothing.jsonl"
    path.parent.mkdir()
    path.write_text(NOTHING, encoding="utf-8")
    return path


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Keep jobs from getting a process; their locks stay held by this one, so that they count as running."""
    found: list[Job] = []

    def spawn(job: Job, locks: Any) -> None:
        found.append(job)
        job.held = locks  # type: ignore[attr-defined]

    monkeypatch.setattr("esc_skills.pipeline.jobs.spawn", spawn)
    return found


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    return (await client.call_tool(tool, arguments)).structured_content


async def ended(client: Client, task: str, seconds: float = 60.0) -> dict[str, Any]:
    for _ in range(int(seconds / 0.1)):
        status = await call(client, "build_status", task_id=task)
        if status["status"] != "running":
            return status
        await asyncio.sleep(0.1)
    raise AssertionError(f"still running: {status}")


async def test_a_build_is_submitted_and_answers_at_once(client, jobs_dir, corpus, spawned, bank):
    started = await call(client, "build_bank", corpus=[str(corpus)], skills="auto", max_calls=7)
    assert started["status"] == "running" and started["poll_after_seconds"] > 0
    plan = spawned[0].read().plan
    assert started["task_id"] == spawned[0].id
    assert plan["bank"] == str(bank) and plan["skills"] == "auto"
    assert plan["limits"] == {"calls": 7, "tokens": None, "usd": None}
    status = await call(client, "build_status", task_id=started["task_id"])
    assert (status["status"], status["result"], status["error"]) == ("running", None, None)
    assert status["poll_after_seconds"] > 0


async def test_a_second_build_is_a_clear_error_that_names_the_first(client, jobs_dir, corpus, spawned):
    first = (await call(client, "build_bank", corpus=[str(corpus)]))["task_id"]
    with pytest.raises(ToolError, match=f"Job {first} is building the bank .* already. Wait for it, or cancel it."):
        await call(client, "build_bank", corpus=[str(corpus)])
    assert len(all_jobs(jobs_dir)) == 1


@pytest.mark.parametrize("tool", ["build_status", "cancel_build"])
async def test_an_unknown_id_is_a_clear_error(client, jobs_dir, tool):
    with pytest.raises(ToolError, match=r"No job 'build-none'\. Newest jobs: none\."):
        await call(client, tool, task_id="build-none")


async def test_a_permanent_failure_is_a_status_and_no_tool_error(client, jobs_dir, corpus, spawned):
    task = (await call(client, "build_bank", corpus=[str(corpus)]))["task_id"]
    spawned[0].write(state=JobState.FAILED, error="The corpus gives no bank.")
    status = await call(client, "build_status", task_id=task)
    assert (status["status"], status["error"]) == ("failed", "The corpus gives no bank.")
    assert status["poll_after_seconds"] is None


async def test_cancelling_gives_the_final_state_however_often(client, jobs_dir, corpus, spawned):
    task = (await call(client, "build_bank", corpus=[str(corpus)]))["task_id"]
    for held in spawned[0].held:
        held.close()  # as if its process had been killed
    assert (await call(client, "build_status", task_id=task))["status"] == "failed"
    for _ in range(3):
        assert (await call(client, "cancel_build", task_id=task))["status"] == "cancelled"
    assert (await call(client, "build_status", task_id=task))["status"] == "cancelled"


async def test_a_job_is_taken_up_again_by_its_id(client, jobs_dir, corpus, spawned):
    task = (await call(client, "build_bank", corpus=[str(corpus)]))["task_id"]
    with pytest.raises(ToolError, match="is running"):
        await call(client, "build_bank", resume=task)
    for held in spawned[0].held:
        held.close()
    again = await call(client, "build_bank", resume=task, max_usd=3)
    assert again["task_id"] == task
    record = spawned[1].read()
    assert (record.attempts, record.plan["limits"]["usd"]) == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Pass either `corpus`"),
        ({"corpus": ["/a"], "resume": "b"}, "Pass either `corpus`"),
        ({"corpus": ["/no/such/file.jsonl"]}, "No corpus at /no/such/file.jsonl"),
        ({"corpus": ["talks.jsonl"]}, "'talks.jsonl' is relative"),
        ({"corpus": []}, "corpus"),
        ({"corpus": ["/a"], "skills": 0}, "skills"),
        ({"corpus": ["/a"], "annotator": "me"}, "annotator"),
        ({"corpus": ["{corpus}"], "writer": "llm"}, "No key"),
    ],
)
async def test_what_cannot_be_built_is_refused_with_the_fix(
    client, jobs_dir, corpus, spawned, arguments, message, monkeypatch
):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ESC_LLM_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    given = json.loads(json.dumps(arguments).replace("{corpus}", str(corpus)))
    with pytest.raises(ToolError, match=message):
        await call(client, "build_bank", **given)
    assert spawned == []


async def test_a_plain_folder_of_skills_is_not_built_over(folder, jobs_dir, corpus, spawned):
    live = LiveBank(BankLoader(Settings(bank_dir=folder), encoder=FakeEncoder()), watch=False)
    async with Client(create_server(live)) as client:
        with pytest.raises(ToolError, match="plain folder of skills"):
            await call(client, "build_bank", corpus=[str(corpus)])


# --- what may be read -------------------------------------------------------------------------------------------------


@pytest.fixture
def settings_with(corpus: Path) -> JobSettings:
    return JobSettings(corpus_dir=corpus.parent)


def test_inside_its_folder_a_remote_caller_may_name_files_and_folders(settings_with, corpus):
    for name in ("nothing.jsonl", str(corpus), ".", str(corpus.parent)):
        assert allowed([name], settings_with, remote=True) == [corpus]


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.jsonl", "~/secret.jsonl", "{outside}"])
def test_outside_of_it_nothing_is_read_and_existence_is_not_told(settings_with, tmp_path, name):
    secret = tmp_path / "secret.jsonl"
    messages = set()
    for there in (False, True):
        if there:
            secret.write_text(NOTHING, encoding="utf-8")
        with pytest.raises(InputError, match="lies outside ESC_CORPUS_DIR") as error:
            allowed([name.replace("{outside}", str(secret))], settings_with, remote=True)
        messages.add(str(error.value))
    assert len(messages) == 1


def test_a_link_does_not_lead_outside(settings_with, corpus, tmp_path):
    secret = tmp_path / "secret.jsonl"
    secret.write_text(NOTHING, encoding="utf-8")
    (corpus.parent / "link.jsonl").symlink_to(secret)
    for name in ("link.jsonl", "."):
        with pytest.raises(InputError, match="outside ESC_CORPUS_DIR"):
            allowed([name], settings_with, remote=True)


def test_without_a_folder_a_remote_caller_may_name_nothing_and_a_local_one_anything(corpus):
    with pytest.raises(InputError, match="read only from the folder that ESC_CORPUS_DIR names, and none is set"):
        allowed([str(corpus)], JobSettings(), remote=True)
    assert allowed([str(corpus)], JobSettings(), remote=False) == [corpus]


def test_a_local_caller_may_name_paths_relative_to_the_folder_and_files_elsewhere(settings_with, corpus, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(NOTHING, encoding="utf-8")
    assert allowed(["nothing.jsonl", str(other)], settings_with, remote=False) == [corpus, other]


@pytest.mark.slow
@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_over_http_the_folder_counts(bank, jobs_dir, corpus, era, tmp_path):
    secret = tmp_path / "secret.jsonl"
    secret.write_text(NOTHING, encoding="utf-8")
    with serving(bank, {}) as url:
        async with Client(url, mode=era) as client:
            with pytest.raises(ToolError, match="none is set"):
                await call(client, "build_bank", corpus=[str(corpus)])
    with serving(bank, {"ESC_CORPUS_DIR": str(corpus.parent)}) as url:
        async with Client(url, mode=era) as client:
            with pytest.raises(ToolError, match="outside ESC_CORPUS_DIR"):
                await call(client, "build_bank", corpus=[str(secret)])
            assert all_jobs(jobs_dir) == []
            task = (await call(client, "build_bank", corpus=[corpus.name]))["task_id"]
            assert (await ended(client, task))["status"] == "failed"


@contextmanager
def serving(bank: Path, settings: dict[str, str]) -> Iterator[str]:
    """Serve `bank` over HTTP from a process of its own; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SERVE_FAKE), str(bank), str(port)]
    with subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.terminate()


# --- for real ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def stdio(bank: Path, jobs_dir: Path) -> Callable[[], StdioTransport]:
    env = {**os.environ, "ESC_JOBS_DIR": str(jobs_dir)}
    return lambda: StdioTransport(sys.executable, [str(SERVE_FAKE), str(bank)], env=env, keep_alive=False)


@pytest.mark.slow
@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_job_outlives_the_server_and_the_next_one_finds_it(stdio, corpus, jobs_dir, era):
    async with Client(stdio(), mode=era) as client:
        task = (await call(client, "build_bank", corpus=[str(corpus)]))["task_id"]
    process = all_jobs(jobs_dir)[0].read().pid
    async with Client(stdio(), mode=era) as client:
        status = await ended(client, task)
        assert (await call(client, "cancel_build", task_id=task))["status"] == status["status"]
    assert process is None or process != os.getpid()
    assert status["status"] == "failed"
    assert "1 dialogues gave 0 units" in status["error"]
    assert "Hello" not in all_jobs(jobs_dir)[0].log.read_text(encoding="utf-8")


@pytest.mark.slow
async def test_cancelling_a_running_job_stops_its_process(stdio, corpus, jobs_dir):
    many = [json.loads(NOTHING) | {"id": f"talk-{i}"} for i in range(3000)]
    corpus.write_text("\n".join(map(json.dumps, many)), encoding="utf-8")
    async with Client(stdio()) as client:
        task = (await call(client, "build_bank", corpus=[str(corpus)]))["task_id"]
        while not (
            (status := await call(client, "build_status", task_id=task))["progress"]["done"]
            and status["phase"] == "annotating"
        ):
            assert status["status"] == "running", status
            await asyncio.sleep(0.1)
        assert (await call(client, "cancel_build", task_id=task))["status"] == "cancelled"
        assert (await call(client, "cancel_build", task_id=task))["status"] == "cancelled"
    record = all_jobs(jobs_dir)[0].read()
    assert record.state is JobState.CANCELLED and 0 < record.progress.done < 3000
    for _ in range(100):
        if not Path(f"/proc/{record.pid}").exists():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the process is still there")
