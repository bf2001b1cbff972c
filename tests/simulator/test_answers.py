"""Answers to a direct question about danger: the file, which is chosen, and how the risk check reads them."""

import asyncio
import random
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from esc_skills.simulator.answers import Answers, Given, asked
from esc_skills.simulator.emotion import says_goodbye
from esc_skills.simulator.hearing import content_words
from esc_skills.simulator.lines import Facts, LineBank, filled
from esc_skills.simulator.needs import NEED_INFO, Character, HiddenNeed
from esc_skills.simulator.profiles import Person, Profile, Scene
from esc_skills.skills_bank.conversation import Conversation, as_conversation
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.models import Message
from esc_skills.skills_bank.risk import RiskDesk
from esc_skills.skills_bank.risk_patterns import load_patterns
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState

SAD = SeekerState.SADNESS_AND_GRIEF
QUESTIONS = {
    "life": "That sounds dark. Are you thinking about killing yourself?",
    "others": "Are you thinking of hurting him?",
    "danger": "Are you in danger right now?",
    "safety": "Are you safe right now?",
}
READ_AS = {"denial": "deny", "half_admission": "partial", "evasion": "evade"}


def profile(character: Character = Character.PASSIVE, risk: Any = None, number: int = 1) -> Profile:
    return Profile(
        id=f"p{number}",
        scenario=Scenario.LONELINESS,
        character=character,
        need=HiddenNeed.TO_BE_HEARD,
        person=Person(name="Ada", age=40, gender="woman"),
        scene=Scene(id="s"),
        risk=risk,
    )


def talk(*texts: str) -> list[Message]:
    return [Message(role="supporter" if i % 2 else "seeker", content=text) for i, text in enumerate(texts)]


@lru_cache(maxsize=1)
def shipped() -> Answers:
    return Answers.load()


@lru_cache(maxsize=1)
def facts() -> list[dict[str, str]]:
    return [each.model_dump() for each in LineBank.load().facts.values()]


def told() -> list[tuple[str, str, str]]:
    """(kind, question, text) of every answer, as every situation fills it."""
    found = {
        (kind, topic, filled(answer.text, each))
        for kind, some in shipped().answers.items()
        for answer in some
        for each in facts()
        if all(each[slot] for slot in answer.slots)
        for topic in answer.to
    }
    return sorted(found)


def answered(topic: str, text: str) -> Conversation:
    return as_conversation(talk("Hello.", QUESTIONS[topic], text))


def choose(one: Profile, *texts: str, seed: int = 1) -> Given | None:
    return shipped().choose(one, SAD, talk(*texts), random.Random(seed))


# the file ------------------------------------------------------------------------------------------------------------


def test_there_are_enough_of_each_kind_and_for_each_character():
    answers = shipped().answers
    assert len(answers["denial"]) >= 40 and len(answers["half_admission"]) >= 20 and len(answers["evasion"]) >= 12
    for character in Character:
        fits = Counter(
            (kind, topic)
            for kind, some in answers.items()
            for answer in some
            for topic in answer.to
            if not answer.slots and (not answer.characters or character in answer.characters)
        )
        # nine answers a talk, all denied, at most one evaded
        assert all(fits["denial", topic] >= 9 for topic in ("life", "others")), (character, fits)
        assert fits["half_admission", "life"] >= 9 and fits["half_admission", "safety"] >= 1
        assert all(fits["denial", topic] >= 6 and fits["evasion", topic] >= 5 for topic in ("danger", "safety"))


def test_the_risk_check_reads_every_answer_as_what_it_is():
    patterns = load_patterns()
    odd = [
        (kind, topic, text)
        for kind, topic, text in told()
        # to "Are you safe?" yes is the denial
        if patterns.reply(text) != ("affirm" if (kind, topic) == ("denial", "safety") else READ_AS[kind])
    ]
    assert not odd


def test_a_denial_leaves_no_risk_and_nothing_goes_beyond_elevated():
    desk = RiskDesk.load()
    plain = {answer.text for some in shipped().answers.values() for answer in some}
    for kind, topic, text in told():
        if text in plain:  # the rest in the test below
            expected = "none" if kind == "denial" or topic == "safety" else "elevated"
            assert desk.assess(answered(topic, text)).level == expected, (kind, topic, text)


@pytest.mark.slow
def test_with_the_encoder_they_are_read_alike_whatever_fills_them():
    from esc_skills.simulator.agents_local import action_agent
    from esc_skills.simulator.casting import shared_reader
    from esc_skills.simulator.wording import Wording

    agent = action_agent("no-skill", shared_reader(), RiskDesk.load(), Wording())

    async def levels() -> list[tuple[str, str, str]]:
        found = []
        for kind, topic, text in told():
            reply = await agent.reply(answered(topic, text).turns, random.Random(1))
            if reply.risk != ("none" if kind == "denial" or topic == "safety" else "elevated"):
                found.append((kind, topic, text))
        return found

    assert not asyncio.run(levels())


def test_no_answer_takes_leave_or_is_a_line_or_says_a_need():
    lines = {line.text.lower() for line in LineBank.load().lines}
    wishes = [content_words(info.wish) for info in NEED_INFO.values()]
    for some in shipped().answers.values():
        for answer in some:
            words = content_words(answer.text)
            assert not says_goodbye(answer.text) and answer.text.lower() not in lines
            assert not any(len(wish & words) >= 0.7 * len(wish) for wish in wishes), answer.text


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"denial": [{"state": "sadness_and_grief", "text": "No, {why}."}]}, "unknown slots why"),
        ({"denial": [{"state": "sad", "text": "No."}]}, r"denial\.0\.state"),
        ({"denial": [{"state": "resistance", "text": "No.", "to": ["money"]}]}, r"denial\.0\.to"),
        ({"refusal": []}, "refusal"),
        ({"denial": [{"state": "resistance", "text": "No."}, {"state": "withdrawal", "text": "no"}]}, "2 lines say"),
        ({"denial": [{"state": "resistance", "text": "No."}]}, "none for half_admission"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: Any, fault: str):
    (tmp_path / "facts.yaml").write_text("{}", encoding="utf-8")
    (tmp_path / "answers.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(InputError, match=fault):
        Answers.load(tmp_path)


# hearing the question ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", QUESTIONS)
def test_a_direct_question_is_heard(topic: str):
    assert asked(QUESTIONS[topic]) == topic


@pytest.mark.parametrize(
    "text",
    [
        "Sometimes people wish to die. Tell me about your week.",
        "If you are ever in danger, call them.",
        "Did he hurt you?",
        "Are you worried that he might do something to himself, that he is suicidal?",
        "What was the worst of it?",
        "",
    ],
)
def test_a_statement_or_a_question_about_the_story_is_none(text: str):
    assert asked(text) is None


def test_a_question_that_points_back_is_heard():
    assert (
        asked("When people feel so, they think about dying. Has that been on your mind? Say what you like.") == "life"
    )


@pytest.mark.parametrize(("kind", "level"), [("self_harm", "elevated"), ("self_harm", "high")])
def test_the_fixed_questions_are_heard(kind: str, level: str):
    said = {"elevated": "I wish I had never been born, I feel worthless.", "high": "I want to kill myself tonight."}
    risk = RiskDesk.load().assess(as_conversation(said[level]))
    assert (risk.level, risk.kind) == (level, kind) and asked(risk.say) == "life"


def test_a_fixed_question_about_abuse_asks_for_safety_and_an_answer_raises_nothing():
    desk = RiskDesk.load()
    first = "My husband hits me when he has been drinking."
    risk = desk.assess(as_conversation(first))
    assert risk.kind == "abuse" and asked(risk.say) == "safety"
    for seed in range(20):
        given = choose(profile(), first, risk.say, seed=seed)
        assert given and "safety" in given.answer.to
        after = desk.assess(as_conversation(talk(first, risk.say, given.text)))
        assert after.level == risk.level and "direct question" not in (after.trigger or "")


# choosing ------------------------------------------------------------------------------------------------------------


def test_without_a_question_nothing_is_answered_and_nothing_drawn():
    rng = random.Random(1)
    assert shipped().choose(profile(), SAD, talk("Hello.", "How was it?"), rng) is None
    assert rng.random() == random.Random(1).random()


def test_without_a_hint_most_deny_and_none_half_admits():
    kinds = Counter(choose(profile(), "Hello.", QUESTIONS["life"], seed=s).kind for s in range(600))  # pyright: ignore[reportOptionalMemberAccess]
    assert set(kinds) == {"denial", "evasion"} and 0.86 < kinds["denial"] / 600 < 0.94


def test_with_a_hint_none_denies_at_first_and_some_do_later():
    one = profile(risk="elevated")
    first = Counter(choose(one, "Hello.", QUESTIONS["life"], seed=s).kind for s in range(300))  # pyright: ignore[reportOptionalMemberAccess]
    assert set(first) == {"half_admission", "evasion"} and min(first.values()) > 80
    later = Counter(
        choose(one, "Hello.", QUESTIONS["life"], "I'd rather not say.", QUESTIONS["life"], seed=s).kind  # pyright: ignore[reportOptionalMemberAccess]
        for s in range(300)
    )
    assert set(later) == {"half_admission", "denial"} and min(later.values()) > 80


@pytest.mark.parametrize("topic", ["others", "danger"])
def test_a_hint_at_ones_own_life_admits_nothing_else(topic: str):
    kinds = {choose(profile(risk="elevated"), "Hello.", QUESTIONS[topic], seed=s).kind for s in range(60)}  # pyright: ignore[reportOptionalMemberAccess]
    assert kinds <= {"denial", "evasion"}


@pytest.mark.parametrize("risk", [None, "elevated"])
@pytest.mark.parametrize("character", Character)
def test_nothing_is_answered_twice_and_evaded_once_at_most(character: Character, risk: str | None):
    for seed in range(10):
        said, rng = ["Hello."], random.Random(seed)
        for _ in range(9):
            said.append(QUESTIONS["life"])
            given = shipped().choose(profile(character, risk), SAD, talk(*said), rng)
            assert given is not None and given.text not in said
            assert not given.answer.characters or character in given.answer.characters
            said.append(given.text)
        kinds = [found.kind for text in said[2::2] if (found := shipped().find(profile(), text))]
        assert len(kinds) == 9 and kinds.count("evasion") <= 1


def test_when_all_is_said_the_talk_goes_on_with_other_words():
    few = Answers({"denial": shipped().answers["denial"][:1], "half_admission": (), "evasion": ()}, {})
    only = few.answers["denial"][0].text
    assert few.choose(profile(), SAD, talk("Hi.", QUESTIONS["life"]), random.Random(2)) is not None
    assert few.choose(profile(), SAD, talk("Hi.", "A?", only, QUESTIONS["life"]), random.Random(2)) is None


def test_an_answer_close_to_the_state_is_likelier():
    moods = [SeekerState.ANGER_AND_FRUSTRATION, SeekerState.CALM_OR_HOPEFUL]
    shares = []
    for state in moods:
        given = [
            shipped().choose(profile(Character.NEGATIVE), state, talk("Hi.", QUESTIONS["life"]), random.Random(s))
            for s in range(300)
        ]
        shares.append(sum(each is not None and each.answer.state == moods[0] for each in given))
    assert all(angry > 2 * calm for angry, calm in pairwise(shares))


def test_slots_are_filled_and_an_answer_is_found_by_its_filled_words():
    bank = Answers(
        {"denial": (shipped().answers["denial"][0].model_copy(update={"text": "No. It's {hurts}."}),)},
        {"s": Facts(hurts="that bowl")},
    )
    given = bank.choose(profile(), SAD, talk("Hi.", QUESTIONS["life"]), random.Random(2))
    assert given is not None and given.text == "No. It's that bowl."
    assert bank.find(profile(), given.text) == given and bank.find(profile(), "No. It's {hurts}.") is None
