"""What is settled before an evolution starts, and one evolution at a time per bank."""

from pathlib import Path

import pytest

from esc_skills.evolve.estimate import count, told
from esc_skills.evolve.plan import (
    LOCK,
    EvolveCaps,
    EvolvePlan,
    llm_settings,
    plan_evolution,
    profiles_of,
    resume_evolution,
    roles_of,
    start_evolution,
)
from esc_skills.evolve.split import split_profiles
from esc_skills.pipeline.jobs import Held, JobState
from esc_skills.pipeline.llm.settings import LLMSettings
from esc_skills.skills_bank.errors import InputError, JobError
from esc_skills.skills_bank.store import BankStore

from .scripted_evolution import PROFILES, write_profiles


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    return write_profiles(tmp_path / "made.jsonl")


@pytest.fixture
def plan(profiles: Path, bank_dir: Path) -> EvolvePlan:
    return plan_evolution(str(profiles), bank_dir=bank_dir)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("SUPPORTER", "SEEKER", "SCORER", "ANALYZER", "GENERATOR"):
        monkeypatch.setenv(f"ESC_MODEL_{role}", f"model-{role.lower()}")
    monkeypatch.setenv("ESC_LLM_BASE_URL", "http://127.0.0.1:9")


def close(locks: list[Held]) -> None:
    for held in locks:
        held.close()


def test_the_plan_pins_bank_profiles_and_simulator(plan: EvolvePlan, bank_dir: Path):
    assert plan.n == PROFILES and plan.bank.folder == bank_dir and plan.bank.kind == "plain"
    assert plan.bank.hash and plan.profiles_hash and plan.materials
    assert EvolvePlan.model_validate_json(plan.model_dump_json()) == plan
    assert Path(plan.profiles).is_absolute()
    plan.check()


@pytest.mark.parametrize("what", ["bank", "profiles"])
def test_a_run_does_not_go_on_with_something_else(plan: EvolvePlan, profiles: Path, bank_dir: Path, what: str):
    if what == "profiles":
        write_profiles(profiles, PROFILES - 1)
    else:
        page = bank_dir / "calming-dread" / "SKILL.md"
        page.write_text(page.read_text(encoding="utf-8").replace("circles", "goes round"), encoding="utf-8")
    with pytest.raises(InputError, match=rf"The {what} .* changed since the evolution began"):
        plan.check()


def test_fewer_profiles_are_those_that_a_simulation_takes(profiles: Path, bank_dir: Path):
    some = profiles_of(plan_evolution(str(profiles), bank_dir=bank_dir, n=40))
    more = profiles_of(plan_evolution(str(profiles), bank_dir=bank_dir, n=45))
    assert len(some.profiles) == 40
    assert {p.id for p in some.profiles} < {p.id for p in more.profiles}


@pytest.mark.parametrize(("n", "said"), [(PROFILES + 1, f"there are {PROFILES} profiles"), (10, "too few to split")])
def test_a_number_of_profiles_that_does_not_fit_is_refused(profiles: Path, bank_dir: Path, n: int, said: str):
    with pytest.raises(InputError, match=said):
        plan_evolution(str(profiles), bank_dir=bank_dir, n=n)


def test_a_plain_folder_takes_no_version(profiles: Path, bank_dir: Path):
    with pytest.raises(InputError, match="plain folder of skills without versions"):
        plan_evolution(str(profiles), bank_dir=bank_dir, apply=True)


def test_steps_have_seeds_of_their_own(plan: EvolvePlan):
    seeds = {plan.seed_of(step) for step in ("floor", "trial/refine-a", "trial/refine-b", "joint/1", "sealed")}
    assert len(seeds) == 5
    assert plan.seed_of("floor") == plan.model_copy().seed_of("floor")
    assert plan.model_copy(update={"seed": 8}).seed_of("floor") not in seeds


def test_a_model_that_is_not_set_is_named(profiles: Path, bank_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ESC_LLM_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("ESC_MODEL_GENERATOR", raising=False)
    with pytest.raises(InputError, match="ESC_MODEL_GENERATOR"):
        plan_evolution(str(profiles), bank_dir=bank_dir, generator="llm")


@pytest.mark.usefixtures("models")
def test_each_side_by_a_model_names_its_roles(profiles: Path, bank_dir: Path):
    plan = plan_evolution(str(profiles), bank_dir=bank_dir, seeker="llm", analyzer="llm")
    assert plan.models == {"scorer": "model-scorer", "seeker": "model-seeker", "analyzer": "model-analyzer"}
    assert [role.value for role in roles_of(plan)] == list(plan.models)


@pytest.mark.usefixtures("models")
def test_the_lower_of_the_plans_and_the_environments_caps_holds(profiles: Path, bank_dir: Path):
    caps = EvolveCaps(calls=50, usd=2.0)
    plan = plan_evolution(str(profiles), bank_dir=bank_dir, generator="llm", caps=caps)
    found = llm_settings(plan, LLMSettings(llm_cap_calls=20, llm_cap_usd=5.0, llm_cap_tokens=900))
    assert (found.llm_cap_calls, found.llm_cap_usd, found.llm_cap_tokens) == (20, 2.0, 900)
    assert found.model_generator == "model-generator"


# --- starting -------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # a lock that is held is waited for
def test_one_evolution_at_a_time_on_a_bank(plan: EvolvePlan, tmp_path: Path):
    job, locks = start_evolution(tmp_path / "jobs", plan)
    try:
        with pytest.raises(JobError, match=f"Job {job.id} is evolving the bank"):
            start_evolution(tmp_path / "jobs", plan)
    finally:
        close(locks)
    other, locks = start_evolution(tmp_path / "jobs", plan)
    close(locks)
    assert other.id != job.id and (plan.bank.root / LOCK).is_file()


def test_the_lock_is_no_skill(plan: EvolvePlan, tmp_path: Path):
    _, locks = start_evolution(tmp_path / "jobs", plan)
    close(locks)
    plan.check()
    assert BankStore(plan.bank.root).initialised is False


def test_a_resumed_job_may_get_higher_caps(plan: EvolvePlan, tmp_path: Path):
    job, locks = start_evolution(tmp_path / "jobs", plan.model_copy(update={"caps": EvolveCaps(calls=1, stall=3)}))
    job.write(state=JobState.FAILED, error="cap")
    close(locks)
    job, locks = resume_evolution(job, EvolveCaps(calls=9))
    close(locks)
    record = job.read()
    caps = EvolvePlan.model_validate(record.plan).caps
    assert (caps.calls, caps.stall, record.attempts, record.state) == (9, 3, 2, JobState.RUNNING)


def test_a_completed_job_is_not_resumed(plan: EvolvePlan, tmp_path: Path):
    job, locks = start_evolution(tmp_path / "jobs", plan)
    job.write(state=JobState.COMPLETED)
    close(locks)
    with pytest.raises(JobError, match="has completed"):
        resume_evolution(job)


# --- the dry run ----------------------------------------------------------------------------------------------------


def test_a_dry_run_counts_talks(plan: EvolvePlan):
    split = split_profiles(profiles_of(plan), plan.seed)
    found = count(plan, split)
    assert found.baseline.high == len(split.propose) + len(split.verify)
    assert found.all.low == found.baseline.low + found.floor.low
    text = told(plan)
    assert "no call to a language model, no network" in text
    assert all(digest in text for digest in split.hashes().values())


def test_a_cap_on_candidates_bounds_the_dry_run(plan: EvolvePlan):
    split = split_profiles(profiles_of(plan), plan.seed)
    capped = plan.model_copy(update={"caps": EvolveCaps(candidates=2)})
    assert count(capped, split).attempts.high == 2 < count(plan, split).attempts.high
    assert count(capped, split).all.high < count(plan, split).all.high


@pytest.mark.usefixtures("models")
def test_a_budget_that_is_too_small_is_said_before_it_is_spent(profiles: Path, bank_dir: Path):
    some = {"bank_dir": bank_dir, "analyzer": "llm", "generator": "llm"}
    small = told(plan_evolution(str(profiles), **some, caps=EvolveCaps(calls=10)))
    assert "analyzer (a guess, model-analyzer)" in small and "generator (a guess, model-generator)" in small
    assert "budget too small: before the first proposal it may reach the cap of calls" in small
    large = told(plan_evolution(str(profiles), **some, caps=EvolveCaps(calls=10**6)))
    assert "budget too small" not in large and "may reach" not in large
