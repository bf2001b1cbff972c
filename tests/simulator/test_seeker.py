"""The protocol's shapes, and that nothing a supporter is given holds the hidden need."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from esc_skills.pipeline.llm.client import LLMRequest, Role
from esc_skills.pipeline.llm.scripted import ScriptedClient
from esc_skills.simulator.agent import AgentReply
from esc_skills.simulator.emotion import RLVER, EmotionState
from esc_skills.simulator.hearing import content_words
from esc_skills.simulator.lines import LineBank
from esc_skills.simulator.llm_seeker import LLMSeeker
from esc_skills.simulator.needs import NEED_INFO, Character, HiddenNeed
from esc_skills.simulator.profiles import Person, Profile, Scene, load_profiles
from esc_skills.simulator.seeker import Appraisal, Emotion, Reaction, at_start
from esc_skills.simulator.session import converse
from esc_skills.skills_bank.models import Message

GOOD = Appraisal(content="It asks.", serves="It does.", inner="Oh.", feeling="Warm.", change=4)


def profile(need: HiddenNeed = HiddenNeed.SINCERE_PRAISE, **more: Any) -> Profile:
    return Profile(
        id=f"p-{need}",
        character=Character.AVOIDANT,
        need=need,
        person=Person(name="Ada", age=40, gender="woman", work="keeps bees"),
        scene=Scene(background="You dropped a hive.", hurts_most="The silence after."),
        **{"first_line": "I dropped a hive."} | more,
    )


class Listener:
    """An agent that keeps all it is given."""

    name = "listener"

    def __init__(self) -> None:
        self.given: list[str] = []

    async def reply(self, talk: Sequence[Message], rng: random.Random) -> AgentReply:
        self.given += [repr(message) for message in talk]
        return AgentReply(text=f"Go on, {len(talk)}.")


def test_an_emotion_knows_its_state_and_starts_where_the_rules_say():
    assert at_start() == Emotion(points=40, last=0)
    assert at_start(RLVER).points == 30
    assert Emotion(points=9, last=-5).state == EmotionState.F


def test_an_emotion_without_the_last_change_is_refused():
    with pytest.raises(ValidationError, match="last"):
        Emotion.model_validate({"points": 40})


def test_a_reaction_has_words():
    with pytest.raises(ValidationError, match="text"):
        Reaction(appraisal=GOOD, text="", goodbye=False)


@pytest.mark.parametrize("need", list(HiddenNeed))
async def test_nothing_a_supporter_is_given_holds_the_hidden_need(need: HiddenNeed):
    def answer(request: LLMRequest) -> str:
        if request.role == Role.SCORER:
            assert profile(need).wish in request.messages[0].content  # the scorer must know it
            return GOOD.model_copy(update={"inner": NEED_INFO[need].wish}).model_dump_json()
        return "They all went quiet, the bees and the people."

    agent = Listener()
    talk = await converse(profile(need), agent, LLMSeeker(ScriptedClient(answer), "judge", "player"), seed=1)
    assert len(talk.turns) == 10 and agent.given
    given = "\n".join(agent.given).lower()
    for secret in (NEED_INFO[need].wish, NEED_INFO[need].chinese, need.value, NEED_INFO[need].name):
        assert secret.lower() not in given


async def test_the_session_hands_on_the_change_of_the_turn_before():
    seen: list[int] = []

    class Watched:
        name = "watched"

        async def opening(self, profile: Profile) -> str:
            return "Hello."

        async def react(self, profile: Profile, talk: Any, emotion: Emotion, rng: random.Random) -> Reaction:
            seen.append(emotion.last)
            return Reaction(appraisal=GOOD, text=f"Well, {len(talk)}.", goodbye=False)

    await converse(profile(), Listener(), Watched(), seed=1)
    assert seen[:3] == [0, 4, 4]


def test_no_line_of_the_bank_says_a_hidden_need_outright():
    wishes = [content_words(info.wish) for info in NEED_INFO.values()]
    for line in LineBank.load().lines:
        words = content_words(line.text)
        assert not any(len(wish & words) >= 0.7 * len(wish) for wish in wishes), line.text


def test_no_first_line_of_ours_says_its_need_outright():
    for split in ("evolution", "evaluation"):
        for one in load_profiles(split).profiles:
            wish = content_words(one.wish)
            assert len(wish & content_words(one.first_line or "")) < 0.5 * len(wish), one.id
