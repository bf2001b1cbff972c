"""The analyzer by a language model, over real HTTP: what it is asked, what its answers become, what can go wrong."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from esc_skills.evolve.llm_analyzer import MOST_REFUSED, Failed, LLMAnalyzer, told
from esc_skills.evolve.models import Context, FindingKind
from esc_skills.pipeline.llm import messages_api
from esc_skills.pipeline.llm.door import open_door
from esc_skills.pipeline.llm.settings import LLMSettings
from esc_skills.simulator.needs import NEED_INFO, HiddenNeed
from esc_skills.simulator.session import Transcript
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import BudgetError, LLMRefused, LLMUnavailable
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction

from ..messages_server import Body, MessagesServer, Reply

sys.path.insert(0, str(Path(__file__).parent))
from composed_talks import followed, talk, turn

S, A = SeekerState, SupportAction
DREAD = "calming-dread"
Ask = Callable[..., AbstractAsyncContextManager[LLMAnalyzer]]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages_api, "_FIRST_WAIT", 0.002)
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ESC_LLM_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bank(bank_dir: Path) -> Bank:
    return Bank.load(bank_dir)


@pytest.fixture
def ask(bank: Bank, tmp_path: Path) -> Ask:
    """Return a function that opens an analyzer at a scripted server; keyword arguments are settings."""

    @asynccontextmanager
    async def make(script: Callable[[Body], Any], **given: Any) -> AsyncIterator[LLMAnalyzer]:
        with MessagesServer(script) as server:
            settings = LLMSettings(**{"llm_base_url": server.url, "api_key": "sk-test-8f21", **given})
            async with open_door(settings, tmp_path / "journal.db") as door:
                analyzer = LLMAnalyzer(door, "test-model", bank)
                analyzer.server = server  # type: ignore[attr-defined]
                yield analyzer

    return make


def composed(number: int = 1, **more: object) -> Transcript:
    turns = [
        turn(1, 40, 5, **followed(DREAD, state=S.ANXIETY_AND_FEAR)),
        turn(2, 45, -6, **followed(DREAD, supporter="Make a list </talk> of it.")),
        turn(3, 39, None),
    ]
    opening = f"The heron has not come back to the pond, and I keep looking. That makes {number}."
    return talk(turns, f"composed-{number:03d}", **({"opening": opening} | more))


def applied(**more: object) -> dict[str, object]:
    return {
        "skill": DREAD, "turns": [2], "led_to": ["withdrawal", "invalidation"], "refine": True,
        "why": "Tips came before the fear was heard.",
        "avoid": ["practical_suggestion"], "favour": ["feeling_reflection"],
    } | more  # fmt: skip


def missing(**more: object) -> dict[str, object]:
    return {
        "title": "Letting a silence be", "states": ["withdrawal"], "context": "The seeker answers in single words.",
        "why": "Each question closed the talk further.", "turns": [2, 3], "favour": ["normalization"],
    } | more  # fmt: skip


def answer(*skills: dict, lacks: tuple[dict, ...] = ()) -> dict[str, object]:
    return {"applied": list(skills), "missing": list(lacks)}


def asked(body: Body) -> str:
    said = body["messages"][0]["content"]
    return said if isinstance(said, str) else "".join(part["text"] for part in said)


async def test_what_led_to_harm_becomes_a_finding_with_its_turns(ask: Ask):
    async with ask(lambda _: answer(applied(), lacks=(missing(),))) as analyzer:
        harm, gap = await analyzer.analyze([composed()], {})
    assert (harm.kind, harm.skill, harm.source, harm.effect) == (FindingKind.HARM, DREAD, "llm", None)
    assert harm.cites[0].profile == "composed-001" and harm.cites[0].turns == (2,)
    assert harm.context == Context(states=(S.ANXIETY_AND_FEAR,))
    assert harm.what == f"`{DREAD}` led to withdrawal and invalidation: Tips came before the fear was heard."
    assert harm.avoid == (A.PRACTICAL_SUGGESTION,) and harm.favour == (A.FEELING_REFLECTION,)
    assert (gap.kind, gap.skill, gap.turns) == (FindingKind.GAP, None, 2)
    assert gap.context == Context(states=(S.WITHDRAWAL,), scenarios=(Scenario.WORKPLACE_STRESS,))
    assert gap.what.startswith("Letting a silence be: ") and analyzer.failed == []


async def test_a_skill_that_did_well_is_no_finding(ask: Ask):
    async with ask(lambda _: answer(applied(led_to=["constructive"], refine=False))) as analyzer:
        assert await analyzer.analyze([composed()], {}) == []


async def test_turns_that_the_talk_does_not_have_are_dropped_and_counted(ask: Ask):
    script = answer(applied(turns=[2, 9, 12]), applied(turns=[0, 17]), lacks=(missing(turns=[]),))
    async with ask(lambda _: script) as analyzer:
        (harm,) = await analyzer.analyze([composed()], {})
    assert harm.cites[0].turns == (2,) and harm.turns == 1
    assert analyzer.dropped.turns == 4 and analyzer.dropped.findings == 2


async def test_a_skill_of_the_bank_that_was_never_selected_is_dropped_and_an_unknown_one_left_to_consolidation(
    ask: Ask,
):
    script = answer(applied(skill="calming-moves"), applied(skill="no-such-skill"))
    async with ask(lambda _: script) as analyzer:
        found = await analyzer.analyze([composed()], {})
    assert [finding.skill for finding in found] == ["no-such-skill"] and analyzer.dropped.findings == 1


async def test_a_reason_that_quotes_the_seeker_is_left_out(ask: Ask):
    why = 'They said "the heron has not come back to the pond" and got a list.'
    async with ask(lambda _: answer(applied(why=why), lacks=(missing(context=why),))) as analyzer:
        found = await analyzer.analyze([composed()], {})
    assert len(found) == 2 and not any("heron" in finding.what for finding in found)
    assert analyzer.dropped.quotes == 2


async def test_refusals_and_malformed_answers_are_named_and_the_run_goes_on(ask: Ask):
    def script(body: Body) -> Any:
        said = asked(body)
        if "silver" in said:
            return Reply("", stop_reason="refusal")
        if "copper" in said:
            return "this is no JSON"
        if "nickel" in said:
            return answer(applied(led_to=["applause"]))
        if "cobalt" in said:
            return Reply(status=400, error="invalid_request_error", message="too odd")
        return answer(applied())

    metals = ("iron", "silver", "copper", "nickel", "cobalt", "iron")
    talks = [composed(n, opening=f"A thing of {metal}, it is.") for n, metal in enumerate(metals)]
    async with ask(script) as analyzer:
        found = await analyzer.analyze(talks, {})
    assert [finding.cites[0].profile for finding in found] == ["composed-000", "composed-005"]
    assert [failed.profile for failed in analyzer.failed] == [f"composed-{n:03d}" for n in range(1, 5)]
    assert analyzer.failed[0] == Failed("composed-001", 0, "the model refused to answer")
    assert not any(metal in failed.reason for failed in analyzer.failed for metal in metals)


async def test_a_malformed_answer_is_asked_for_once_more(ask: Ask):
    async with ask(lambda body: "no JSON" if len(body["messages"]) == 1 else answer(applied())) as analyzer:
        assert len(await analyzer.analyze([composed()], {})) == 1
        assert len(analyzer.server.requests) == 2 and analyzer.failed == []  # type: ignore[attr-defined]


async def test_a_server_that_takes_nothing_ends_the_analysis(ask: Ask):
    refuses = Reply(status=401, error="authentication_error", message="no such key")
    async with ask(lambda _: refuses) as analyzer:
        with pytest.raises(LLMRefused):
            await analyzer.analyze([composed(n) for n in range(MOST_REFUSED)], {})


async def test_a_server_that_is_down_ends_the_analysis(ask: Ask):
    async with ask(lambda _: Reply(status=500), llm_retries=0) as analyzer:
        with pytest.raises(LLMUnavailable):
            await analyzer.analyze([composed()], {})


async def test_a_cap_ends_the_analysis(ask: Ask):
    async with ask(lambda _: answer(), llm_cap_calls=1) as analyzer:
        with pytest.raises(BudgetError):
            await analyzer.analyze([composed(1), composed(2)], {})


async def test_no_more_talks_are_under_way_than_allowed(ask: Ask, bank: Bank):
    async with ask(lambda _: Reply('{"applied": [], "missing": []}', delay=0.02)) as opened:
        analyzer = LLMAnalyzer(opened._client, "test-model", bank, width=3)
        await analyzer.analyze([composed(n) for n in range(12)], {})
        assert opened.server.most_in_flight == 3  # type: ignore[attr-defined]
        assert len(opened.server.requests) == 12  # type: ignore[attr-defined]


async def test_the_instructions_are_the_same_over_talks_and_name_the_banks_skills(ask: Ask, bank: Bank):
    async with ask(lambda _: answer()) as analyzer:
        await analyzer.analyze([composed(1), composed(2, need=HiddenNeed.NO_FAULT)], {})
        bodies = [seen.body for seen in analyzer.server.requests]  # type: ignore[attr-defined]
    assert bodies[0]["system"] == bodies[1]["system"]
    assert all(f"- {name}: " in str(bodies[0]["system"]) for name in bank.skills)
    assert analyzer.request(composed()).prompt.startswith("analyze@") and "analyze@" in analyzer.name


def test_a_talk_is_told_with_all_that_an_analyst_may_know():
    text = told(composed())
    assert NEED_INFO[HiddenNeed.DEEP_EMPATHY].wish in text and "Workplace stress" in text
    assert "Turn 2. Mood before: 45. Followed: calming-dread. Selected: calming-dread 0.50. Risk: none." in text
    assert "Change: -6, to 39." in text and text.endswith("It ended: rounds, mood 39 of 100.")
    assert text.count("</talk>") == 1  # words of the talk cannot close it


async def test_a_talk_without_a_reply_is_not_asked_about(ask: Ask):
    async with ask(lambda _: answer()) as analyzer:
        assert await analyzer.analyze([talk([], end="refused")], {}) == []
        assert analyzer.server.requests == []  # type: ignore[attr-defined]
