"""A proposed text: what is refused at once, how it is tried, and what is committed."""

import asyncio
from pathlib import Path

import pytest

from esc_skills.evolve.models import Candidate, Effect, ProposalKind, Verdict
from esc_skills.evolve.propose import (
    MOST_WAITING,
    ProposalResult,
    ProposePlan,
    SimulatedTrial,
    candidate_of,
    plan_proposal,
    propose,
    resume_proposal,
    start_proposal,
)
from esc_skills.pipeline.jobs import Job, JobState, run_here
from esc_skills.simulator.resample import Estimate
from esc_skills.simulator.run import RunFolder
from esc_skills.simulator.sources import BankRef
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import BankError, InputError, JobError, SkillParseError
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.skillmd import parse_skill
from esc_skills.skills_bank.store import BankStore
from esc_skills.skills_bank.validate import EVIDENCE_FILE, SKILL_FILE, problems_in_bank

WHY = "The step comes too early."
EFFECT = Effect(
    profiles=2, talks=4, old=40.0, new=48.0, difference=Estimate(8.0, 4.0, 12.0), p=0.03, success=(0, 1), failure=(1, 0)
)


class Scripted:
    """A `Trial` that rules as it is told and remembers what it was shown."""

    def __init__(self, ruling: str = "accept", unsafe: str = "") -> None:
        self.ruling, self.unsafe = ruling, unsafe
        self.judged: list[tuple[ProposalKind, BankRef, BankRef]] = []

    def screen(self, candidate: Candidate, bank: Bank) -> list[str]:
        return [f"says {self.unsafe!r}"] if self.unsafe and self.unsafe in candidate.files[SKILL_FILE] else []

    async def judge(self, candidate: Candidate, kind: ProposalKind, parent: BankRef, staged: BankRef) -> Verdict:
        self.judged.append((kind, parent, staged))
        return Verdict(
            candidate=candidate.id, ruling=self.ruling, reason="as scripted", strategy="paired", effect=EFFECT
        )


@pytest.fixture
def store(tmp_path: Path, bank_dir: Path) -> BankStore:
    """A bank with versions of `calming-dread`, `calming-exams`, `calming-moves`."""
    store = BankStore(tmp_path / "store")
    store.init_from(bank_dir)
    return store


@pytest.fixture
def started(tmp_path: Path, store: BankStore):
    """Return a function that begins a proposal in this process."""

    def start(text: str, *, apply: bool = False) -> tuple[ProposePlan, Job]:
        plan = plan_proposal(text, WHY, bank_dir=store.root, apply=apply)
        job, locks = start_proposal(tmp_path / "jobs", plan)
        for held in locks:
            held.close()
        return plan, job

    return start


def better(text: str) -> str:
    return text.replace("Ask what the worst part is.", "Ask what the hardest part is, and wait.")


# --- what is refused at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("---\nname", "name", r"frontmatter: .*Begin with '---'"),
        ('esc-states: "anxiety_and_fear ', 'esc-states: "grumpiness ', "esc-states: .*grumpiness"),
        ("license: CC-BY-NC-4.0", "color: blue", "color"),
        ("## Pitfalls", "## Traps", "Pitfalls"),
        ("Ask what the worst part is.", "Ask 3 questions.", "What to do: A number stands in the prose: '3'"),
        ("- The body speaks", "The body speaks", "When to use"),
        ("Ask what the worst part is.", "See [it](references/x.md).", "The link to references/x.md leads nowhere"),
    ],
)
def test_a_text_that_is_no_skill_is_refused_with_field_and_fix(store, skill_text, before, after, message):
    assert before in skill_text
    with pytest.raises(SkillParseError, match=message) as error:
        plan_proposal(skill_text.replace(before, after), WHY, bank_dir=store.root)
    assert str(error.value).startswith("skill_md: ") and "Fix: " in str(error.value)


def test_a_reason_is_asked_for(store, skill_text):
    with pytest.raises(InputError, match="reason: it is empty"):
        plan_proposal(skill_text, "  ", bank_dir=store.root)


def test_a_plain_folder_can_be_proposed_to_but_not_applied_to(bank_dir, skill_text):
    assert plan_proposal(skill_text, WHY, bank_dir=bank_dir).bank.kind == "plain"
    with pytest.raises(InputError, match="plain folder of skills"):
        plan_proposal(skill_text, WHY, bank_dir=bank_dir, apply=True)


@pytest.mark.slow
def test_proposals_do_not_pile_up(tmp_path, store, skill_text):
    plan = plan_proposal(skill_text, WHY, bank_dir=store.root)
    locks = [held for _ in range(MOST_WAITING) for held in start_proposal(tmp_path / "jobs", plan)[1]]
    with pytest.raises(JobError, match=f"{MOST_WAITING} proposals are under way"):
        start_proposal(tmp_path / "jobs", plan)
    for held in locks:
        held.close()
    job, again = start_proposal(tmp_path / "jobs", plan)
    with pytest.raises(JobError, match="running"):
        resume_proposal(job)
    for held in again:
        held.close()


def test_every_further_text_for_a_skill_is_another_attempt(tmp_path, store, skill_text, make_skill_text):
    def attempt(text: str, effect: object = "simulated") -> int:
        job, locks = start_proposal(tmp_path / "jobs", plan_proposal(text, WHY, bank_dir=store.root))
        job.write(state=JobState.COMPLETED, result={"effect": effect})
        for held in locks:
            held.close()
        return ProposePlan.model_validate(job.read().plan).attempt

    assert [attempt(better(skill_text)), attempt(better(skill_text))] == [1, 1]
    assert attempt(skill_text.replace("worst", "nearest"), effect=None) == 2
    assert attempt(skill_text.replace("worst", "loudest")) == 2
    assert attempt(skill_text.replace("worst", "farthest")) == 3
    assert attempt(make_skill_text("calming-flights", "the flight")) == 1
    store.commit({"calming-dread": {SKILL_FILE: make_skill_text(topic="the flood")}}, reason="meanwhile")
    assert attempt(skill_text.replace("worst", "hardest")) == 1


# --- the candidate ----------------------------------------------------------------------------------------------------


def test_the_name_decides_between_refining_and_creating(store, make_skill_text):
    bank = store.load()
    refined = candidate_of(make_skill_text("calming-exams", "the exam"), WHY, bank)
    assert (refined.id, refined.replaces) == ("refine-calming-exams.1", "calming-exams")
    created = candidate_of(make_skill_text("calming-flights", "the flight"), WHY, bank)
    assert (created.id, created.replaces) == ("create-calming-flights.1", None)


def test_evidence_is_written_by_code_whatever_the_author_claims():
    bank = Bank.load(shipped_bank())
    name = next(iter(bank.evidence))
    old = bank.texts[name]
    claimed = old.replace("Counted from", "Counted by me from")
    assert claimed != old
    assert candidate_of(claimed, WHY, bank).files == {path: text.decode() for path, text in bank.files(name).items()}
    without = old[: old.index("## Evidence")]
    assert candidate_of(without, WHY, bank).files[EVIDENCE_FILE] == bank.files(name)[EVIDENCE_FILE].decode()
    new = without.replace(f"name: {name}", "name: something-new").replace("esc-cluster", "esc-group")
    files = candidate_of(new, WHY, bank).files
    skill = parse_skill(files[SKILL_FILE])
    cells = {(plan.state, step.action) for plan in skill.plans for step in plan.steps}
    known = {(p.state, p.action) for each in bank.evidence.values() for p in each.prototypes}
    assert cells & known and f'"skill": "{skill.name}"' in files[EVIDENCE_FILE]
    assert "Counted from" in skill.evidence


# --- the trial --------------------------------------------------------------------------------------------------------


async def test_an_accepted_text_is_only_proposed(store, started, skill_text):
    before, trial = store.active(), Scripted()
    plan, job = started(better(skill_text))
    result = await propose(plan, job, trial)
    assert (result.ruling, result.kind, result.version) == ("accept", "refine", None)
    assert "apply" in result.told and store.active() == before
    assert result.effect == EFFECT
    assert "-2. **Open exploration** (`open_exploration`): Ask what the worst part is." in result.diff.splitlines()
    kind, parent, staged = trial.judged[0]
    assert kind is ProposalKind.REFINE and parent.hash == store.load().hash != staged.hash
    assert problems_in_bank(staged.folder) == []
    assert (job.folder / "diff.txt").read_text(encoding="utf-8") == result.diff
    assert ProposalResult.model_validate_json(result.model_dump_json()) == result


async def test_with_apply_it_becomes_a_version_that_says_why(store, started, make_skill_text):
    before = store.active()
    plan, job = started(make_skill_text("calming-flights", "the flight"), apply=True)
    result = await propose(plan, job, Scripted())
    newest = store.history()[0]
    assert (result.version, newest.parent, newest.skills) == (store.active(), before, 4)
    assert newest.note == f"{job.id}: new skill calming-flights: {WHY}"
    assert store.diff(before, result.version or "").added == ("calming-flights",)
    again = await propose(plan, job, Scripted("reject"))  # killed after its commit and taken up: the verdict stands
    assert again == result and len(store.history()) == 2


@pytest.mark.parametrize("ruling", ["reject", "indecisive"])
async def test_what_is_not_accepted_is_never_committed(store, started, skill_text, ruling):
    before = store.active()
    plan, job = started(better(skill_text), apply=True)
    result = await propose(plan, job, Scripted(ruling))
    assert (result.ruling, result.version, store.active()) == (ruling, None, before)


async def test_the_same_text_is_indecisive_without_a_talk(store, started, skill_text):
    trial = Scripted()
    plan, job = started(skill_text, apply=True)
    result = await propose(plan, job, trial)
    assert (result.ruling, result.diff, result.version, trial.judged) == ("indecisive", "", None, [])


async def test_an_unsafe_text_is_rejected_without_a_talk(store, started, skill_text):
    trial = Scripted(unsafe="hardest part")
    plan, job = started(better(skill_text), apply=True)
    result = await propose(plan, job, trial)
    assert (result.ruling, result.version, trial.judged) == ("reject", None, [])
    assert [(veto.rule, veto.reason) for veto in result.vetoes] == [("screen", "says 'hardest part'")]


async def test_a_bank_that_moved_on_is_left_alone(store, started, skill_text, make_skill_text):
    plan, job = started(better(skill_text), apply=True)
    store.commit({"calming-dread": {SKILL_FILE: make_skill_text(topic="the flood")}}, reason="meanwhile")
    moved = store.active()
    result = await propose(plan, job, Scripted())
    assert (result.ruling, result.version, store.active()) == ("accept", None, moved)
    assert f"moved on from {plan.bank.version} to {moved}" in result.told


async def test_a_plain_folder_that_changed_is_not_judged(tmp_path, bank_dir, skill_text, make_skill_text):
    plan = plan_proposal(better(skill_text), WHY, bank_dir=bank_dir)
    job, locks = start_proposal(tmp_path / "jobs", plan)
    (bank_dir / "calming-moves" / SKILL_FILE).write_text(make_skill_text("calming-moves", "a move"), encoding="utf-8")
    with pytest.raises(BankError, match="has changed since"):
        await propose(plan, job, Scripted())
    for held in locks:
        held.close()


@pytest.mark.slow
async def test_the_shipped_bank_is_copied_before_the_commit(tmp_path):
    bank = Bank.load(shipped_bank())
    name = min(bank.skills)
    text = bank.texts[name].replace("## Overview\n", "## Overview\nIt begins where the seeker is.\n", 1)
    plan = plan_proposal(text, WHY, bank_dir=tmp_path / "mine", apply=True)
    assert (plan.bank.kind, plan.bank.version) == ("shipped", bank.version)
    job, locks = start_proposal(tmp_path / "jobs", plan)
    result = await propose(plan, job, Scripted())
    history = BankStore(tmp_path / "mine").history()
    assert [info.version for info in history][:1] == [result.version] and len(history) == 2
    for held in locks:
        held.close()


def test_a_cancelled_proposal_is_taken_up_again(tmp_path, store, skill_text, monkeypatch):
    plan = plan_proposal(better(skill_text), WHY, bank_dir=store.root)
    job, locks = start_proposal(tmp_path / "jobs", plan)

    async def forever(*_: object) -> Verdict:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(SimulatedTrial, "screen", lambda *_: [])
    monkeypatch.setattr(SimulatedTrial, "judge", forever)
    job.ask_to_stop()
    assert run_here(job, locks).state is JobState.CANCELLED

    async def ruled(self: SimulatedTrial, candidate: Candidate, *_: object) -> Verdict:
        return Verdict(candidate=candidate.id, ruling="accept", reason="as scripted", strategy="paired")

    monkeypatch.setattr(SimulatedTrial, "judge", ruled)
    job, locks = resume_proposal(job)
    record = run_here(job, locks)
    assert (record.state, record.attempts) == (JobState.COMPLETED, 2)
    with pytest.raises(JobError, match="has completed"):
        resume_proposal(job)


# --- for real ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Few talks, no corpus; returns the folder that keeps the talks."""
    for name, value in (("BASELINE", "5"), ("HARD", "3"), ("REPEATS", "1")):
        monkeypatch.setenv(f"ESC_PROPOSE_{name}", value)
    monkeypatch.setenv("ESC_SHARED_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("ESC_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs" / "proposals"


@pytest.mark.slow
def test_local_seekers_judge_a_text_and_their_talks_are_held_once(tmp_path, small, skill_text):
    bank = tmp_path / "one"
    (bank / "calming-dread").mkdir(parents=True)
    (bank / "calming-dread" / SKILL_FILE).write_text(skill_text, encoding="utf-8")

    def judged(text: str) -> tuple[Job, ProposalResult]:
        job, locks = start_proposal(tmp_path / "jobs", plan_proposal(text, WHY, bank_dir=bank))
        record = run_here(job, locks)
        assert record.state is JobState.COMPLETED, record.error
        return job, ProposalResult.model_validate(record.result)

    job, result = judged(better(skill_text))
    assert result.effect is not None and (result.effect.profiles, result.effect.talks) == (3, 3)
    assert result.floor is not None and result.ruling in ("accept", "reject", "indecisive")
    assert {check.name: check.run for check in result.checks} == {
        "screen": True,
        "stratum": result.effect.profiles >= 3 and any(e.profiles >= 3 for e in result.strata.values()),
        "risk": True,
        "real-data": False,
    }
    runs = {path.parent for path in small.glob("*/transcripts.jsonl")}
    said = {
        words
        for run in runs
        for talk in RunFolder(run).transcripts()
        for words in (talk.opening, *(turn.seeker for turn in talk.turns))
        if words and len(words) > 20
    }
    told = "".join(path.read_text(encoding="utf-8") for path in job.folder.glob("*.*") if path.is_file())
    assert said and not [words for words in said if words in told]

    _, again = judged(better(skill_text))
    assert again == result and {path.parent for path in small.glob("*/transcripts.jsonl")} == runs
