"""Models play every part of an evolution, over real HTTP, with answers that are refused or make no sense among them."""

import json
import random
import sqlite3
from pathlib import Path

import pytest

from esc_skills.evolve.plan import EvolveCaps, EvolvePlan, plan_evolution, resume_evolution, start_evolution
from esc_skills.evolve.record import JOURNAL, EvolveRun
from esc_skills.pipeline.jobs import Job, JobState, run_here
from esc_skills.pipeline.llm import messages_api
from esc_skills.skills_bank.store import BankStore

from ..conftest import SkillText
from ..messages_server import Body, MessagesServer, Reply, default_script
from .scripted_evolution import DREAD, write_profiles

ROLES = ("supporter", "seeker", "scorer", "analyzer", "generator")
MENDED = "The mended way comes first."
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class Models:
    """Talks go better where the skill is mended; the analyzer blames the skill, and the generator mends it."""

    def __init__(self) -> None:
        self.texts = 0

    def __call__(self, body: Body) -> object:
        said = json.dumps(body["messages"])
        chance = random.Random(said)
        odd = chance.random()
        return getattr(self, body["model"])(body, said, chance, odd)

    def supporter(self, body: Body, said: str, chance: random.Random, odd: float) -> object:
        if odd < 0.01:
            return Reply("", stop_reason="refusal")
        mended = MENDED in json.dumps(body["system"])
        return f"{'Mended' if mended else 'Plain'} line {chance.randint(0, 10**6)}."

    def seeker(self, body: Body, said: str, chance: random.Random, odd: float) -> object:
        return f"I am afraid of the talk, the worry circles and I cannot sleep, night {chance.randint(0, 10**6)}."

    def scorer(self, body: Body, said: str, chance: random.Random, odd: float) -> object:
        if odd < 0.02:
            return Reply("no JSON at all")
        return {**default_script(body), "change": chance.randint(-6, 0) + (9 if "Mended line" in said else 0)}

    def analyzer(self, body: Body, said: str, chance: random.Random, odd: float) -> object:
        if odd < 0.3:
            return Reply("", stop_reason="refusal")
        why = "It goes on without hearing what was said."
        found = {"skill": DREAD, "turns": [1], "led_to": ["withdrawal"], "refine": True, "why": why}
        return {"applied": [found | {"avoid": [], "favour": []}], "missing": []}

    def generator(self, body: Body, said: str, chance: random.Random, odd: float) -> object:
        self.texts += 1
        if self.texts <= 2:
            return Reply("```\nhalf a pa")
        page = body["messages"][0]["content"]
        page = page if isinstance(page, str) else page[0]["text"]
        page = page.partition("<page>\n")[2].partition("\n</page>")[0]
        page = page.replace("## Overview\n", f"## Overview\n{MENDED} It hears the seeker out.\n\n")
        return {"skill_md": page, "what_changed": "The overview says what comes first."}


@pytest.fixture
def plan(tmp_path: Path, make_skill_text: SkillText, monkeypatch: pytest.MonkeyPatch):
    """A plan with a model in every part; its bank has one skill, so that it is the one that is followed."""
    skills = tmp_path / "skills" / DREAD
    skills.mkdir(parents=True)
    (skills / "SKILL.md").write_text(make_skill_text(DREAD, "the talk"), encoding="utf-8")
    BankStore(tmp_path / "bank").init_from(tmp_path / "skills")
    for role in ROLES:
        monkeypatch.setenv(f"ESC_MODEL_{role.upper()}", role)
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ESC_LLM_CACHE", "false")
    monkeypatch.setenv("ESC_SHARED_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(messages_api, "_FIRST_WAIT", 0.002)
    profiles = write_profiles(tmp_path / "made.jsonl", 36)
    by_models = dict.fromkeys(("seeker", "supporter", "analyzer", "generator"), "llm")

    def make(server: MessagesServer, **options) -> EvolvePlan:
        monkeypatch.setenv("ESC_LLM_BASE_URL", server.url)
        return plan_evolution(str(profiles), bank_dir=tmp_path / "bank", repeats=1, **by_models, **options)

    return make


def test_the_whole_loop_is_played_by_models(plan, tmp_path: Path):
    with MessagesServer(Models()) as server:
        job, locks = start_evolution(tmp_path / "jobs", plan(server, apply=True))
        record = run_here(job, locks)
        assert record.state is JobState.COMPLETED, record.error
        run = EvolveRun(job.folder)
        first, second = run.attempts(f"refine-{DREAD}")
        assert first.candidate is None and first.verdict is not None and "no usable answer" in first.verdict.reason
        assert second.verdict is not None and second.verdict.ruling == "accept", second.verdict.reason
        assert second.candidate is not None and MENDED in second.candidate.files["SKILL.md"]
        assert second.candidate.prompt and second.candidate.tokens
        assert f"+{MENDED}" in second.diff
        sealed, split = run.sealed(), run.split()
        assert sealed is not None and sealed.effect is not None and split is not None
        assert sealed.effect.difference.value > 10 and sealed.effect.profiles == len(split.sealed)
        assert any("could not be analyzed" in note for note in record.notes)
        spent = {one.role: one.calls for one in run.spending()}
        assert set(spent) == set(ROLES) and sum(spent.values()) == server.answered
    newest = BankStore(tmp_path / "bank").load()
    assert MENDED in newest.texts[DREAD] and newest.version == (record.result or {})["bank_version"]


def test_a_cap_on_calls_breaks_it_off_and_nothing_is_paid_twice(plan, tmp_path: Path):
    with MessagesServer(Models()) as server:
        job, locks = start_evolution(tmp_path / "jobs", plan(server, caps=EvolveCaps(calls=700)))
        record = run_here(job, locks)
        assert record.state is JobState.FAILED and "resume with a higher one" in (record.error or "")
        assert server.answered <= 700
        for more in (1400, 100_000):
            job, locks = resume_evolution(Job(job.folder), EvolveCaps(calls=more))
            record = run_here(job, locks)
            assert server.answered <= more
        assert record.state is JobState.COMPLETED, record.error
        assert sum(one.calls for one in EvolveRun(job.folder).spending()) == server.answered
    with sqlite3.connect(job.folder / JOURNAL) as journal:
        paid = journal.execute("SELECT count(*), count(DISTINCT hash) FROM calls WHERE state = 'answered'").fetchone()
    journal.close()
    assert paid[0] == paid[1] > 1400
