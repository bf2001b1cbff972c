"""What a run leaves is read back as it was written, whole or half-way."""

from pathlib import Path

import pytest

from esc_skills.evolve.models import Candidate, Verdict
from esc_skills.evolve.record import EvolveProgress, EvolveRun, Outcome, find_evolution
from esc_skills.pipeline.jobs import create_job
from esc_skills.pipeline.llm.journal import Journal, Line, Reply
from esc_skills.pipeline.llm.tokens import Tokens
from esc_skills.skills_bank.errors import InputError, JobError


@pytest.fixture
def run(tmp_path: Path) -> EvolveRun:
    job, held = create_job(tmp_path, "evolve", {}, "evolve-20260101-000000-aaaaaa")
    held.close()
    return EvolveRun(job.folder)


def candidate(number: int) -> Candidate:
    return Candidate(
        id=f"refine-x.{number}",
        proposal="refine-x",
        attempt=number,
        skill="x",
        replaces="x",
        files={"SKILL.md": "text \u2026"},
        what="w",
        generator="g",
    )


def verdict(number: int, **more) -> Verdict:
    return Verdict.model_validate(
        {"candidate": f"refine-x.{number}", "ruling": "reject", "reason": "r", "strategy": "paired"} | more
    )


def test_what_a_run_has_not_come_to_is_empty(run: EvolveRun):
    assert run.split() is run.baseline() is run.findings() is run.floor() is run.joint() is run.sealed() is None
    assert run.all_attempts() == run.rounds() == run.spending() == ()
    assert run.progress() == EvolveProgress() and run.times() == {} and list(run.baseline_talks()) == []


def test_what_is_written_is_read_back(run: EvolveRun):
    outcome = Outcome(parent="v1", parent_hash="h", kept=("refine-x.1",), told="Nothing.")
    run.write("outcome.json", outcome)
    assert run.outcome() == outcome
    assert not list(run.folder.glob(".*.tmp"))


def test_attempts_come_in_order_of_number_with_all_their_files(run: EvolveRun):
    for number in (1, 2, 10):
        home = f"candidates/refine-x/{number}"
        run.write(f"{home}/candidate.json", candidate(number))
        run.write_text(f"{home}/diff.txt", f"+{number}")
        run.write(f"{home}/screened.json", ("unsafe",) if number == 2 else ())
    run.write("candidates/refine-x/1/verdict.json", verdict(1))
    first, second, third = run.attempts("refine-x")
    assert [first.number, second.number, third.number] == [1, 2, 10]
    assert first.candidate == candidate(1) and first.verdict == verdict(1) and first.diff == "+1"
    assert second.screened == ("unsafe",) and second.verdict is None
    assert run.attempts("refine-y") == ()


def test_a_proposal_without_text_is_an_attempt_too(run: EvolveRun):
    run.write("candidates/refine-x/1/verdict.json", verdict(1, reason="no text"))
    (only,) = run.attempts("refine-x")
    assert only.candidate is None and only.verdict is not None and only.verdict.reason == "no text"


def test_a_broken_file_is_named(run: EvolveRun):
    (run.folder / "outcome.json").write_text('{"parent": 1}', encoding="utf-8")
    with pytest.raises(JobError, match=r"outcome\.json cannot be read"):
        run.outcome()


def test_spending_is_summed_by_role_and_of_this_run_alone(run: EvolveRun):
    for job, tokens in ((run.id, 10), (run.id, 20), ("another", 400)):
        journal = Journal(run.folder / "journal.sqlite", job)
        line = Line(f"h{tokens}", f"h{tokens}", "writer", "m", "p", "s")
        journal.answered(line, Reply("a", "end_turn", Tokens(input=tokens, output=1)), 0.25)
        journal.close()
    (only,) = run.spending()
    assert (only.role, only.model, only.calls, only.tokens, only.usd) == ("writer", "m", 2, 32, 0.5)


def test_a_run_is_found_by_folder_id_or_beginning(run: EvolveRun, tmp_path: Path):
    for name in (run.folder, run.id, "evolve-20260101"):
        assert find_evolution(name, tmp_path).folder == run.folder
    create_job(tmp_path, "evolve", {}, "evolve-20260102-000000-bbbbbb")[1].close()
    with pytest.raises(InputError, match="Several evolutions begin with"):
        find_evolution("evolve-2026", tmp_path)
    with pytest.raises(InputError, match="No evolution 'evolve-1999'"):
        find_evolution("evolve-1999", tmp_path)


def test_another_kind_of_job_is_no_evolution(tmp_path: Path):
    create_job(tmp_path, "build", {}, "build-1")[1].close()
    with pytest.raises(InputError, match="a job of kind 'build'"):
        find_evolution("build-1", tmp_path)
