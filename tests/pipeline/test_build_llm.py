"""A build that asks a model for everything: a scripted server over real HTTP, in the real process of a job."""

import json
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from esc_skills.pipeline.annotator import NotAnnotated
from esc_skills.pipeline.build_plan import Limits, plan_build, resume_build, start_build
from esc_skills.pipeline.codes import ACTION_CODES, CHANGE_CODES, SCENARIO_CODES, STATE_CODES
from esc_skills.pipeline.corpus import Dialogue, Utterance
from esc_skills.pipeline.jobs import Job, JobRecord, JobState, spawn
from esc_skills.skills_bank.models import ActionStep, Example, Message, Pitfall, Skill, StatePlan
from esc_skills.skills_bank.place import find_bank
from esc_skills.skills_bank.skillmd import render_skill
from esc_skills.skills_bank.store import BankStore

from ..messages_server import MessagesServer
from .composed import ComposedAnnotator, write_corpus

pytestmark = pytest.mark.slow

WORDS = "amber birch cedar delta ember fjord grove heath inlet jetty knoll lagoon meadow north ocean pine".split()


def answer(body: dict[str, Any]) -> Any:
    """Annotate a composed dialogue, or write the page of a dossier."""
    said = body["messages"][0]["content"]
    said = said if isinstance(said, str) else "".join(part["text"] for part in said)
    return labels_of(said) if said.startswith("<dialogue>") else page_of(said)


def code_of(codes: dict[str, Any], value: Any) -> str:
    return next(code for code, member in codes.items() if member == value)


def labels_of(text: str) -> dict[str, Any]:
    spoken = [line.split(": ", 1)[1] for line in text.splitlines()[1:-1]]
    utterances = tuple(
        Utterance(speaker="supporter" if i % 2 else "seeker", content=line) for i, line in enumerate(spoken)
    )
    found = ComposedAnnotator().one(Dialogue(id="asked", source="other", split="x", utterances=utterances))
    assert not isinstance(found, NotAnnotated)
    lines = [
        f"{turn.turn} S {code_of(STATE_CODES, turn.state)}"
        if turn.speaker == "seeker"
        else f"{turn.turn} H {code_of(ACTION_CODES, turn.actions[0])} {code_of(CHANGE_CODES, turn.change)}"
        for turn in found.turns
    ]
    return {"scenarios": [code_of(SCENARIO_CODES, found.scenarios[0])], "turns": lines}


def page_of(dossier: str) -> str:
    cluster = re.search(r'esc-cluster: "c(\d+)"', dossier)
    assert cluster is not None
    word = WORDS[int(cluster[1])]
    cells = re.findall(r"^\| ([a-z_]+) \| ([a-z_]+) \| \d+ \|", dossier, re.MULTILINE)
    states, actions = (list(dict.fromkeys(column)) for column in zip(*cells, strict=True))
    talk = (
        Message(role="seeker", content=f"Nothing about the {word} lets me rest."),
        Message(role="supporter", content=f"The {word} seems to follow you around."),
    )
    skill = {
        "name": "steadying" if int(cluster[1]) <= 2 else f"steadying-{word}",  # the first two want the same name
        "description": f"Steadies a seeker whose {word} gives no rest. Use it when the {word} comes up.",
        "states": states,
        "actions": actions,
        "title": f"Steadying {word}",
        "overview": f"Stay with the {word} before anything else.",
        "when": [f"The {word} {verb}." for verb in ("returns", "grows", "hurts")],
        "when_not": [f"The {word} is settled."],
        "plans": [
            StatePlan.model_validate({
                "state": state,
                "steps": [
                    ActionStep.model_validate({"action": action, "how": f"Do it for the {word}."})
                    for own, action in cells
                    if own == state
                ],
            })
            for state in states
        ],
        "pitfalls": [
            Pitfall(title=f"{title} {word}", text=f"It missed the {word}.", signal=f"They drop the {word}.")
            for title in ("Rushing", "Lecturing", "Soothing")
        ],
        "examples": [
            Example(kind=kind, title=f"{title} {word}", lines=talk, comment=f"It kept to the {word}.")
            for kind, title in (("good", "Staying near"), ("good", "Asking about"), ("bad", "Leaving"))
        ],
        "expected_outcome": f"They say more about the {word}.",
        "risks": "At a sign of danger the risk check comes first.",
    }  # fmt: skip
    if "Names already taken" in dossier:
        skill["name"] = f"steadying-{word}"
    return render_skill(Skill.model_validate(skill))


class Runs:
    """Builds of one test, each in a process of its own."""

    def __init__(self, root: Path, corpus: Path, bank: Path) -> None:
        self.root, self.corpus, self.skills = root, corpus, bank

    def start(self, name: str, **options: Any) -> Job:
        bank = self.root / name / "bank"
        BankStore(bank).init_from(self.skills)
        plan = plan_build([self.corpus], bank_dir=bank, annotator="llm", writer="llm", skills=4, **options)
        job, locks = start_build(self.root / name / "jobs", plan)
        spawn(job, locks)
        return job

    def resume(self, job: Job, limits: Limits | None = None) -> None:
        spawn(*resume_build(Job(job.folder), limits))

    def end(self, job: Job, seconds: float = 60) -> JobRecord:
        deadline = time.monotonic() + seconds
        while (record := job.look()).state is JobState.RUNNING and time.monotonic() < deadline:
            time.sleep(0.05)
        return record

    def hashes(self, name: str) -> list[str]:
        history = find_bank(self.root / name / "bank").store().history()
        return [info.hash for info in history if info.note.startswith("build-")]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with MessagesServer(answer) as running:
        monkeypatch.setenv("ESC_LLM_BASE_URL", running.url)
        monkeypatch.setenv("ESC_MODEL_ANNOTATOR", "test-annotator")
        monkeypatch.setenv("ESC_MODEL_WRITER", "test-writer")
        monkeypatch.setenv("ESC_LLM_IN_FLIGHT", "4")
        yield running


@pytest.fixture
def runs(tmp_path: Path, bank_dir: Path, server: MessagesServer) -> Runs:
    corpus = write_corpus(tmp_path / "composed.jsonl", 40)
    return Runs(tmp_path, corpus, bank_dir)


def test_a_bank_by_a_model_and_its_cost(runs, server):
    job = runs.start("one")
    record = runs.end(job)
    assert record.state is JobState.COMPLETED, record.error or job.log.read_text(encoding="utf-8")
    bank = find_bank(runs.root / "one" / "bank").store().load()
    assert len(bank.skills) == 4
    assert {"steadying", "steadying-cedar"} <= set(bank.skills)  # the later of two namesakes got another name
    assert {skill.written_by.split()[0] for skill in bank.skills.values()} == {"test-writer"}
    report = Path((record.result or {})["report"]).read_text(encoding="utf-8")
    assert "annotator (test-annotator): 40 paid calls" in report
    assert "writer (test-writer): 5 paid calls" in report
    assert len(server.requests) == 45
    log = job.log.read_text(encoding="utf-8")
    assert "Friday" not in log and "dread" not in log


def test_killed_at_random_and_resumed_gives_the_same_bank_and_pays_little_twice(runs, server):
    assert runs.end(runs.start("quiet")).state is JobState.COMPLETED
    server.requests.clear()
    server.latency = 0.15
    chance = random.Random(4)
    job, kills, phases = runs.start("killed"), 0, []
    while kills < 5:
        enough = len(server.requests) + chance.randint(3, 10)
        while len(server.requests) < enough and job.look().state is JobState.RUNNING:
            time.sleep(0.01)
        if (record := job.look()).state is not JobState.RUNNING:
            break
        assert record.pid is not None
        phases.append(record.phase)
        os.kill(record.pid, signal.SIGKILL)
        kills += 1
        assert runs.end(job).state is JobState.FAILED
        runs.resume(job)
    record = runs.end(job)
    assert record.state is JobState.COMPLETED, record.error
    assert kills >= 3 and record.attempts == kills + 1, phases
    assert runs.hashes("killed") == runs.hashes("quiet")
    sent = Counter(json.dumps(seen.body["messages"], sort_keys=True) for seen in server.requests)
    assert len(sent) == 45
    assert sum(times - 1 for times in sent.values()) <= 4 * kills  # what was in flight when it died


def test_a_cap_ends_the_build_and_a_higher_one_goes_on(runs, server):
    job = runs.start("capped", limits=Limits(calls=20))
    record = runs.end(job)
    assert record.state is JobState.FAILED
    assert "The cap of 20 calls is reached" in (record.error or "")
    assert "resume with a higher one" in (record.error or "")
    assert len(server.requests) == 20
    runs.resume(job, Limits(calls=100))
    assert runs.end(job).state is JobState.COMPLETED
    assert len(server.requests) == 45


def test_batches_annotate_at_half_price(runs, server, monkeypatch):
    monkeypatch.setenv("ESC_LLM_BATCH_POLL", "0.1")
    job = runs.start("batched", batches=True)
    record = runs.end(job)
    assert record.state is JobState.COMPLETED, record.error or job.log.read_text(encoding="utf-8")
    assert len(server.batches) == 1
    assert len(server.requests) == 5  # the pages alone; every dialogue came with the batch
