"""A model writes the text: what it is asked, what is checked, what is told back; over real HTTP."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from esc_skills.evolve import screen as screening
from esc_skills.evolve.generation import Brief, brief_for, known_cells
from esc_skills.evolve.llm_generator import LLMGenerator
from esc_skills.evolve.models import Candidate, Cite, Context, Feedback, Finding, FindingKind, Proposal, ProposalKind
from esc_skills.pipeline.llm import messages_api
from esc_skills.pipeline.llm.door import open_door
from esc_skills.pipeline.llm.settings import LLMSettings
from esc_skills.simulator.meter import Metered
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import GenerationError, InputError, LLMRefused
from esc_skills.skills_bank.models import Evidence
from esc_skills.skills_bank.place import shipped_bank
from esc_skills.skills_bank.skillmd import parse_skill, render_skill
from esc_skills.skills_bank.taxonomy import SeekerState, SupportAction
from esc_skills.skills_bank.validate import EVIDENCE_FILE, SKILL_FILE

from ..conftest import SkillText
from ..messages_server import Body, MessagesServer, Reply

sys.path.insert(0, str(Path(__file__).parent))
from composed_talks import OPENING, followed, talk, turn

S, A = SeekerState, SupportAction
BLAME = "easing-self-blame"
Ask = Callable[..., AbstractAsyncContextManager[tuple[LLMGenerator, MessagesServer]]]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(messages_api, "_FIRST_WAIT", 0.002)
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ESC_LLM_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ESC_SHARED_DIR", str(tmp_path / "none"))  # the corpus takes seconds to read
    screening.corpus.cache_clear()
    yield
    screening.corpus.cache_clear()


@pytest.fixture(scope="module")
def bank() -> Bank:
    loaded = Bank.load(shipped_bank())
    known_cells(loaded)  # counting them takes a second
    return loaded


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return a function that opens a generator at a server which gives these answers in turn."""

    @asynccontextmanager
    async def make(*answers: Any) -> AsyncIterator[tuple[LLMGenerator, MessagesServer]]:
        left = iter(answers)
        with MessagesServer(lambda _: next(left)) as server:
            settings = LLMSettings(llm_base_url=server.url, api_key="sk-test-8f21", llm_retries=0)
            async with open_door(settings, tmp_path / "journal.db") as door:
                yield LLMGenerator(Metered(door), "test-model"), server

    return make


def proposal(kind: ProposalKind = ProposalKind.REFINE) -> Proposal:
    skill = BLAME if kind == ProposalKind.REFINE else None
    finding = Finding(
        kind=FindingKind.HARM if skill else FindingKind.GAP,
        skill=skill,
        context=Context(states=(S.SELF_BLAME,)),
        what="Replies were followed by less than elsewhere.",
        cites=(Cite(profile="composed-001", turns=(1,)),),
        turns=12,
        effect=-1.5,
        avoid=(A.COGNITIVE_REFRAMING,),
        favour=(A.EMOTIONAL_VALIDATION,),
    )
    return Proposal(
        id=f"{kind}-{skill or 'standing-by-regret'}", kind=kind, skill=skill, context=finding.context,
        title="Something about blame", findings=(finding,), talks=1, turns=12, priority=18.0,
    )  # fmt: skip


def brief(kind: ProposalKind = ProposalKind.REFINE, attempt: int = 1, **more: Any) -> Brief:
    talks = [
        talk([turn(1, 40, -5, **followed(BLAME)), turn(2, 35, -6, **followed(BLAME))], f"composed-{number:03d}")
        for number in range(1, 5)
    ]
    return brief_for(proposal(kind), attempt, talks, {}, **more)


def answer(text: str) -> dict[str, str]:
    return {"skill_md": text, "what_changed": "Reframing waits; an example went out."}


def refined(bank: Bank, **more: object) -> str:
    """The shipped page with one condition more, as a model would give it: without evidence."""
    skill = bank.skills[BLAME]
    changes: dict[str, object] = {"evidence": "", "when": (*skill.when, "They take back a kind word about themselves.")}
    return render_skill(skill.model_copy(update=changes | more))


def sent(body: Body) -> str:
    """Everything a request said."""
    system = body["system"]
    text = system if isinstance(system, str) else "".join(part["text"] for part in system)
    return text + "".join(str(message["content"]) for message in body["messages"])


async def test_a_good_text_is_taken(bank: Bank, ask: Ask):
    asked = brief()
    async with ask(answer(refined(bank))) as (generator, server):
        made = await generator.generate(asked, bank)
        said = sent(server.requests[0].body)
    assert (made.id, made.skill, made.replaces) == (f"refine-{BLAME}.1", BLAME, BLAME)
    assert made.what.startswith("Reframing waits") and made.generator.startswith("llm:test-model refine@")
    skill = parse_skill(made.files[SKILL_FILE])
    assert (skill.version, skill.parent) == ("2", f"{BLAME}@1") and skill.extra_metadata == {}
    assert skill.written_by.startswith("test-model refine@")
    assert Evidence.model_validate_json(made.files[EVIDENCE_FILE]) == bank.evidence[BLAME]
    assert made.tokens == 120 and made.prompt is not None
    assert bank.texts[BLAME] in said and bank.texts[BLAME] in made.prompt
    assert said.count("<talk>") == 2 and said.count("<report>") == 4
    assert "Replies were followed by less" in said and "# The grammar of SKILL.md" in said
    assert "`practical_suggestion`" in said and "Went badly: cognitive_reframing" in said


async def test_a_fault_is_told_back_and_mended(bank: Bank, ask: Ask):
    secret = bank.skills[BLAME].plans[0].steps[0].model_copy(update={"say": "Let this remain our secret."})
    plan = bank.skills[BLAME].plans[0]
    bad = refined(bank, plans=(plan.model_copy(update={"steps": (secret, *plan.steps[1:])}),))
    async with ask(answer(bad), answer(f"```markdown\n{refined(bank)}```")) as (generator, server):
        made = await generator.generate(brief(), bank)
        told = server.requests[1].body["messages"][-1]["content"]
    assert "secrecy" in told and "Let this remain our secret" in told
    assert "our secret" not in made.files[SKILL_FILE] and made.tokens == 240
    assert made.prompt is not None and "our secret" in made.prompt


async def test_a_text_that_is_no_page_twice_is_given_up(bank: Bank, ask: Ask):
    async with ask(answer("A page about blame."), answer("Still none.")) as (generator, server):
        with pytest.raises(GenerationError, match="second text has problems") as caught:
            await generator.generate(brief(), bank)
        assert len(server.requests) == 2
    assert "frontmatter" in caught.value.reason and caught.value.proposal == f"refine-{BLAME}"


async def test_an_answer_without_the_shape_twice_is_given_up(bank: Bank, ask: Ask):
    async with ask("no json", "none again") as (generator, server):
        with pytest.raises(GenerationError, match="no usable answer"):
            await generator.generate(brief(), bank)
        assert len(server.requests) == 2


async def test_a_refusal_is_given_up_at_once(bank: Bank, ask: Ask):
    async with ask(Reply("I would rather not.", stop_reason="refusal")) as (generator, server):
        with pytest.raises(GenerationError, match="the model refused to answer"):
            await generator.generate(brief(), bank)
        assert len(server.requests) == 1


async def test_a_server_that_says_no_ends_it(bank: Bank, ask: Ask):
    async with ask(Reply(status=401, error="authentication_error")) as (generator, _):
        with pytest.raises(LLMRefused):
            await generator.generate(brief(), bank)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "easing-guilt"}, "has to stay 'easing-self-blame'"),
        ({"when": None}, "The text is the old one"),
        ({"overview": f"It may sound so: {OPENING}"}, "words in a row are a seeker's"),
    ],
)
async def test_what_a_page_may_not_do(bank: Bank, ask: Ask, change: dict[str, Any], told: str):
    text = refined(bank, **{key: value or bank.skills[BLAME].when for key, value in change.items()})
    async with ask(answer(text), answer(text)) as (generator, _):
        with pytest.raises(GenerationError, match=told):
            await generator.generate(brief(), bank)


async def test_a_new_skill_gets_the_evidence_of_its_cells(bank: Bank, ask: Ask, make_skill_text: SkillText):
    text = make_skill_text("standing-by-dread", "the ferry")
    async with ask(answer(text)) as (generator, server):
        made = await generator.generate(brief(ProposalKind.CREATE), bank)
        said = sent(server.requests[0].body)
    skill, evidence = parse_skill(made.files[SKILL_FILE]), Evidence.model_validate_json(made.files[EVIDENCE_FILE])
    assert made.replaces is None and (skill.version, skill.parent) == ("1", None)
    cells = {(p.state, p.action) for p in evidence.prototypes}
    assert cells >= {(plan.state, step.action) for plan in skill.plans for step in plan.steps}
    assert f"- {BLAME}: " in said and "<page>" not in said


async def test_a_taken_name_is_told(bank: Bank, ask: Ask, make_skill_text: SkillText):
    taken = answer(make_skill_text("hearing-out-anger", "the ferry"))
    async with ask(taken, taken) as (generator, _):
        with pytest.raises(GenerationError, match="is taken; choose another"):
            await generator.generate(brief(ProposalKind.CREATE), bank)


async def test_the_last_attempt_is_shown_with_what_came_of_it(bank: Bank, ask: Ask):
    last = Candidate(
        id="x.1", proposal="x", attempt=1, skill=BLAME, replaces=BLAME, files={SKILL_FILE: "# The page that failed"},
        what="w", generator="g",
    )  # fmt: skip
    said = Feedback(attempt=1, reason="It ended lower.", worse_profiles=("p1",), worse_actions=(A.NORMALIZATION,))
    async with ask(answer(refined(bank))) as (generator, server):
        made = await generator.generate(brief(attempt=2, feedback=said, last=last), bank)
        text = sent(server.requests[0].body)
    assert made.attempt == 2 and "# The page that failed" in text
    assert "It ended lower." in text and "did worse by: normalization" in text and "1 seekers ended lower" in text


def test_the_role_has_a_setting_of_its_own(monkeypatch: pytest.MonkeyPatch):
    from esc_skills.pipeline.llm.client import Role

    with pytest.raises(InputError, match="ESC_MODEL_GENERATOR"):
        LLMSettings().model_for(Role.GENERATOR)
    monkeypatch.setenv("ESC_MODEL_GENERATOR", "some-model")
    assert LLMSettings().model_for(Role.GENERATOR) == "some-model"
