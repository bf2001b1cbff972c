"""From a composed corpus to a bank: counts, resumption after `kill -9`, cancelling, one build at a time."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from esc_skills.pipeline import jobs
from esc_skills.pipeline.annotations import AnnotationFile
from esc_skills.pipeline.annotator import NotAnnotated
from esc_skills.pipeline.build_plan import Limits, llm_settings, plan_build, resume_build, start_build
from esc_skills.pipeline.cli import build_app
from esc_skills.pipeline.clusters import ward
from esc_skills.pipeline.engine import LocalEngine
from esc_skills.pipeline.jobs import Job, JobRecord, JobState, cancel_job, run_here
from esc_skills.pipeline.llm.settings import LLMSettings
from esc_skills.pipeline.situations import choose, silhouette
from esc_skills.skills_bank.errors import InputError, JobError
from esc_skills.skills_bank.place import find_bank
from esc_skills.skills_bank.store import BankStore
from esc_skills.skills_bank.validate import problems_in_bank

from .composed import BROKEN, ComposedParts, write_corpus

PROCESS = Path(__file__).with_name("composed.py")
DIALOGUES = 40


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "composed.jsonl", DIALOGUES)


class Place:
    """Folders of one test's jobs and bank, and what is done there."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs, self.bank = root / "jobs", root / "bank"
        self._patch = monkeypatch

    def begin_with(self, skills: Path) -> "Place":
        """Make a small bank the first version: copying the shipped one is most of a small build's time."""
        BankStore(self.bank).init_from(skills)
        return self

    def run(self, job: Job, locks: list[jobs.Held], parts: ComposedParts | None = None) -> JobRecord:
        """Do the job's work here, with composed parts."""
        from esc_skills.pipeline.build import build_all
        from esc_skills.pipeline.build_plan import BuildPlan

        async def work(job: Job) -> dict:
            plan = BuildPlan.model_validate(job.read().plan)
            return (await build_all(plan, job, parts or ComposedParts())).model_dump(mode="json")

        self._patch.setattr(jobs, "_runner", lambda kind: work)
        return run_here(job, locks)

    def build(self, corpus: Path, parts: ComposedParts | None = None, **options) -> JobRecord:
        return self.run(*start_build(self.jobs, plan_build([corpus], bank_dir=self.bank, **options)), parts)

    def folder(self, record: JobRecord) -> Path:
        return self.jobs / record.id

    def versions(self) -> list[str]:
        """The hashes of the versions made by builds, newest first."""
        return [info.hash for info in find_bank(self.bank).store().history() if info.note.startswith("build-")]


@pytest.fixture
def place(tmp_path: Path, bank_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch).begin_with(bank_dir)


@pytest.fixture
def undisturbed(tmp_path: Path, corpus: Path, bank_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The hash of the bank that a build gives which nothing disturbs."""
    quiet = Place(tmp_path / "quiet", monkeypatch).begin_with(bank_dir)
    assert quiet.build(corpus).state is JobState.COMPLETED
    return quiet.versions()[0]


def test_raw_dialogues_become_a_strictly_valid_bank_and_a_report(tmp_path, monkeypatch, corpus):
    place = Place(tmp_path, monkeypatch)  # nothing there yet: the shipped bank comes first
    record = place.build(corpus)
    assert record.state is JobState.COMPLETED, record.error
    result = record.result or {}
    store = find_bank(place.bank).store()
    assert result["bank_version"] == store.active()
    assert problems_in_bank(store.active_folder(), strict=True) == []
    assert [info.parent for info in store.history()] == [store.history()[1].version, None]
    assert (result["dialogues"], result["failed_dialogues"]) == (DIALOGUES - 1, 1)
    assert result["skills"] == len(store.load().skills) >= 3
    note = store.history()[0].note
    assert note.startswith(f"{record.id}: 39 dialogues of composed.jsonl (sha256 ")
    assert "annotator composed@1" in note and "writer local-writer" in note
    report = Path(result["report"]).read_text(encoding="utf-8")
    assert f"- {BROKEN}: could not be read" in report
    assert "Right about every composed line." in report
    assert f"| skills | {result['skills']} | 27 |" in report
    assert str(place.bank) not in note and str(corpus) not in note


def test_the_evidence_counts_what_the_annotator_said(place, corpus):
    """Every unit of the evidence is one labelled supporter turn of the corpus."""
    place.build(corpus)
    store = find_bank(place.bank).store()
    counted = sum(evidence.n for evidence in store.load().evidence.values())
    turns = sum(
        turn["speaker"] == "supporter"
        for line in corpus.read_text(encoding="utf-8").splitlines()
        if (dialogue := json.loads(line))["id"] != BROKEN
        for turn in dialogue["dialog"]
    )
    assert 0.8 * turns < counted <= turns  # cells of fewer than five key units are left out
    assert all("composed.jsonl" in evidence.source for evidence in store.load().evidence.values())


def test_no_text_of_the_corpus_stays_in_the_jobs_folder(place, corpus):
    record = place.build(corpus)
    kept = [path for path in place.folder(record).rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} >= {".json", ".jsonl", ".md", ".npy"}
    for path in kept:
        assert b"I keep dreading" not in path.read_bytes(), path


def test_fewer_prototypes_than_skills_give_a_note_and_fewer_skills(place, corpus):
    record = place.build(corpus, skills=27)
    assert "27 skills were asked for, but the corpus gives only" in record.notes[0]
    assert record.notes[0] in Path((record.result or {})["report"]).read_text(encoding="utf-8")
    auto = place.build(corpus, skills="auto")
    assert (auto.result or {})["skills"] == (record.result or {})["skills"]
    assert auto.notes == (
        f"Version {place_version(place)} held exactly these skills already; no new version was made.",
    )


def place_version(place: Place) -> str:
    return find_bank(place.bank).store().active()


def test_a_number_of_skills_that_can_be_made_is_made(place, corpus):
    record = place.build(corpus, skills=5)
    assert (record.result or {})["skills"] + (record.result or {})["left_out"] == 5


def test_a_corpus_too_small_for_any_prototype_says_so(place, tmp_path):
    record = place.build(write_corpus(tmp_path / "tiny.jsonl", 2, turns=2))
    assert record.state is JobState.FAILED
    assert "no pair of state and action has 5" in (record.error or "")
    assert place.versions() == []


def test_a_corpus_that_mostly_fails_gives_no_bank_and_is_tried_again(place, corpus):
    class Moody(ComposedParts):
        def __init__(self, broken: set[str]) -> None:
            super().__init__()
            one = self.annotator.one
            self.annotator.one = lambda dialogue: (
                NotAnnotated(dialogue=dialogue.id, reason="the server is gone")
                if dialogue.id in broken
                else one(dialogue)
            )

    broken = {f"composed-{number:04d}" for number in range(25)}
    record = place.build(corpus, Moody(broken))
    assert record.state is JobState.FAILED
    assert "25 of 40 dialogues could not be annotated: the server is gone (25x)" in (record.error or "")
    parts = Moody(set())
    resumed = place.run(*resume_build(Job(place.folder(record))), parts)
    assert resumed.state is JobState.COMPLETED and resumed.attempts == 2
    assert set(parts.annotator.seen) == broken


@pytest.mark.slow
def test_stopped_at_random_pieces_of_work_and_resumed_gives_the_same_bank(place, bank_dir, corpus, undisturbed):
    chance = random.Random(11)
    for _ in range(6):
        fresh = Place(place.jobs.parent / f"run-{chance.random()}", place._patch).begin_with(bank_dir)
        job, locks = start_build(fresh.jobs, plan_build([corpus], bank_dir=fresh.bank))
        record = None
        for _ in range(20):
            record = fresh.run(job, locks, Dying(chance.randint(1, 40)))
            if record.state is JobState.COMPLETED:
                break
            assert "killed" in (record.error or "")
            job, locks = resume_build(Job(job.folder))
        assert record is not None and record.state is JobState.COMPLETED
        assert fresh.versions() == [undisturbed]


class Dying(ComposedParts):
    """Parts that die at the `last`-th piece of work."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.left = last
        one, embed = self.annotator.one, self.encoder.embed
        self.annotator.one = lambda dialogue: self.count() or one(dialogue)
        self.encoder.embed = lambda texts: self.count() or embed(texts)

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise JobError("killed")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_kill_9_at_random_moments_and_resume_gives_the_same_bank(place, corpus, undisturbed, seed):
    chance = random.Random(seed)
    job, locks = start_build(place.jobs, plan_build([corpus], bank_dir=place.bank))
    left = 5
    while True:
        process = process_of(job, locks, slow=0.05 if left else 0.0)
        while left and job.look().phase == "starting":
            time.sleep(0.01)
        try:  # killed after a while that grows, so that later phases are met, too
            process.wait(chance.uniform(0.0, 0.6) * (6 - left) if left else 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if job.look().state is JobState.COMPLETED:
            break
        left -= 1
        job, locks = resume_build(Job(job.folder))
    assert left <= 2, "it was killed less than three times"
    assert place.versions() == [undisturbed]


def process_of(job: Job, locks: list[jobs.Held], slow: float) -> "subprocess.Popen[bytes]":
    numbers = [held.descriptor for held in locks]
    env = os.environ | {"ESC_JOB_LOCKS": ",".join(map(str, numbers)), "ESC_TEST_SLOW": str(slow)}
    process = subprocess.Popen([sys.executable, str(PROCESS), str(job.folder)], env=env, pass_fds=numbers)
    for held in locks:
        held.close()
    return process


def test_a_death_between_commit_and_completion_commits_once(place, corpus, undisturbed, monkeypatch):
    from esc_skills.pipeline import build

    def die(*_):
        raise JobError("killed after the commit")

    monkeypatch.setattr(build, "render", die)
    record = place.build(corpus)
    assert record.state is JobState.FAILED
    assert place.versions() == [undisturbed]
    monkeypatch.undo()
    resumed = Place(place.jobs.parent, monkeypatch).run(*resume_build(Job(place.folder(record))))
    assert resumed.state is JobState.COMPLETED
    assert place.versions() == [undisturbed]
    assert (resumed.result or {})["bank_version"] == place_version(place)


def test_a_rollback_after_the_death_is_not_undone_by_the_resume(place, corpus, monkeypatch):
    from esc_skills.pipeline import build

    monkeypatch.setattr(build, "render", lambda *_: (_ for _ in ()).throw(JobError("killed")))
    record = place.build(corpus)
    monkeypatch.undo()
    store = find_bank(place.bank).store()
    first = store.history()[-1].version
    store.rollback(first)
    resumed = Place(place.jobs.parent, monkeypatch).run(*resume_build(Job(place.folder(record))))
    assert resumed.state is JobState.COMPLETED
    assert store.active() == first
    assert len(place.versions()) == 1


@pytest.mark.slow
def test_a_second_build_of_the_bank_is_refused_and_names_the_first(place, corpus, tmp_path):
    plan = plan_build([corpus], bank_dir=place.bank)
    job, locks = start_build(place.jobs, plan)
    with pytest.raises(JobError, match=f"Job {job.id} is building the bank"):
        start_build(place.jobs, plan)
    other, more = start_build(place.jobs, plan_build([corpus], bank_dir=tmp_path / "other-bank"))
    with pytest.raises(JobError, match=f"Job {other.id} is running"):
        resume_build(other)
    for held in (*locks, *more):
        held.close()
    assert place.run(*resume_build(job)).state is JobState.COMPLETED
    with pytest.raises(JobError, match="has completed"):
        resume_build(job)


def test_a_cancelled_build_leaves_the_bank_alone_and_can_go_on(place, corpus, undisturbed):
    class Stopping(ComposedParts):
        def __init__(self, folder: Path) -> None:
            super().__init__(slow=0.03)
            one = self.annotator.one
            self.annotator.one = lambda d: (
                (Job(folder).ask_to_stop() if len(self.annotator.seen) == 9 else None) or one(d)
            )

    job, locks = start_build(place.jobs, plan_build([corpus], bank_dir=place.bank))
    record = place.run(job, locks, Stopping(job.folder))
    assert record.state is JobState.CANCELLED
    assert cancel_job(job).state is JobState.CANCELLED
    assert place.versions() == []
    parts = ComposedParts()
    assert place.run(*resume_build(job), parts).state is JobState.COMPLETED
    assert 0 < len(parts.annotator.seen) < DIALOGUES - 9 + 1
    assert place.versions() == [undisturbed]


def test_another_corpus_under_the_same_name_is_not_taken_for_the_first(place, corpus):
    job, locks = start_build(place.jobs, plan_build([corpus], bank_dir=place.bank))
    for held in locks:
        held.close()
    corpus.write_text(corpus.read_text(encoding="utf-8").replace("useless", "futile"), encoding="utf-8")
    with pytest.raises(InputError, match="has changed since the build began"):
        resume_build(job)


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corpus": []}, "No corpus given"),
        ({"corpus": ["nowhere.jsonl"]}, "No corpus at .*nowhere.jsonl"),
        ({"batches": True}, "Batches are for the annotator 'llm'"),
        ({"annotator": "llm"}, "No key: set ANTHROPIC_API_KEY"),
    ],
)
def test_what_cannot_be_built_is_refused_at_once(given, message, corpus, place, monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ESC_LLM_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    paths = [Path(name) for name in given.pop("corpus", [str(corpus)])]
    with pytest.raises(InputError, match=message):
        plan_build(paths, bank_dir=place.bank, **given)


def test_a_plain_folder_of_skills_is_not_overwritten(corpus, bank_dir):
    with pytest.raises(InputError, match="plain folder"):
        plan_build([corpus], bank_dir=bank_dir)


def test_models_stand_in_the_plan_and_the_lower_cap_counts(corpus, place, monkeypatch):
    monkeypatch.setenv("ESC_LLM_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ESC_MODEL_ANNOTATOR", "first-model")
    monkeypatch.setenv("ESC_LLM_CAP_USD", "2")
    monkeypatch.setenv("ESC_LLM_CAP_CALLS", "50")
    plan = plan_build([corpus], bank_dir=place.bank, annotator="llm", limits=Limits(usd=5, calls=10, tokens=99))
    monkeypatch.setenv("ESC_MODEL_ANNOTATOR", "another-model")
    settings = llm_settings(plan, LLMSettings())
    assert settings.model_annotator == "first-model"
    assert (settings.llm_cap_usd, settings.llm_cap_calls, settings.llm_cap_tokens) == (2, 10, 99)


# --- parts ------------------------------------------------------------------------------------------------------------


def test_a_torn_line_is_dropped_and_written_anew(tmp_path):
    path = tmp_path / "annotations.jsonl"
    with AnnotationFile(path) as kept:
        for name in "abc":
            kept.add(NotAnnotated(dialogue=name, reason="no"))
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, whole.rindex(b"\n", 0, -1), -1):
        path.write_bytes(whole[:cut])
        with AnnotationFile(path) as kept:
            assert set(kept.failed) == {"a", "b"}
            kept.add(NotAnnotated(dialogue="c", reason="no"))
        assert path.read_bytes() == whole


def test_what_follows_a_broken_line_is_done_again(tmp_path):
    path = tmp_path / "annotations.jsonl"
    with AnnotationFile(path) as kept:
        kept.add(NotAnnotated(dialogue="a", reason="no"))
    with path.open("ab") as file:
        file.write(b"\0\0\0\0\n" + path.read_bytes().replace(b'"a"', b'"b"'))
    with AnnotationFile(path) as kept:
        assert set(kept.failed) == {"a"}


async def test_the_local_engine_closes_the_annotator_when_nobody_listens_any_more():
    from esc_skills.pipeline.annotator import stream
    from esc_skills.pipeline.corpus import Dialogue, Utterance

    parts, closed = ComposedParts(), []
    annotate = parts.annotator.annotate

    async def watched(dialogues):
        try:
            async for annotation in annotate(dialogues):
                yield annotation
        finally:
            closed.append(True)

    parts.annotator.annotate = watched
    said = (Utterance(speaker="seeker", content="Tell me, how do I get through Friday?"),)
    talks = [Dialogue(id=str(i), source="other", split="x", utterances=said) for i in range(3)]
    annotations = LocalEngine().annotate(parts.recipe, stream(talks))
    await anext(annotations)
    await annotations.aclose()
    assert closed == [True]


def blobs(groups: int, each: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, 8)) * 20
    return np.concatenate([centre + rng.normal(size=(each, 8)) for centre in centres])


def test_the_silhouette_is_that_of_sklearn():
    metrics = pytest.importorskip("sklearn.metrics")
    points = blobs(4, 6)
    groups = np.array([0] * 7 + [1] * 5 + [2] * 11 + [3])
    assert silhouette(points, groups) == pytest.approx(metrics.silhouette_score(points, groups))


@pytest.mark.parametrize("groups", [3, 5, 9])
def test_auto_finds_the_number_that_is_there(groups):
    assert choose(blobs(groups, 6), "auto").n == groups


def test_no_situation_grows_beyond_the_ceiling():
    n, note = choose(blobs(1, 40), 2)
    assert 3 <= n <= 5  # forty prototypes, at most fourteen each
    assert note == f"2 skills were asked for; 40 prototypes, at most 14 a skill, need {n}."
    assert max(np.bincount(ward(blobs(1, 40), n))) <= 14


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_prototypes_is_one_situation(count):
    assert choose(blobs(1, count), "auto").n == 1
    assert choose(blobs(1, count), count).n == count


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, place):
    monkeypatch.setenv("ESC_JOBS_DIR", str(place.jobs))
    monkeypatch.setenv("ESC_BANK_DIR", str(place.bank))
    monkeypatch.setattr(jobs, "RUNNERS", {"build": f"{__package__}.composed:run" if __package__ else "composed:run"})
    monkeypatch.setattr("esc_skills.pipeline.cli_build_all.go_gently", lambda: None)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(build_app, list(arguments))


@pytest.fixture
def composed_runner(monkeypatch):
    from . import composed

    monkeypatch.setattr(jobs, "import_module", lambda name: composed)


def test_the_commands_build_list_and_tell(command, composed_runner, place, corpus):
    built = command("all", "--corpus", str(corpus), "--skills", "auto")
    assert built.exit_code == 0, built.output
    assert built.stdout.strip() == place_version(place)
    listed = json.loads(command("jobs", "--json").stdout)
    assert [(job["state"], job["kind"]) for job in listed] == [("completed", "build")]
    told = command("status", listed[0]["id"])
    assert told.exit_code == 0 and place_version(place) in told.stdout
    assert command("cancel", listed[0]["id"]).stdout.startswith("completed")
    again = command("all", "--resume", listed[0]["id"])
    assert isinstance(again.exception, JobError) and "has completed" in str(again.exception)


def test_a_dry_run_says_what_would_be_done_and_starts_nothing(command, place, corpus):
    told = command("all", "--corpus", str(corpus), "--dry-run")
    assert told.exit_code == 0
    assert "40 dialogues of composed.jsonl" in told.stdout
    assert "no call to a language model" in told.stdout
    assert not place.jobs.exists()


def test_a_dry_run_with_models_tells_calls_and_cost(command, place, corpus, monkeypatch):
    monkeypatch.setenv("ESC_LLM_BASE_URL", "http://127.0.0.1:9")
    for role in ("ANNOTATOR", "WRITER"):
        monkeypatch.setenv(f"ESC_MODEL_{role}", "some-model")
    told = command(
        "all", "--corpus", str(corpus), "--annotator", "llm", "--writer", "llm", "--dry-run", "--max-calls", "9"
    )
    assert told.exit_code == 0, told.output
    assert "some-model): 40 calls, 0 of them known" in told.stdout
    assert "81 calls" in told.stdout  # 27 skills, a draft and two repairs each
    assert "may reach the cap of calls: up to 121, cap 9" in told.stdout
    assert not place.jobs.exists()


@pytest.mark.parametrize("skills", ["0", "many", "-3"])
def test_a_senseless_number_of_skills_is_refused(command, corpus, skills):
    refused = command("all", "--corpus", str(corpus), "--skills", skills)
    assert isinstance(refused.exception, InputError)
