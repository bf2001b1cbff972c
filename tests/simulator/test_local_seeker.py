"""The local seeker: what it hears, how it is moved, what it says, and that it is reproducible."""

import asyncio
import random
import statistics
import time

import numpy as np
import pytest

from esc_skills.pipeline.local_annotator import LocalCard
from esc_skills.simulator.answers import Answers
from esc_skills.simulator.emotion import EmotionState, end_of, moved
from esc_skills.simulator.hearing import Ear, alike
from esc_skills.simulator.judgement import (
    Interval,
    Rules,
    SeekerParams,
    disposition,
    drive,
    expected_points,
    judge,
    points_of_change,
)
from esc_skills.simulator.lines import LineBank
from esc_skills.simulator.local_seeker import LocalSeeker
from esc_skills.simulator.needs import Character, HiddenNeed
from esc_skills.simulator.profiles import Person, Profile, Scene, load_profiles
from esc_skills.simulator.response import CHANGES, ResponseModel
from esc_skills.simulator.seeker import Emotion, Reaction, at_start
from esc_skills.simulator.service import parse_service, service, service_table
from esc_skills.skills_bank.errors import InputError, ModelError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.models import Message
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction

ADVICE, VALIDATES = SupportAction.PRACTICAL_SUGGESTION, SupportAction.EMOTIONAL_VALIDATION
CARD = LocalCard(
    encoder="fake",
    change_model="none",
    thresholds=dict.fromkeys(SupportAction, 0.5),
    places=dict.fromkeys(SupportAction, 0.5),
    other_scenarios=0.3,
    probe=(),
)
LONELY = "I am lonely and alone in this town."


def profile(number: int = 1, **more) -> Profile:
    return Profile(
        **{
            "id": f"p{number}",
            "scenario": Scenario.LONELINESS,
            "character": Character.PASSIVE,
            "need": HiddenNeed.DEEP_EMPATHY,
            "person": Person(name="Ada", age=40, gender="woman"),
            "scene": Scene(id="s"),
            "first_line": LONELY,
        }
        | more
    )


@pytest.fixture(scope="module")
def seeker() -> LocalSeeker:
    return LocalSeeker(
        Ear(FakeEncoder(), CARD), ResponseModel.load(), SeekerParams.load(), LineBank.load(), Answers.load()
    )


@pytest.fixture(scope="module")
def ear() -> Ear:
    return Ear(FakeEncoder(), CARD)


def talk(*texts: str) -> list[Message]:
    return [Message(role="supporter" if i % 2 else "seeker", content=text) for i, text in enumerate(texts)]


async def react(
    seeker: LocalSeeker, reply: str, one: Profile | None = None, points: int = 40, seed: int = 1
) -> Reaction:
    return await seeker.react(
        one or profile(), talk(LONELY, reply), Emotion(points=points, last=0), random.Random(seed)
    )


async def mean_change(seeker: LocalSeeker, reply: str, **more) -> float:
    reactions = [await react(seeker, reply, profile(n, **more), seed=n) for n in range(150)]
    return statistics.mean(reaction.appraisal.change for reaction in reactions)


# Hearing


def test_it_hears_actions_from_words_alone(ear: Ear):
    assert set(ear.hear(talk(LONELY, "Try a walk, or write a call list.")).actions) == {ADVICE}


@pytest.mark.parametrize("text", ["", "  ", "…", "?!", "😀"])
def test_a_reply_without_words_is_empty(ear: Ear, text: str):
    heard = ear.hear(talk(LONELY, text))
    assert heard.empty and not heard.actions and heard.faults == ("empty",)


def test_a_reply_said_before_is_a_repetition_also_with_other_stops(ear: Ear):
    said = "It is understandable that you feel so, it makes sense."
    heard = ear.hear(talk(LONELY, said, "Hm.", "It is understandable that you feel so; it makes sense!"))
    assert heard.repeated
    assert not ear.hear(talk(LONELY, said, "Hm.", "Understandable, and what would you want to happen now?")).repeated


def test_likeness_counts_word_triples():
    assert alike("one two three four", "one two three four five") == 1
    assert alike("one two three four", "four three two one") == 0
    assert alike("", "one") == 0


def test_a_reply_about_something_else_is_off_topic_and_one_about_the_matter_is_not(ear: Ear):
    assert ear.hear(talk(LONELY, "The exam and the thesis: grades at school.")).off_topic
    assert not ear.hear(talk(LONELY, "Being lonely beside an exam at school.")).off_topic
    assert not ear.hear(talk(LONELY, "I see.")).off_topic


# Judging


@pytest.fixture(scope="module")
def rules() -> Rules:
    return Rules.of(SeekerParams.load())


def test_a_reply_that_serves_the_need_moves_further_up(rules: Rules):
    even = np.full((1, len(CHANGES)), 1 / len(CHANGES))
    at = [drive(rules, np.array([s]), np.array([40.0]), np.zeros(1), np.zeros(1)) for s in (-1.0, 0.0, 1.0)]
    points = [float(expected_points(rules, even, by)[0]) for by in at]
    assert points[0] < points[1] < points[2]


def test_expected_points_are_the_mean_of_what_is_drawn(rules: Rules):
    chances = ResponseModel.load().change_chances(SeekerState.SELF_DOUBT, {VALIDATES: 1.0})
    draws = np.random.default_rng(3).random((40_000, 2))
    by = np.full(len(draws), 0.3)
    judged = judge(rules, np.tile(chances, (len(draws), 1)), by, draws)
    assert judged.points.mean() == pytest.approx(float(expected_points(rules, chances[None], by[:1])[0]), abs=0.12)
    assert set(np.unique(judged.points)) <= set(rules.ladder.tolist())


def test_a_better_change_is_worth_more(rules: Rules):
    order = [CHANGES.index(change) for change in ("increased_resistance", "no_observable_change", "readiness_to_act")]  # pyright: ignore[reportArgumentType]
    points = points_of_change(rules, np.array(order), np.zeros(3))
    assert points[0] < points[1] < points[2]


def test_disposition_is_the_profiles_own_and_standard_normal():
    drawn = [disposition(f"profile {i}") for i in range(2000)]
    assert disposition("profile 7") == drawn[7]
    assert abs(statistics.mean(drawn)) < 0.07 and statistics.pstdev(drawn) == pytest.approx(1, abs=0.05)


def test_the_table_judges_every_action_for_every_need_both_ways():
    table = service_table()
    assert table.shape == (8, 17) and np.allclose(table.sum(axis=0), 0)
    assert (table.max(axis=1) > 0.5).all() and (table.min(axis=1) < -0.3).all()
    assert service(HiddenNeed.PRACTICAL_ADVICE, {ADVICE: 0.9, VALIDATES: 0.1}) > 0.8
    assert service(HiddenNeed.TO_BE_HEARD, {}) == 0


def test_a_table_that_leaves_an_action_out_is_refused():
    one = "\n".join(f"{need}: [{{value: 0, actions: [summarizing], why: because}}]" for need in HiddenNeed)
    with pytest.raises(InputError, match=r"to_be_heard must judge each action once; look at clarifying_question"):
        parse_service(one)


# Reacting


async def test_the_need_decides_which_reply_does_good(seeker: LocalSeeker):
    advice, comfort = "You might try a walk, or call somebody.", "That is understandable, natural, and makes sense."
    for need, better, worse in (
        (HiddenNeed.PRACTICAL_ADVICE, advice, comfort),
        (HiddenNeed.DEEP_EMPATHY, comfort, advice),
    ):
        assert await mean_change(seeker, better, need=need) > await mean_change(seeker, worse, need=need) + 2


async def test_faults_cost(seeker: LocalSeeker):
    plain = await mean_change(seeker, "It makes sense, and it is understandable.")
    assert await mean_change(seeker, "…") < plain - 3
    assert await mean_change(seeker, "The exam and the thesis make sense, grades understandable.") < plain - 2


async def test_negative_characters_are_harder_to_please(seeker: LocalSeeker):
    text = "It makes sense, and it is understandable."
    hard = await mean_change(seeker, text, character=Character.NEGATIVE)
    assert hard < await mean_change(seeker, text, character=Character.AVOIDANT)


async def test_the_same_arguments_give_the_same_bytes(seeker: LocalSeeker):
    other = LocalSeeker(
        Ear(FakeEncoder(), CARD), ResponseModel.load(), SeekerParams.load(), LineBank.load(), Answers.load()
    )
    first = [(await react(seeker, "Tell me more.", profile(n), seed=n)).model_dump_json() for n in range(20)]
    again = [(await react(other, "Tell me more.", profile(n), seed=n)).model_dump_json() for n in reversed(range(20))]
    assert first == again[::-1]
    assert len(set(first)) > 5


async def test_points_are_whole_and_stay_within_ten(seeker: LocalSeeker):
    for n in range(60):
        reaction = await react(seeker, "Maybe you could try another walk.", profile(n), seed=n)
        assert -10 <= reaction.appraisal.change <= 10 and isinstance(reaction.appraisal.change, int)


async def test_it_reads_its_own_last_line_and_the_encoder_other_words(seeker: LocalSeeker):
    one = profile()
    line = next(line for line in LineBank.load().lines if not line.slots and line.state == SeekerState.SELF_BLAME)
    assert seeker.state_before(one, talk(line.text, "Hm.")) == SeekerState.SELF_BLAME
    assert seeker.state_before(one, talk("I am so angry and furious.", "Hm.")) == SeekerState.ANGER_AND_FRUSTRATION


async def test_a_whole_talk_repeats_no_line_and_says_the_state_of_its_words(seeker: LocalSeeker):
    bank = LineBank.load()
    for n in range(6):
        one, rng = profile(n), random.Random(n)
        said, emotion = talk(await seeker.opening(one)), at_start()
        for turn in range(9):
            said.append(Message(role="supporter", content=f"Tell me more about part {turn} of what you want."))
            reaction = await seeker.react(one, said, emotion, rng)
            assert reaction.text not in {message.content for message in said}
            found = bank.find(one, reaction.text)
            assert reaction.goodbye or (found is not None and found.state == reaction.state)
            said.append(Message(role="seeker", content=reaction.text))
            change = reaction.appraisal.change
            emotion = Emotion(points=moved(emotion.points, change), last=change)
            if end_of(emotion.points, turn + 1, goodbye=reaction.goodbye):
                break


async def test_it_leaves_only_when_content_or_giving_up(seeker: LocalSeeker):
    middle = [await react(seeker, "Maybe you could try.", profile(n), points=55, seed=n) for n in range(80)]
    assert not any(reaction.goodbye for reaction in middle)
    low = [await react(seeker, "…", profile(n), points=10, seed=n) for n in range(80)]
    assert 0.25 < statistics.mean(reaction.goodbye for reaction in low) < 0.75


async def test_notes_are_made_of_labels_and_hold_no_word_of_the_talk(seeker: LocalSeeker):
    reaction = await react(seeker, "Zanzibar might try a walk.")
    notes = " ".join(map(str, reaction.appraisal.model_dump().values()))
    assert "Zanzibar" not in notes and "practical suggestion" in notes
    assert "deep empathy" in reaction.appraisal.serves  # for analysts; the words below go to the supporter
    assert "empathy" not in reaction.text


async def test_a_chinese_profile_opens_in_english_and_always_alike(seeker: LocalSeeker):
    one = profile(language="zh", first_line="\u6211\u5f88\u96be\u8fc7\u3002")
    opening = await seeker.opening(one)
    assert opening == await seeker.opening(one) and opening.isascii()
    assert await seeker.opening(profile()) == LONELY


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (talk(LONELY), "message of the supporter"),
        ([], "message of the supporter"),
        (talk(LONELY, "Hm.")[1:], "no message"),
    ],
)
async def test_a_talk_that_cannot_be_answered_is_refused(seeker: LocalSeeker, said: list[Message], why: str):
    with pytest.raises(InputError, match=why):
        await seeker.react(profile(), said, at_start(), random.Random(1))


# Parameters


def test_parameters_that_do_not_fit_together_are_refused(tmp_path):
    params = SeekerParams.load()
    for update in ({"cuts": params.cuts[:-1]}, {"ladder": (0, 20, *params.ladder[2:])}, {"goodbyes": {}}):
        with pytest.raises(ValueError):
            SeekerParams.model_validate(params.model_dump() | update)
    with pytest.raises(ModelError, match="simulator calibrate"):
        SeekerParams.load(tmp_path / "none.json")


def test_shipped_parameters_say_goodbye_at_the_ends_alone():
    goodbyes = SeekerParams.load().goodbyes
    assert goodbyes[EmotionState.S] > 0.4 and goodbyes[EmotionState.F] > 0.4
    assert max(goodbyes[state] for state in (EmotionState.A, EmotionState.B, EmotionState.C)) < 0.01
    assert isinstance(SeekerParams.load().need, Interval)


@pytest.mark.slow
def test_the_shipped_seeker_hears_a_reply_in_a_few_milliseconds():
    shipped = LocalSeeker.load()
    some = load_profiles("evaluation").profiles[:25]
    texts = [f"That sounds heavy, and it makes sense after all of this. What was number {n} like?" for n in range(4)]

    async def all_of_them() -> tuple[float, list[str]]:
        spent, said = 0.0, []
        for one in some:
            emotion = at_start()
            for text in texts:
                before = time.process_time()
                reaction = await shipped.react(
                    one, talk(one.first_line or "", f"{text} {one.id}"), emotion, random.Random(one.id)
                )
                spent += time.process_time() - before
                said.append(reaction.model_dump_json())
        return spent / (len(some) * len(texts)), said

    mean, said = asyncio.run(all_of_them())
    assert mean < 0.04  # about 5 ms on an idle core; other work may share it
    assert asyncio.run(all_of_them())[1] == said
