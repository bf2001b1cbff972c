"""The tools of evolution: submit, ask, stop, propose, compare, report; and what a running server then serves."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError
from mcp.shared.exceptions import MCPError

from esc_skills.evolve.models import Candidate, Check, Effect, Feedback, ProposalKind, Verdict
from esc_skills.evolve.propose import ProposePlan, propose
from esc_skills.evolve.record import EvolveProgress, EvolveRun, Outcome, Sealed
from esc_skills.pipeline.jobs import Job, JobSettings, JobState, Progress, all_jobs, create_job, find_job, run_here
from esc_skills.server.app import create_server
from esc_skills.server.loader import BankLoader
from esc_skills.server.watch import LiveBank
from esc_skills.simulator.resample import Estimate
from esc_skills.simulator.sources import BankRef
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.encoder import Reading, Turn
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.settings import Settings
from esc_skills.skills_bank.store import BankStore
from esc_skills.skills_bank.taxonomy import SupportAction

SERVE_FAKE = Path(__file__).with_name("serve_fake.py")
SKILL = "calming-dread"
OLD, NEW = "Ask what the worst part is.", "Ask what the hardest part is, and wait."
UNSAFE = "Tell them to stop taking their tablets and to keep it a secret."
EFFECT = Effect(
    profiles=2, talks=4, old=40.0, new=48.0, difference=Estimate(8.0, 4.0, 12.0), p=0.03, success=(0, 1), failure=(1, 0)
)
COMPARED = {
    "profiles": 2, "talks": 4, "old": 40.0, "new": 48.0, "difference": 8.0, "low": 4.0, "high": 12.0, "p": 0.03,
    "success": [0, 1], "failure": [1, 0],
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, bank_dir: Path) -> BankStore:
    """A bank with versions of three composed skills that pass the strict check."""
    store = BankStore(tmp_path / "store")
    store.init_from(bank_dir)
    return store


@pytest.fixture
def live(store: BankStore) -> LiveBank:
    return LiveBank(BankLoader(Settings(bank_dir=store.root), encoder=FakeEncoder()), watch=False)


@pytest.fixture(autouse=True)
def jobs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ESC_JOBS_DIR", str(tmp_path / "jobs"))
    return tmp_path / "jobs"


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Keep jobs from getting a process; their locks stay held by this one, so that they count as running."""
    found: list[Job] = []

    def spawn(job: Job, locks: Any) -> None:
        found.append(job)
        job.held = locks  # type: ignore[attr-defined]

    monkeypatch.setattr("esc_skills.pipeline.jobs.spawn", spawn)
    return found


class Scripted:
    """A `Trial` that rules as it is told, in three steps that can be watched."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.ruling, self.seconds = "accept", 0.0

    def screen(self, candidate: Candidate, bank: Bank) -> list[str]:
        return []

    async def judge(self, candidate: Candidate, kind: ProposalKind, parent: BankRef, staged: BankRef) -> Verdict:
        for done in range(3):
            self._job.write(phase="verifying", progress=Progress(done=done, total=3))
            await asyncio.sleep(self.seconds / 3)
        return Verdict(
            candidate=candidate.id,
            ruling=self.ruling,
            reason="as scripted",
            strategy="paired",
            effect=EFFECT,
            checks=(Check(name="real-data", run=False, told="no corpus here"),),
            feedback=Feedback(attempt=1, reason="", worse_actions=(SupportAction.OPEN_EXPLORATION,)),
        )


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run proposals in a thread of this process, with a verdict by script; the dict says which."""
    script: dict[str, Any] = {"ruling": "accept", "seconds": 0.0, "threads": []}

    async def run(job: Job) -> dict:
        trial = Scripted(job)
        trial.ruling, trial.seconds = script["ruling"], script["seconds"]
        return (await propose(ProposePlan.model_validate(job.read().plan), job, trial)).model_dump(mode="json")

    def spawn(job: Job, locks: Any) -> None:
        thread = threading.Thread(target=run_here, args=(job, locks), daemon=True)
        script["threads"].append(thread)
        thread.start()

    monkeypatch.setattr("esc_skills.evolve.propose.run", run)
    monkeypatch.setattr("esc_skills.pipeline.jobs.spawn", spawn)
    return script


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    return (await client.call_tool(tool, arguments)).structured_content


# --- proposing --------------------------------------------------------------------------------------------------------


async def test_a_proposal_is_answered_with_verdict_figures_and_diff(client, scripted, store, skill_text):
    before = store.active()
    status = await call(client, "propose_skill", skill_md=skill_text.replace(OLD, NEW), reason="It hurries.")
    assert (status["kind"], status["status"], status["phase"]) == ("propose", "completed", "done")
    assert status["poll_after_seconds"] is None and status["error"] is None
    result = status["result"]
    assert (result["verdict"], result["kind"], result["skill"]) == ("accept", "refine", SKILL)
    assert result["figures"] == COMPARED and result["noise"] is None
    assert result["worse_actions"] == ["open_exploration"]
    assert {"name": "real-data", "run": False, "told": "no corpus here"} in result["checks"]
    assert f"-2. **Open exploration** (`open_exploration`): {OLD}" in result["diff"].splitlines()
    assert (result["parent_version"], result["bank_version"], store.active()) == (before, None, before)


async def test_applied_it_is_in_the_history_and_can_be_seen_and_undone(client, scripted, store, live, skill_text):
    before = store.active()
    text = skill_text.replace(OLD, NEW)
    result = (await call(client, "propose_skill", skill_md=text, reason="It hurries.", apply=True))["result"]
    after = result["bank_version"]
    assert after == store.active() != before
    await live.reload()
    history = await call(client, "bank_history")
    assert [(version["version"], version["parent"], version["active"]) for version in history["versions"]] == [
        (after, before, True),
        (before, None, False),
    ]
    assert history["versions"][0]["note"].endswith(f"refined {SKILL}: It hurries.")
    change = await call(client, "bank_diff", before=before)
    assert (change["after"], change["added"], change["removed"]) == (after, [], [])
    assert change["reason"] == history["versions"][0]["note"]
    assert [skill["name"] for skill in change["changed"]] == [SKILL]
    assert f"+2. **Open exploration** (`open_exploration`): {NEW}" in change["changed"][0]["diff"].splitlines()
    assert (await call(client, "rollback_bank", version=before))["changed"] == [SKILL]
    assert OLD in (await call(client, "read_skill", name=SKILL))["text"]


@pytest.mark.parametrize("ruling", ["reject", "indecisive"])
async def test_what_is_not_accepted_is_not_applied(client, scripted, store, skill_text, ruling):
    scripted["ruling"] = ruling
    before = store.active()
    status = await call(client, "propose_skill", skill_md=skill_text.replace(OLD, NEW), reason="Why.", apply=True)
    assert (status["result"]["verdict"], status["result"]["bank_version"], store.active()) == (ruling, None, before)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("---\nname", "name", "skill_md: frontmatter: .*Begin with '---'"),
        ("## Pitfalls", "## Traps", "skill_md: Pitfalls"),
        (OLD, "Ask 3 questions.", "What to do: A number stands in the prose"),
    ],
)
async def test_a_text_that_is_no_skill_is_a_clear_error(client, spawned, skill_text, before, after, message):
    with pytest.raises(ToolError, match=message):
        await call(client, "propose_skill", skill_md=skill_text.replace(before, after), reason="Why.")
    assert spawned == []


@pytest.mark.slow
async def test_who_waits_is_told_how_far_it_is(live, scripted, skill_text, era):
    scripted["seconds"] = 3.0
    told: list[tuple[float, str | None]] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        told.append((done, message))

    async with Client(create_server(live), mode=era, progress_handler=on_progress) as client:
        await call(client, "propose_skill", skill_md=skill_text.replace(OLD, NEW), reason="Why.")
    assert len(told) > 1 and [done for done, _ in told] == sorted({done for done, _ in told})
    assert "verifying 1 of 3" in [message for _, message in told]


@pytest.mark.slow
async def test_who_does_not_wait_asks_later(client, scripted, skill_text):
    scripted["seconds"] = 1.0
    began = time.monotonic()
    status = await call(client, "propose_skill", skill_md=skill_text.replace(OLD, NEW), reason="Why.", wait_seconds=0)
    assert time.monotonic() - began < 0.9
    assert (status["status"], status["result"]) == ("running", None) and status["poll_after_seconds"] > 0
    task = status["task_id"]
    while (status := await call(client, "evolve_status", task_id=task))["status"] == "running":
        await asyncio.sleep(0.1)
    assert status["result"]["verdict"] == "accept"
    assert (await call(client, "cancel_evolve", task_id=task)) == status


async def test_asked_again_the_same_proposal_is_waited_for(client, spawned, skill_text):
    text = skill_text.replace(OLD, NEW)
    first, again, other = [
        (await call(client, "propose_skill", skill_md=text, reason=reason, wait_seconds=0))["task_id"]
        for reason in ("Why.", "Why.", "Why else.")
    ]
    assert first == again != other and [job.id for job in spawned] == [first, other]


@pytest.mark.slow
async def test_a_client_that_leaves_does_not_end_the_proposal(live, scripted, jobs_dir, skill_text):
    scripted["seconds"] = 1.5
    async with Client(create_server(live)) as client:
        asking = asyncio.create_task(
            call(client, "propose_skill", skill_md=skill_text.replace(OLD, NEW), reason="Why.")
        )
        while not scripted["threads"]:
            await asyncio.sleep(0.05)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
    await asyncio.to_thread(scripted["threads"][0].join)
    assert all_jobs(jobs_dir)[0].look().state is JobState.COMPLETED


async def test_a_proposal_can_be_cancelled_and_resumed(client, spawned, skill_text):
    text = skill_text.replace(OLD, NEW)
    task = (await call(client, "propose_skill", skill_md=text, reason="Why.", wait_seconds=0))["task_id"]
    for held in spawned[0].held:
        held.close()  # as if its process had been killed
    failed = await call(client, "evolve_status", task_id=task)
    assert failed["status"] == "failed" and f"resume job {task}" in failed["error"]
    for _ in range(2):
        assert (await call(client, "cancel_evolve", task_id=task))["status"] == "cancelled"
    assert (await call(client, "evolve_bank", resume=task))["task_id"] == task
    assert (await call(client, "evolve_status", task_id=task))["status"] == "running"


# --- evolving ---------------------------------------------------------------------------------------------------------


async def test_an_evolution_is_submitted_and_answers_at_once(client, spawned, store):
    started = await call(
        client, "evolve_bank", n=40, seed=3, strategy="paper", max_candidates=2, stall=1, max_seconds=60
    )
    assert started == {"task_id": spawned[0].id, "status": "running", "poll_after_seconds": 5.0}
    plan = spawned[0].read().plan
    assert (plan["n"], plan["seed"], plan["strategy"], plan["apply"]) == (40, 3, "paper", False)
    assert plan["bank"]["root"] == str(store.root) and plan["bank"]["version"] == store.active()
    caps = {name: value for name, value in plan["caps"].items() if value is not None}
    assert caps == {"candidates": 2, "stall": 1, "seconds": 60}
    status = await call(client, "evolve_status", task_id=spawned[0].id)
    assert (status["kind"], status["status"], status["result"]) == ("evolve", "running", None)
    assert status["scores"] == {"baseline": None, "proposals": None, "tried": 0, "verdicts": {}, "accepted": []}
    with pytest.raises(ToolError, match=f"Job {spawned[0].id} is evolving the bank"):
        await call(client, "evolve_bank")


async def test_a_finished_evolution_tells_what_it_gave_and_has_a_report(client, spawned, store):
    task = (await call(client, "evolve_bank", n=40))["task_id"]
    with pytest.raises(MCPError, match=f"Job {task} has no report yet: it is running"):
        await client.read_resource(f"evolve://runs/{task}/report")
    run = EvolveRun(spawned[0].folder)
    run.write("progress.json", EvolveProgress(proposals=3, tried=3, verdicts={"accept": 1, "reject": 2}))
    told = "Kept in the job's folder."
    run.write("outcome.json", Outcome(parent=store.active(), parent_hash="a", kept=("refine-x.1",), told=told))
    run.write("sealed.json", Sealed(split="b", seed=1, effect=EFFECT, told="once"))
    run.write_text("report.html", "<!doctype html><title>Evolution</title>")
    spawned[0].write(state=JobState.COMPLETED, phase="done", result={})
    status = await call(client, "evolve_status", task_id=task)
    assert status["scores"]["verdicts"] == {"accept": 1, "reject": 2}
    assert status["result"] == {
        "parent_version": store.active(),
        "bank_version": None,
        "kept": ["refine-x.1"],
        "verdicts": {"accept": 1, "reject": 2},
        "sealed": COMPARED,
        "told": told,
        "report": f"evolve://runs/{task}/report",
    }
    page = (await client.read_resource(status["result"]["report"]))[0]
    assert (page.mime_type, page.text) == ("text/html", "<!doctype html><title>Evolution</title>")


async def test_there_is_no_report_of_what_is_not_there(client, spawned, skill_text):
    with pytest.raises(MCPError, match=r"No job 'evolve-none'"):
        await client.read_resource("evolve://runs/evolve-none/report")
    task = (await call(client, "propose_skill", skill_md=skill_text, reason="Why.", wait_seconds=0))["task_id"]
    with pytest.raises(MCPError, match="is a proposal and has no report"):
        await client.read_resource(f"evolve://runs/{task}/report")


@pytest.mark.parametrize("tool", ["evolve_status", "cancel_evolve"])
async def test_an_unknown_id_is_a_clear_error_and_so_is_a_build(client, jobs_dir, tool):
    with pytest.raises(ToolError, match=r"No job 'evolve-none'"):
        await call(client, tool, task_id="evolve-none")
    job, held = create_job(jobs_dir, "build", {})
    with pytest.raises(ToolError, match=f"Job {job.id} is a build; ask `build_status` about it"):
        await call(client, tool, task_id=job.id)
    held.close()


async def test_build_status_does_not_answer_for_an_evolution(client, spawned):
    task = (await call(client, "evolve_bank", n=40))["task_id"]
    for tool in ("build_status", "cancel_build"):
        with pytest.raises(ToolError, match="is no build but of kind 'evolve'"):
            await call(client, tool, task_id=task)
    assert find_job(JobSettings().jobs(), task).look().state is JobState.RUNNING


async def test_a_diff_names_versions_and_skills_that_are_not_there(client, store):
    active = store.active()
    with pytest.raises(ToolError, match=f"No bank version 'v9'. Known versions: {active}"):
        await call(client, "bank_diff", before="v9")
    with pytest.raises(ToolError, match=f"'{SKILL}' does not differ from {active} to {active}. Skills that do: none"):
        await call(client, "bank_diff", before=active, skill=SKILL)
    assert (await call(client, "bank_diff", before=active))["changed"] == []


# --- what is served then ----------------------------------------------------------------------------------------------


async def test_a_running_server_serves_the_evolved_bank_and_tells_its_clients(store, scripted, skill_text, era):
    live = LiveBank(BankLoader(Settings(bank_dir=store.root), encoder=FakeEncoder()), watch=True)
    heard = asyncio.Event()

    async def on_message(message: Any) -> None:
        if "list_changed" in str(getattr(message, "method", "")):
            heard.set()

    async with Client(create_server(live), mode=era, message_handler=on_message) as client:
        await live.view()
        await asyncio.wait_for(live.following.wait(), 5)
        listener = await listen(client, heard) if era == "auto" else None
        text = skill_text.replace(OLD, NEW)
        result = (await call(client, "propose_skill", skill_md=text, reason="Why.", apply=True))["result"]
        await asyncio.wait_for(heard.wait(), 5)
        answer = await call(client, "read_skill", name=SKILL)
        assert NEW in answer["text"] and answer["bank_version"] == result["bank_version"]
        if listener is not None:
            listener.cancel()


async def listen(client: Client, heard: asyncio.Event) -> "asyncio.Task[None]":
    """Open a `subscriptions/listen` stream and note the first resources/list_changed."""
    from mcp.client.subscriptions import listen as open_stream
    from mcp.shared.subscriptions import ResourcesListChanged

    opened = asyncio.Event()

    async def follow() -> None:
        async with open_stream(client.session, resources_list_changed=True) as stream:
            opened.set()
            async for event in stream:
                if isinstance(event, ResourcesListChanged):
                    heard.set()

    task = asyncio.create_task(follow())
    await asyncio.wait_for(opened.wait(), 5)
    return task


class Gated(FakeEncoder):
    """An encoder whose reading of a talk waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.waiting = threading.Event(), threading.Event()

    def read(self, turns: "list[Turn]") -> Reading:  # type: ignore[override]
        self.waiting.set()
        assert self.gate.wait(10)
        return super().read(turns)


async def test_a_call_in_flight_over_the_swap_answers_from_one_version(store, make_skill_text, era):
    """The talk is read while the bank changes under it: names, texts and version of its answer are all the old ones."""
    encoder = Gated()
    live = LiveBank(BankLoader(Settings(bank_dir=store.root), encoder=encoder), watch=False)
    before = store.active()
    names = {SKILL, "calming-exams", "calming-moves"}
    async with Client(create_server(live), mode=era) as client:
        await live.view()
        talk = [{"role": "seeker", "content": "I am so anxious and scared about the talk tomorrow."}]
        asking = asyncio.create_task(call(client, "select_skill", messages=talk, k=10, min_score=0.0))
        await asyncio.to_thread(encoder.waiting.wait, 10)
        text = make_skill_text("soothing-nights", "the night").replace(OLD, NEW)
        store.commit({"soothing-nights": {"SKILL.md": text}}, reason="evolved")
        await live.reload()
        assert (await call(client, "list_skills"))["bank_version"] == store.active() != before
        encoder.gate.set()
        answer = await asking
        assert answer["bank_version"] == before
        assert {skill["name"] for skill in answer["skills"]} and {s["name"] for s in answer["skills"]} <= names
        then = await call(client, "select_skill", messages=talk, k=10, min_score=0.0)
        assert then["bank_version"] == store.active()
        assert {skill["name"] for skill in then["skills"]} == {"soothing-nights"}


# --- for real ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path, make_skill_text) -> BankStore:
    """A bank of one skill: the other composed ones are its twins, which the screen does not take."""
    store = BankStore(tmp_path / "alone")
    (tmp_path / "one" / SKILL).mkdir(parents=True)
    (tmp_path / "one" / SKILL / "SKILL.md").write_text(make_skill_text(SKILL), encoding="utf-8")
    store.init_from(tmp_path / "one")
    return store


@contextmanager
def serving(bank: Path) -> Iterator[str]:
    """Serve `bank` over HTTP from a process of its own; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SERVE_FAKE), str(bank), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.terminate()


@contextmanager
def reached(transport: str, bank: Path) -> Iterator[Any]:
    if transport == "stdio":
        yield StdioTransport(sys.executable, [str(SERVE_FAKE), str(bank)], env={**os.environ}, keep_alive=False)
    else:
        with serving(bank) as url:
            yield url


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_proposal_is_judged_in_a_process_of_its_own(alone, skill_text, transport, era):
    """Texts that need no talk: the same one, an unsafe one, and none at all. The server may go in between."""
    before = alone.active()
    with reached(transport, alone.root) as server:
        async with Client(server, mode=era) as client:
            same = await call(client, "propose_skill", skill_md=skill_text, reason="Why.", apply=True)
            assert (same["result"]["verdict"], same["result"]["figures"]) == ("indecisive", None)
            with pytest.raises(ToolError, match="frontmatter"):
                await call(client, "propose_skill", skill_md=skill_text[4:], reason="Why.")
            unsafe = skill_text.replace(OLD, UNSAFE)
            task = (await call(client, "propose_skill", skill_md=unsafe, reason="Why.", wait_seconds=0))["task_id"]
    with reached(transport, alone.root) as server:
        async with Client(server, mode=era) as client:
            while (status := await call(client, "evolve_status", task_id=task))["status"] == "running":
                await asyncio.sleep(0.1)
    assert (status["result"]["verdict"], status["result"]["figures"]) == ("reject", None)
    assert any(veto.startswith("screen: medication") for veto in status["result"]["vetoes"])
    assert alone.active() == before


@pytest.mark.slow
async def test_a_running_proposal_is_stopped(alone, skill_text, jobs_dir):
    with reached("stdio", alone.root) as server:
        async with Client(server) as client:
            text = skill_text.replace(OLD, NEW)
            task = (await call(client, "propose_skill", skill_md=text, reason="Why.", wait_seconds=0))["task_id"]
            while (status := await call(client, "evolve_status", task_id=task))["phase"] != "baseline":
                assert status["status"] == "running", status
                await asyncio.sleep(0.05)
            assert (await call(client, "cancel_evolve", task_id=task))["status"] == "cancelled"
    pid = all_jobs(jobs_dir)[0].read().pid
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the process is still there")
