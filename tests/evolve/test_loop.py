"""A whole evolution with scripted parts: what is tried, what stays, what is read, and that nothing is done twice."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from esc_skills.evolve import loop
from esc_skills.evolve.faults import UNSAFE_LINE, Fault, FaultKind, plant
from esc_skills.evolve.plan import KIND, EvolveCaps, EvolvePlan, resume_evolution, start_evolution
from esc_skills.evolve.record import EvolveRun
from esc_skills.pipeline import jobs
from esc_skills.pipeline.jobs import Held, Job, JobRecord, JobState, cancel_job, run_here
from esc_skills.skills_bank.errors import BankError, BudgetError
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.store import BankStore
from esc_skills.skills_bank.validate import problems_in_bank

from ..conftest import SKILL
from .scripted_evolution import DREAD, EXAMS, MOVES, ScriptedParts, scripted_plan, work, write_profiles

PROCESS = Path(__file__).with_name("scripted_evolution.py")
CHANGING = {"job.json", "timing.json", "progress.json", "report.html", "log.txt", ".lock", "cancel"}
"""What holds times, or says how far a run is; all else in a job's folder is the same however it was disturbed."""
REFINE_DREAD, REFINE_EXAMS, REFINE_MOVES = (f"refine-{name}" for name in (DREAD, EXAMS, MOVES))


def write_bank(folder: Path) -> Path:
    """The bank of the fixture `bank_dir`, for what lives longer than a test."""
    for name, topic in ((DREAD, "the talk"), (EXAMS, "the exam"), (MOVES, "the move")):
        (folder / name).mkdir(parents=True)
        about = f"Calms a seeker who is afraid of {topic}. Use when the worry about {topic} circles."
        text = SKILL.format(name=name, topic=topic, description=about)
        (folder / name / "SKILL.md").write_text(text, encoding="utf-8")
    return folder


class Place:
    """One test's jobs and bank, and evolutions of it."""

    def __init__(self, root: Path, skills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.jobs, self.bank = root / "jobs", root / "bank"
        self.profiles = write_profiles(root / "made.jsonl")
        self._patch = monkeypatch
        BankStore(self.bank).init_from(skills)

    def plan(self, **options) -> EvolvePlan:
        return scripted_plan(self.profiles, self.bank, **options)

    def run(self, job: Job, locks: Sequence[Held], parts: ScriptedParts) -> JobRecord:
        async def runner(job: Job) -> dict:
            return (await work(job, parts)).model_dump(mode="json")

        self._patch.setattr(jobs, "_runner", lambda kind: runner)
        return run_here(job, locks)

    def evolve(self, *, never: Sequence[str] = (), **options) -> tuple[JobRecord, EvolveRun, ScriptedParts]:
        plan = self.plan(**options)
        job, locks = start_evolution(self.jobs, plan)
        parts = ScriptedParts(plan, never)
        record = self.run(job, locks, parts)
        assert record.state is JobState.COMPLETED, record.error
        return record, EvolveRun(job.folder), parts


@pytest.fixture
def place(tmp_path: Path, bank_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path / "place", bank_dir, monkeypatch)


Finished = tuple[JobRecord, EvolveRun, ScriptedParts]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """An evolution that nothing disturbed; to be looked at only."""
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        return Place(root, write_bank(root / "skills"), patch).evolve()


def rulings(run: EvolveRun) -> dict[str, str]:
    return {one.id: one.verdict.ruling for one in run.all_attempts() if one.verdict}


@pytest.mark.slow
def test_what_helps_is_kept_and_everything_else_has_its_reason(finished: Finished):
    record, run, _ = finished
    found = rulings(run)
    assert found[f"{REFINE_DREAD}.1"] == "indecisive"  # byte-identical
    assert found[f"{REFINE_DREAD}.2"] != "accept" and found[f"{REFINE_DREAD}.3"] == "accept"
    assert found[f"{REFINE_EXAMS}.1"] == "accept"
    assert [found[f"{REFINE_MOVES}.{n}"] for n in (1, 2, 3)] == ["indecisive"] * 3
    joint = run.joint()
    assert joint is not None and joint.kept == (f"{REFINE_DREAD}.3", f"{REFINE_EXAMS}.1") and not joint.dropped
    assert all(one.verdict and one.verdict.reason for one in run.all_attempts())
    result = record.result or {}
    assert result["kept"] == list(joint.kept) and result["bank_version"] is None
    counted = Counter(found.values())
    assert result["verdicts"] == dict(counted) and result["attempts"] == counted.total() == 9


@pytest.mark.slow
def test_a_text_that_is_screened_out_is_never_simulated(finished: Finished):
    _, run, _ = finished
    (created,) = [one for one in run.proposals() or () if one.skill is None]
    first, second = run.attempts(created.id)
    assert first.screened == ("It tells to keep a secret.",)
    assert first.verdict and first.verdict.vetoes[0].rule == "screen" and first.verdict.effect is None
    assert not (run.attempt_folder(created.id, 1) / "bank").exists()
    assert second.candidate is None and second.verdict and second.verdict.reason == "Nothing is left to be changed."


@pytest.mark.slow
def test_the_next_attempt_is_told_what_became_of_the_last(finished: Finished):
    _, run, parts = finished
    briefs = [brief for brief in parts.briefs if brief.proposal.skill == DREAD]
    assert [brief.attempt for brief in briefs] == [1, 2, 3]
    assert briefs[0].feedback is None and briefs[0].last is None
    for brief, before in zip(briefs[1:], run.attempts(REFINE_DREAD), strict=False):
        assert brief.feedback is not None and brief.last == before.candidate
        assert before.verdict is not None and brief.feedback.reason == before.verdict.reason
    assert briefs[2].feedback is not None and briefs[2].feedback.worse_profiles


@pytest.mark.slow
def test_each_part_of_the_profiles_is_used_for_its_own_step_alone(finished: Finished):
    _, run, parts = finished
    split, sealed = run.split(), run.sealed()
    assert split is not None and sealed is not None and sealed.effect is not None
    assert set(parts.reader.seen) == set(split.propose)
    for one in run.all_attempts():
        assert {pair.profile for pair in one.verdict.pairs if one.verdict} <= set(split.verify)
    seen = [talk.profile in set(split.sealed) for talk in parts.held]
    first = seen.index(True)
    assert all(seen[first:]) and not any(seen[:first])  # the sealed part last, and nothing after it
    assert sealed.split == split.hashes()["sealed"] and sealed.effect.profiles == len(split.sealed)
    assert sealed.effect.difference.value > 0


@pytest.mark.slow
def test_propose_only_leaves_the_bank_as_it_was(finished: Finished):
    record, run, parts = finished
    (only,) = BankStore(parts.plan.bank.root).history()
    assert only.version == parts.plan.bank.version
    assert problems_in_bank(run.folder / "bank") == []
    assert "esc-skills bank commit" in " ".join(record.notes)


@pytest.mark.slow
def test_apply_makes_one_new_version(place: Place):
    parent = BankStore(place.bank).active()
    record, run, _ = place.evolve(apply=True)
    newest, before = BankStore(place.bank).history()
    assert newest.active and newest.parent == before.version == parent
    assert newest.note.startswith(f"{record.id}: 2 accepted of 9 attempts")
    outcome = run.outcome()
    assert outcome is not None and outcome.version == newest.version == (record.result or {})["bank_version"]
    assert outcome.hash == newest.hash and outcome.parent == parent


@pytest.mark.slow
def test_a_bank_that_moved_on_is_left_alone_and_the_result_is_kept(place: Place, bank_dir: Path):
    class Meddling(ScriptedParts):
        def screen(self, candidate, bank):
            text = (bank_dir / MOVES / "SKILL.md").read_text(encoding="utf-8")
            files = {name: {"SKILL.md": (bank_dir / name / "SKILL.md").read_bytes()} for name in (DREAD, EXAMS)}
            BankStore(place.bank).commit(files, reason="by hand")
            assert text
            return super().screen(candidate, bank)

    plan = place.plan(apply=True)
    job, locks = start_evolution(place.jobs, plan)
    record = place.run(job, locks, Meddling(plan))
    assert record.state is JobState.COMPLETED, record.error
    assert BankStore(place.bank).history()[0].note == "by hand"
    assert "Not committed: the bank moved on from" in " ".join(record.notes)
    assert (job.folder / "bank" / DREAD).is_dir()


@pytest.mark.slow
def test_nothing_accepted_leaves_the_sealed_part_sealed(place: Place):
    record, run, parts = place.evolve(apply=True, never=[DREAD, MOVES], caps=EvolveCaps(candidates=1))
    split, sealed = run.split(), run.sealed()
    assert split is not None and sealed is not None and sealed.effect is None
    assert not {talk.profile for talk in parts.held} & set(split.sealed)
    assert not (run.folder / "sealed.mark").exists() and not (run.folder / "bank").exists()
    assert (record.result or {})["bank_version"] is None and len(BankStore(place.bank).history()) == 1


# --- together -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_fails_together_goes_weakest_first(place: Place):
    _, run, _ = place.evolve(never=[DREAD, EXAMS])
    joint = run.joint()
    assert joint is not None
    first, second = joint.rounds
    assert first.candidates == (f"{REFINE_DREAD}.3", f"{REFINE_EXAMS}.1")
    gains = {
        one.id: one.verdict.effect.difference.value for one in run.all_attempts() if one.verdict and one.verdict.effect
    }
    weakest = min(first.candidates, key=lambda id: gains[id])
    assert first.dropped == weakest and "do not go together" in first.reason
    assert second.dropped is None and joint.kept == tuple(id for id in first.candidates if id != weakest)
    assert joint.dropped == {weakest: first.reason}
    assert {pair.profile for pair in first.verdict.pairs if first.verdict} == set(run.split().verify)


@pytest.mark.slow
def test_no_seed_serves_two_steps(finished: Finished):
    _, run, _ = finished
    seeds = [json.loads(path.read_bytes())["seed"] for path in run.folder.glob("trials/*/run.json")]
    banks = [json.loads(path.read_bytes())["bank_hash"] for path in run.folder.glob("trials/*/run.json")]
    by_seed: dict[int, set[str]] = {}
    for seed, bank in zip(seeds, banks, strict=True):
        by_seed.setdefault(seed, set()).add(bank)
    assert all(len(hashes) <= 2 for hashes in by_seed.values())  # the parent and one other


# --- caps -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("caps", "said"),
    [
        (EvolveCaps(candidates=2), "2 candidates, cap 2"),
        (EvolveCaps(seconds=1e-6), "of wall time, cap 1e-06 s"),
    ],
)
def test_a_cap_ends_proposing_and_what_is_accepted_is_settled(place: Place, caps: EvolveCaps, said: str):
    record, run, _ = place.evolve(caps=caps)
    end = run.end()
    assert end is not None and end.cap is not None and said in end.cap
    assert any("ended at a cap" in note for note in record.notes)
    assert run.outcome() is not None and run.joint() is not None and (run.folder / "report.html").is_file()


@pytest.mark.slow
def test_proposals_in_a_row_without_success_end_proposing(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("esc_skills.evolve.loop.ATTEMPTS", 1)  # the first attempt at dread is no good
    _, run, _ = place.evolve(caps=EvolveCaps(stall=1))
    end = run.end()
    assert end is not None and end.tried == 1 and "1 proposals in a row" in (end.cap or "")


@pytest.mark.slow
def test_a_budget_that_is_spent_on_texts_ends_proposing(place: Place):
    class Poor(ScriptedParts):
        def generator(self):
            if len(self.briefs) >= 3:
                raise BudgetError("The cap of 3 calls is reached.")
            return super().generator()

    plan = place.plan()
    job, locks = start_evolution(place.jobs, plan)
    record = place.run(job, locks, Poor(plan))
    assert record.state is JobState.COMPLETED, record.error
    run = EvolveRun(job.folder)
    assert run.end().cap == "The cap of 3 calls is reached."
    assert run.joint().kept == (f"{REFINE_DREAD}.3",)


# --- disturbances ---------------------------------------------------------------------------------------------------


class Dying(ScriptedParts):
    """Parts that die at the `last`-th talk or text."""

    def __init__(self, plan: EvolvePlan, last: int) -> None:
        super().__init__(plan)
        self.left = last

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise BankError("killed")

    def arena(self, folder, watch):
        talk = watch.talk

        def told(transcript):
            self.count()
            talk(transcript)

        watch.talk = told
        return super().arena(folder, watch)

    def screen(self, candidate, bank):
        self.count()
        return super().screen(candidate, bank)


def result_files(folder: Path) -> dict[str, bytes]:
    """Everything that a run leaves but what holds a time."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in CHANGING
    }


@pytest.fixture
def undisturbed(tmp_path: Path, bank_dir: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What an evolution leaves that nothing disturbs."""
    quiet = Place(tmp_path / "quiet", bank_dir, monkeypatch)
    _, run, _ = quiet.evolve(apply=True)
    return result_files(run.folder)


@pytest.mark.slow
def test_stopped_at_random_pieces_of_work_and_resumed_leaves_the_same(place: Place, undisturbed: dict[str, bytes]):
    chance = random.Random(3)
    plan = place.plan(apply=True)
    job, locks = start_evolution(place.jobs, plan)
    for _ in range(60):
        record = place.run(job, locks, Dying(plan, chance.randint(20, 160)))
        if record.state is JobState.COMPLETED:
            break
        assert "killed" in (record.error or "")
        job, locks = resume_evolution(Job(job.folder))
    assert record.state is JobState.COMPLETED and record.attempts > 3
    assert result_files(job.folder) == undisturbed
    assert len(BankStore(place.bank).history()) == 2


@pytest.mark.slow
def test_a_resumed_run_asks_no_generator_twice(place: Place):
    plan = place.plan()
    job, locks = start_evolution(place.jobs, plan)
    first = Dying(plan, 250)
    assert place.run(job, locks, first).state is JobState.FAILED
    job, locks = resume_evolution(Job(job.folder))
    second = ScriptedParts(plan)
    assert place.run(job, locks, second).state is JobState.COMPLETED
    asked = [(brief.proposal.id, brief.attempt) for brief in (*first.briefs, *second.briefs)]
    assert first.briefs and len(set(asked)) == len(asked)


@pytest.mark.slow
def test_killed_between_commit_and_record_it_commits_once(place: Place, monkeypatch: pytest.MonkeyPatch):
    write = EvolveRun.write

    def dying(self: EvolveRun, name: str, value) -> None:
        if name == "outcome.json":
            raise BankError("killed")
        write(self, name, value)

    plan = place.plan(apply=True)
    job, locks = start_evolution(place.jobs, plan)
    monkeypatch.setattr(EvolveRun, "write", dying)
    assert place.run(job, locks, ScriptedParts(plan)).state is JobState.FAILED
    monkeypatch.setattr(EvolveRun, "write", write)
    assert len(BankStore(place.bank).history()) == 2
    job, locks = resume_evolution(Job(job.folder))
    record = place.run(job, locks, ScriptedParts(plan))
    assert record.state is JobState.COMPLETED and len(BankStore(place.bank).history()) == 2
    assert (record.result or {})["bank_version"] == BankStore(place.bank).active()


@pytest.mark.slow
def test_the_sealed_part_is_not_read_for_another_result(place: Place):
    _, run, _ = place.evolve()
    (run.folder / "sealed.mark").write_text("another result\n", encoding="utf-8")
    (run.folder / "sealed.json").unlink()
    job = Job(run.folder)
    job.write(state=JobState.FAILED)
    job, locks = resume_evolution(job)
    record = place.run(job, locks, ScriptedParts(place.plan()))
    assert record.state is JobState.FAILED and "cannot be read twice" in (record.error or "")


@pytest.mark.slow
def test_cancelled_keeps_what_is_decided_and_goes_on(place: Place):
    class Cancelling(ScriptedParts):
        def screen(self, candidate, bank):
            if candidate.proposal == REFINE_EXAMS:
                Job(job.folder).ask_to_stop()
                time.sleep(0.6)
            return super().screen(candidate, bank)

    plan = place.plan(apply=True)
    job, locks = start_evolution(place.jobs, plan)
    record = place.run(job, locks, Cancelling(plan))
    assert record.state is JobState.CANCELLED
    run = EvolveRun(job.folder)
    assert rulings(run)[f"{REFINE_DREAD}.3"] == "accept" and run.joint() is None
    assert len(BankStore(place.bank).history()) == 1
    job, locks = resume_evolution(job)
    parts = ScriptedParts(plan)
    assert place.run(job, locks, parts).state is JobState.COMPLETED
    assert all(brief.proposal.skill != DREAD for brief in parts.briefs)
    assert len(BankStore(place.bank).history()) == 2


# --- processes ------------------------------------------------------------------------------------------------------


def process_of(job: Job, locks: Sequence[Held], slow: float) -> subprocess.Popen:
    """Start the job in a process of its own, with the locks handed over, as `jobs.spawn` does."""
    import os

    numbers = [held.descriptor for held in locks]
    env = os.environ | {"ESC_JOB_LOCKS": ",".join(map(str, numbers)), "ESC_TEST_SLOW": str(slow)}
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(PROCESS), str(job.folder)], stdout=log, stderr=log, pass_fds=numbers, env=env
        )
    for held in locks:
        held.close()
    return process


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_at_random_moments_and_resume_leaves_the_same(place: Place, undisturbed: dict[str, bytes]):
    chance = random.Random(5)
    job, locks = start_evolution(place.jobs, place.plan(apply=True))
    phases = []
    for left in range(8, -1, -1):
        process = process_of(job, locks, slow=0.002 if left else 0.0)
        while left and job.look().phase == "starting":
            time.sleep(0.01)
        try:
            process.wait(chance.uniform(0.2, 2.5) if left else 200)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        record = job.look()
        phases.append(record.phase)
        if record.state is JobState.COMPLETED:
            break
        assert record.state is JobState.FAILED and "without a word" in (record.error or ""), record.error
        job, locks = resume_evolution(Job(job.folder))
    assert record.state is JobState.COMPLETED, record.error
    assert len(set(phases)) > 2, phases
    assert result_files(job.folder) == undisturbed
    assert len(BankStore(place.bank).history()) == 2


@pytest.mark.slow
def test_a_running_process_is_cancelled(place: Place):
    job, locks = start_evolution(place.jobs, place.plan(apply=True))
    process = process_of(job, locks, slow=0.01)
    deadline = time.monotonic() + 30
    while not job.look().phase.startswith("simulating") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cancel_job(job).state is JobState.CANCELLED
    assert process.wait(10) == 1
    assert len(BankStore(place.bank).history()) == 1


def test_the_runner_is_named():
    assert jobs._runner(KIND) is loop.run


# --- for real, small ------------------------------------------------------------------------------------------------

TINY = ("--profiles", "evolution", "--n", "30", "--repeats", "1", "--cap-candidates", "1", "--seed", "11")


OPENING = "opening-and-getting-the-story"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "esc_skills.server", "evolve", *arguments]


def evolve_killed(jobs_dir: Path, moments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the tiny evolution, killed shortly after each phase begins and taken up again; return the job's folder."""
    monkeypatch.setenv("ESC_JOBS_DIR", str(jobs_dir))
    chance = random.Random(1)
    arguments = TINY
    for moment in (*moments, None):
        process = subprocess.Popen(command("run", *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while moment is not None and process.poll() is None:
            found = list(jobs_dir.glob("evolve-*/job.json"))
            if found and Job(found[0].parent).read().phase.startswith(moment):
                time.sleep(chance.uniform(0, 0.5))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        process.wait(400)
        (folder,) = jobs_dir.glob("evolve-*")
        arguments = ("--resume", folder.name)
    record = Job(folder).look()
    assert record.state is JobState.COMPLETED, record.error
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_tiny_local_evolution_killed_and_resumed_leaves_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The shipped bank, encoder, seekers, analyzer, editor, strategy and guards; killed at five moments."""
    monkeypatch.setenv("ESC_SHARED_DIR", str(tmp_path / "nowhere"))  # reading the real dialogues takes a minute
    plant(shipped_bank(), [Fault(kind=FaultKind.UNSAFE, skill=OPENING)], tmp_path / "bank")
    monkeypatch.setenv("ESC_BANK_DIR", str(tmp_path / "bank"))
    moments = ("simulating", "analyzing", "noise floor", "generating", "verifying")
    folders = {
        kind: evolve_killed(tmp_path / kind, kill_at, monkeypatch) for kind, kill_at in (("a", ()), ("b", moments))
    }
    assert Job(folders["b"]).read().attempts > 3  # a short phase may be over before it is seen
    assert result_files(folders["b"]) == result_files(folders["a"])
    run = EvolveRun(folders["a"])
    first = (run.proposals() or ())[0]
    assert first.skill == OPENING and first.findings[0].kind == "unsafe"
    (only,) = run.all_attempts()
    assert only.candidate is not None and UNSAFE_LINE not in only.candidate.files["SKILL.md"]
    assert UNSAFE_LINE in only.diff
    assert only.verdict is not None and {check.name for check in only.verdict.checks} >= {"screen", "stratum", "risk"}
