"""What support agents do with a talk: actions, words, skills, and risk before all of it."""

import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from esc_skills.pipeline.llm.client import LLMRequest, Role
from esc_skills.pipeline.llm.scripted import ScriptedClient
from esc_skills.simulator.agent_mcp import open_mcp_source
from esc_skills.simulator.agents_llm import SKILLS_IN_PROMPT, LLMSupporter
from esc_skills.simulator.agents_local import (
    ABSTAINS,
    ONLY,
    SAFETY,
    ActionAgent,
    BankAgent,
    action_agent,
    follow,
    human_policy,
    said_by,
)
from esc_skills.simulator.casting import CastRecipe
from esc_skills.simulator.hearing import ALIKE, alike
from esc_skills.simulator.human_actions import count_actions, load_human_actions
from esc_skills.simulator.profiles import SPLITS, load_profiles
from esc_skills.simulator.reader import Reader, quick_desk
from esc_skills.simulator.session import converse
from esc_skills.simulator.sources import BankRef, BankSource, load_selector, settle_bank
from esc_skills.simulator.wording import Wording
from esc_skills.skills_bank.conversation import as_conversation
from esc_skills.skills_bank.encoder import Turn
from esc_skills.skills_bank.errors import BankError, EscError, InputError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.models import Message
from esc_skills.skills_bank.results import NextAction, Selection, SkillChoice, StateProbability
from esc_skills.skills_bank.risk import Risk, RiskDesk
from esc_skills.skills_bank.taxonomy import SeekerState, SupportAction

sys.path.insert(0, str(Path(__file__).parent))
from scripted_cast import SECRET, ScriptedSeeker, profile

SERVE_FAKE = Path(__file__).parents[1] / "server" / "serve_fake.py"
WORRIED = "I am so anxious and scared about the exam deadline next week that I can't sleep."
CRISIS = "I want to kill myself tonight, I have the pills here."


def talk(*texts: str) -> tuple[Message, ...]:
    return tuple(Message(role=("seeker", "supporter")[i % 2], content=text) for i, text in enumerate(texts))


def rng(seed: int = 1) -> random.Random:
    return random.Random(seed)


@pytest.fixture(scope="module")
def wording() -> Wording:
    return Wording()


@pytest.fixture
def reader() -> Reader:
    return Reader(FakeEncoder())


@pytest.fixture
def ref(bank_dir) -> BankRef:
    return settle_bank(bank_dir)


@pytest.fixture
def source(ref, reader) -> BankSource:
    return BankSource(load_selector(ref, reader))


def selection(
    level="none", skills=(), say="Fixed words.", state=SeekerState.ANXIETY_AND_FEAR, asked=False
) -> Selection:
    return Selection(
        risk=Risk(level=level, say=say, guidance="Ask directly.", asked=asked),
        states=(StateProbability(state=state, probability=0.9),),
        skills=skills,
        note="",
        bank_version="v1",
    )


def choice(name="calming-dread", *actions: tuple[SupportAction, str]) -> SkillChoice:
    return SkillChoice(
        name=name,
        score=0.7,
        why="",
        next_actions=tuple(NextAction(action=action, how=how) for action, how in actions),
        pitfall="",
        uri=f"skill://{name}/SKILL.md",
    )


VALIDATE = (SupportAction.EMOTIONAL_VALIDATION, "Call it sound. Say: \u201cOf course it scares you.\u201d")
EXPLORE = (SupportAction.OPEN_EXPLORATION, "Ask. Say: \u201cWhat is the worst of it?\u201d")
WAITS = (
    SupportAction.PRACTICAL_SUGGESTION,
    "A tip. Say: \u201cMake a list.\u201d (Wait: acknowledge the feeling first.)",
)
BARE = (SupportAction.SUMMARIZING, "Put it together.")


# the reader ----------------------------------------------------------------------------------------------------------


def test_a_reader_reads_as_the_encoder_does_one_text_a_run_and_nothing_twice():
    class Counting(FakeEncoder):
        def __init__(self):
            self.runs: Counter[int] = Counter()

        def read(self, turns):
            self.runs[len(turns)] += 1
            return super().read(turns)

    encoder = Counting()
    reader, turns = Reader(encoder), [Turn("seeker", WORRIED), Turn("supporter", "I see."), Turn("seeker", WORRIED)]
    plain = FakeEncoder().read(turns)
    for _ in range(2):
        found = reader.read(turns)
        assert all((one == other).all() for one, other in zip(found, plain, strict=True))
    assert encoder.runs == {1: 2}
    assert reader.read([]).states.shape == (0, len(SeekerState))


def test_what_a_talk_is_about_is_read_at_some_turns_and_stands_between_them(reader):
    said = [("seeker", f"I lost my job {n}, and my rent is due.") for n in range(1, 11)]
    plain = FakeEncoder()
    for turns, read in ((1, 1), (2, 2), (3, 2), (4, 4), (6, 4), (7, 7), (10, 7)):
        mixed = [turn for pair in zip(said[:turns], [("supporter", "Yes.")] * turns, strict=True) for turn in pair]
        assert (reader.read_dialogue(mixed) == plain.read_dialogue(said[:read])).all()


def test_the_quick_desk_answers_as_the_desk_does():
    desk = RiskDesk.load()
    quick, talks = quick_desk(desk), [
        talk(WORRIED), talk(CRISIS), talk(WORRIED, "Are you thinking of ending your life?", "No, never."),
        talk("I can't go on.", "Are you thinking about suicide?", "Sometimes, yes."),
    ]  # fmt: skip
    levels = set()
    for said in talks * 2:
        conversation = as_conversation(said)
        assert quick.assess(conversation) == desk.assess(conversation)
        levels.add(desk.assess(conversation).level)
    assert len(levels) > 1


# actions by a policy -------------------------------------------------------------------------------------------------


def test_the_shipped_counts_are_those_of_the_labels():
    assert count_actions() == load_human_actions()


def test_a_turn_with_several_actions_counts_once():
    counts = load_human_actions()
    assert sum(sum(row.values()) for row in counts.counts.values()) == pytest.approx(counts.turns, abs=0.1)


async def test_no_skill_does_what_humans_did_as_often(reader, wording):
    agent = action_agent("no-skill", reader, RiskDesk.load(), wording)
    line = "I am so worried, anxious and afraid."
    found = Counter([(await agent.reply(talk(line), rng(i))).actions[0] for i in range(1500)])
    shares = human_policy()(SeekerState.ANXIETY_AND_FEAR)
    for action, share in shares.items():
        assert found[action] / 1500 == pytest.approx(share, abs=0.04)
    assert set(found) <= set(shares)


@pytest.mark.parametrize("name", ONLY)
async def test_a_known_group_does_one_kind_of_thing_and_never_says_it_twice(name, reader, wording):
    agent, said = action_agent(name, reader, RiskDesk.load(), wording), [WORRIED]
    for number in range(10):
        reply = await agent.reply(talk(*said), rng(number))
        assert reply.actions[0] in ONLY[name] and reply.text not in said and reply.skills == ()
        said += [reply.text, f"Well, {number}."]


async def test_an_agent_without_a_bank_notes_the_risk_and_has_no_rail(reader, wording):
    agent = ActionAgent("x", lambda _: {SupportAction.RESTATEMENT: 1.0}, reader, RiskDesk.load(), wording)
    reply = await agent.reply(talk(CRISIS), rng())
    assert (reply.risk, reply.rail, reply.actions) == ("high", "none", (SupportAction.RESTATEMENT,))


# the bank ------------------------------------------------------------------------------------------------------------


async def test_the_bank_agent_says_a_line_of_the_skill_it_selected(source, wording):
    reply = await BankAgent(source, wording).reply(talk(WORRIED), rng())
    assert reply.followed in {skill.name for skill in reply.skills} and reply.bank_version
    text = await source.text(reply.followed)
    assert f'Say: "{reply.text}"' in text
    assert [skill.score for skill in reply.skills] == sorted((s.score for s in reply.skills), reverse=True)


def test_the_line_to_say_is_taken_out_of_the_advice():
    how = "Name it. Say: \u201cIt is \u2018heavy\u2019.\u201d (Wait: too little has been said to sum up.)"
    assert said_by(NextAction(action=SAFETY, how=how)) == "It is \u2018heavy\u2019."
    assert said_by(NextAction(action=SAFETY, how="Name it.")) == ""


def test_the_first_step_comes_first_and_then_the_next_fresh_one(wording):
    chosen = selection(skills=(choice("a", VALIDATE, EXPLORE), choice("b", EXPLORE)))
    first = follow(chosen, frozenset(), wording, rng())
    assert (first.text, first.followed, first.actions) == ("Of course it scares you.", "a", (VALIDATE[0],))
    second = follow(chosen, frozenset({first.text}), wording, rng())
    assert (second.text, second.actions) == ("What is the worst of it?", (EXPLORE[0],))
    third = follow(chosen, frozenset({first.text, second.text}), wording, rng())
    assert third.text not in {first.text, second.text} and third.actions == (VALIDATE[0],)


def test_a_step_that_is_to_wait_waits_unless_all_do(wording):
    assert follow(selection(skills=(choice("a", WAITS, EXPLORE),)), (), wording, rng()).actions == (EXPLORE[0],)
    assert follow(selection(skills=(choice("a", WAITS),)), (), wording, rng()).text == "Make a list."


def test_a_step_without_a_line_is_worded_from_the_library(wording):
    reply = follow(selection(skills=(choice("a", BARE),)), frozenset(), wording, rng())
    assert reply.text == wording.line(BARE[0], SeekerState.ANXIETY_AND_FEAR, (), rng())


def test_without_a_skill_it_reflects_and_asks_as_the_note_says(wording):
    reply = follow(selection(), frozenset(), wording, rng())
    assert reply.actions == ABSTAINS and reply.followed is None and reply.text


def test_at_elevated_risk_the_check_comes_first_and_once(wording):
    chosen = selection("elevated", (choice("a", (SAFETY, "Ask directly."), VALIDATE),))
    first = follow(chosen, frozenset(), wording, rng())
    assert (first.text, first.rail, first.actions, first.followed) == ("Fixed words.", "check", (SAFETY,), None)
    second = follow(chosen, frozenset({"Fixed words."}), wording, rng())
    assert (second.text, second.rail, second.followed) == ("Of course it scares you.", "none", "a")


def test_once_the_question_is_answered_the_plan_is_followed_and_asks_nothing_again(wording):
    asks = (SAFETY, "Ask. Say: \u201cAre you thinking about suicide?\u201d")
    refers = (SAFETY, "Name a doctor. Say: \u201cA family doctor could hear the short version.\u201d")
    chosen = selection("elevated", (choice("a", asks, refers, VALIDATE),), asked=True)
    reply = follow(chosen, frozenset(), wording, rng())
    assert (reply.text, reply.rail) == ("A family doctor could hear the short version.", "none")
    again = follow(chosen, frozenset({reply.text, "Fixed words."}), wording, rng())
    assert (again.text, again.rail, again.risk) == ("Of course it scares you.", "none", "elevated")


def test_a_step_in_nearly_the_same_words_gives_way_to_another(wording):
    near = frozenset({"Well: of course it scares you!"})
    reply = follow(selection(skills=(choice("a", VALIDATE), choice("b", EXPLORE))), near, wording, rng())
    assert (reply.text, reply.followed) == ("What is the worst of it?", "b")


@pytest.mark.parametrize("action", SupportAction)
def test_no_action_is_worded_as_a_repetition_in_ten_rounds(action, wording):
    said: set[str] = set()
    for number in range(10):
        line = wording.line(action, SeekerState.LONELINESS_AND_DISCONNECTION, said, rng(number))
        assert max((alike(line, earlier) for earlier in said), default=0) < ALIKE
        said |= {line, f"I see. {line}"}


def test_when_everything_was_said_the_least_alike_is_said(wording):
    action, state = SupportAction.SUMMARIZING, SeekerState.RESISTANCE
    said: set[str] = set()
    while (line := wording.line(action, state, said, rng())) not in said:
        said.add(line)
    assert len(said) > 10
    kept = next(iter(said))
    nearly = (said - {kept}) | {kept.rsplit(maxsplit=2)[0] + " and so on"}
    assert wording.line(action, state, nearly, rng()) == kept


def test_at_high_risk_nothing_but_the_fixed_text_is_said(wording):
    for said in (frozenset(), frozenset({"Fixed words."})):
        reply = follow(selection("high"), said, wording, rng())
        assert (reply.text, reply.rail, reply.actions) == ("Fixed words.", "fixed", (SAFETY,))


async def test_a_crisis_gets_the_fixed_text_of_the_protocol(source, wording):
    reply = await BankAgent(source, wording).reply(talk(CRISIS), rng())
    desk = RiskDesk.load()
    assert reply.text == desk.assess(as_conversation(CRISIS)).say and reply.rail == "fixed" and reply.skills == ()


def test_a_bank_is_pinned_and_a_changed_one_refused(ref, bank_dir, reader):
    path = bank_dir / "calming-dread" / "SKILL.md"
    path.write_text(path.read_text(encoding="utf-8").replace("Call the fear sound", "Call it sound"), encoding="utf-8")
    with pytest.raises(BankError, match="the run began with"):
        load_selector(ref, reader)


def test_versions_are_for_banks_that_have_them(bank_dir):
    with pytest.raises(BankError, match="plain folder"):
        settle_bank(bank_dir, "v0001")


# language models -----------------------------------------------------------------------------------------------------


async def test_without_skills_the_model_gets_the_plain_prompt_and_the_talk():
    client = ScriptedClient(lambda request: " A reply. ")
    reply = await LLMSupporter(client, "m").reply(talk(WORRIED, "I see.", "Do you?"), rng())
    request = client.requests[0]
    assert reply.text == "A reply." and request.role == Role.SUPPORTER and request.model == "m"
    assert [(m.role, m.content) for m in request.messages] == [
        ("user", WORRIED),
        ("assistant", "I see."),
        ("user", "Do you?"),
    ]
    assert "skill" not in request.system.lower()


async def test_with_skills_the_model_gets_those_of_this_moment(source):
    client = ScriptedClient(lambda request: "A reply.")
    reply = await LLMSupporter(client, "m", source, "bank").reply(talk(WORRIED), rng())
    system = client.requests[0].system
    assert len(reply.skills) == SKILLS_IN_PROMPT and reply.followed == reply.skills[0].name
    for skill in reply.skills:
        assert (await source.text(skill.name)).strip() in system
    names = [skill.name for skill in reply.skills]
    assert [system.index(f'<skill name="{name}">') for name in sorted(names)] == sorted(
        system.index(f'<skill name="{name}">') for name in names
    )


async def test_at_high_risk_no_model_is_asked(source):
    client = ScriptedClient(lambda request: "never")
    reply = await LLMSupporter(client, "m", source, "bank").reply(talk(CRISIS), rng())
    assert client.requests == [] and reply.rail == "fixed" and reply.text


async def test_at_elevated_risk_the_model_is_told_what_comes_first():
    class Elevated:
        async def select(self, talk):
            return selection("elevated", (choice("a", VALIDATE),))

        async def text(self, name):
            return "# A skill"

    client = ScriptedClient(lambda request: "How are you?")
    reply = await LLMSupporter(client, "m", Elevated(), "bank").reply(talk(WORRIED), rng())
    assert reply.rail == "check" and "Ask directly." in client.requests[0].system
    assert "Fixed words." in client.requests[0].system


# what nobody may know ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
async def test_no_prompt_of_a_supporter_holds_a_profile_or_its_need(split, source):
    """Every part of a profile but the first line is looked for in all that the supporter's model gets."""
    asked: list[LLMRequest] = []

    def answer(request: LLMRequest) -> str:
        asked.append(request)
        return "I see. Tell me more."

    agent = LLMSupporter(ScriptedClient(answer), "m", source, "bank")
    total = 0
    for each in load_profiles(split).profiles[::40]:
        asked.clear()
        await converse(each, agent, ScriptedSeeker([0] * 9), seed=1)
        given = "\n".join((request.system + "".join(m.content for m in request.messages)) for request in asked)
        scene, person = each.scene, each.person
        parts = [each.wish, each.id, scene.background, scene.tried, scene.hurts_most, scene.high, scene.low]
        parts += [scene.middling, scene.id, person.speech, person.habits, person.id]
        assert not [part for part in parts if part and part in given]
        assert all(request.subject == "" for request in asked)
        total += len(asked)  # none in a talk that opens at high risk
    assert total > 10


async def test_no_local_agent_is_given_a_profile(source, wording):
    given: list[str] = []

    class Listening(BankAgent):
        async def reply(self, talk, rng):
            given.extend(message.content for message in talk)
            return await super().reply(talk, rng)

    await converse(profile(), Listening(source, wording), ScriptedSeeker([0] * 9), seed=1)
    assert given and SECRET not in " ".join(given) and profile().need not in " ".join(given)


# over the protocol ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_over_the_protocol_the_talks_are_the_same_to_the_byte(ref, source, wording):
    lines = [WORRIED, "I can't breathe when I think of it.", CRISIS, "No. I am fine.", "It is hopeless.", *"abcd"]
    async with open_mcp_source(ref, (sys.executable, str(SERVE_FAKE), str(ref.folder))) as remote:
        found = [
            await converse(
                profile(first_line=WORRIED), BankAgent(one, wording), ScriptedSeeker([0] * 9, lines), seed=3
            )
            for one in (source, remote)
        ]  # fmt: skip
        assert found[0].model_dump_json() == found[1].model_dump_json()
        assert {turn.rail for turn in found[1].turns} >= {"none", "fixed"}
        name = found[1].turns[0].followed
        assert name is not None and (await remote.text(name)).strip() == (await source.text(name)).strip()


@pytest.mark.slow
async def test_a_server_on_another_bank_is_refused(ref):
    other = ref._replace(version="v9999")
    with pytest.raises(EscError, match="the run is about v9999"):
        async with open_mcp_source(other, (sys.executable, str(SERVE_FAKE), str(ref.folder))):
            pass


# casts ---------------------------------------------------------------------------------------------------------------


def test_a_known_group_has_no_words_by_a_model(ref):
    with pytest.raises(InputError, match="no words by a model"):
        CastRecipe("only-advice", ref, supporter="llm")


def test_a_recipe_names_the_models_it_needs(ref):
    assert CastRecipe("bank", ref).roles() == () and not CastRecipe("bank", ref).asks_models
    both = CastRecipe("bank", ref, supporter="llm", seeker="llm")
    assert both.roles() == (Role.SUPPORTER, Role.SCORER, Role.SEEKER) and both.asks_models
