"""One conversation by SAGE's rules, and what the rules do not foresee."""

import random
import sys
from pathlib import Path

import pytest

from esc_skills.simulator.emotion import RLVER, EmotionState, trajectory
from esc_skills.simulator.session import NOT_TAKEN, SILENCE, Oddity, Transcript, conversation_seed, converse, messages
from esc_skills.skills_bank.errors import LLMAnswerError, LLMRefused, LLMUnavailable

sys.path.insert(0, str(Path(__file__).parent))
from scripted_cast import SECRET, ScriptedAgent, ScriptedSeeker, profile

REFUSAL = LLMAnswerError("supporter", "the model refused to answer")


async def talk(seeker, agent=None, **more) -> Transcript:
    return await converse(profile(), agent or ScriptedAgent(), seeker, seed=1, **more)


async def test_a_full_talk_has_ten_replies_and_the_last_is_not_scored():
    found = await talk(ScriptedSeeker([1] * 9))
    assert [turn.number for turn in found.turns] == list(range(1, 11))
    assert len(found.changes) == 9 and found.points == 49 and found.end == "rounds"
    last = found.turns[-1]
    assert not last.scored and last.seeker is None and last.appraisal is None and last.points == 49
    assert len(messages(found)) == 20 and messages(found)[-1].role == "supporter"


async def test_a_change_is_clipped_to_ten_and_both_are_recorded():
    found = await talk(ScriptedSeeker([25, -40] + [0] * 7))
    assert found.changes[:2] == (10, -10)
    assert found.turns[0].appraisal is not None and found.turns[0].appraisal.change == 25
    assert found.turns[0].points == 50 and found.turns[1].points == 40


async def test_the_talk_ends_at_a_hundred_and_is_capped_there():
    found = await talk(ScriptedSeeker([10] * 5 + [9, 10]))
    assert (found.points, found.end, found.emotion) == (100, "success", EmotionState.S)
    assert len(found.turns) == 7


async def test_the_talk_ends_below_ten_and_never_below_nought():
    found = await talk(ScriptedSeeker([-10] * 4))
    assert (found.points, found.end, found.emotion) == (0, "failure", EmotionState.F)
    assert len(found.turns) == 4
    nine = await talk(ScriptedSeeker([-10, -10, -10, -1]))
    assert (nine.points, nine.end) == (9, "failure")


async def test_ten_is_not_a_failure_and_the_talk_goes_on():
    found = await talk(ScriptedSeeker([-10, -10, -10, 0, 0, 0, 0, 0, 0]))
    assert found.points == 10 and found.end == "rounds" and len(found.turns) == 10


async def test_goodbye_ends_the_talk_and_its_turn_is_scored():
    found = await talk(ScriptedSeeker([3, 4, 5], goodbye_at=3))
    assert found.end == "goodbye" and found.changes == (3, 4, 5) and found.turns[-1].goodbye


async def test_goodbye_of_a_content_seeker_is_a_success():
    found = await talk(ScriptedSeeker([10] * 6, goodbye_at=6))
    assert found.end == "success"


async def test_rlver_has_no_clip_and_eight_rounds():
    found = await talk(ScriptedSeeker([25, 1, 1, 1, 1, 1, 1]), rules=RLVER)
    assert found.start == 30 and found.turns[0].points == 55 and len(found.turns) == 8 and len(found.changes) == 7


async def test_the_changes_replay_to_the_recorded_points():
    found = await talk(ScriptedSeeker(lambda _, rng: rng.randint(-14, 14)))
    assert found.trajectory == trajectory(found.changes)


async def test_the_seeker_is_told_where_it_stands_and_how_it_was_moved():
    seeker = ScriptedSeeker([5, -3] + [0] * 7)
    await talk(seeker)
    assert [(e.points, e.last) for e in seeker.emotions[:3]] == [(40, 0), (45, 5), (42, -3)]


async def test_an_empty_reply_is_recorded_and_reaches_the_seeker_as_silence():
    found = await talk(ScriptedSeeker([0] * 9), ScriptedAgent(["  ", *["Go on."] * 9]))
    assert found.turns[0].oddities == (Oddity.EMPTY_REPLY,) and found.turns[0].supporter == ""
    assert found.turns[0].scored and messages(found)[1].content == SILENCE


async def test_a_model_that_refuses_a_reply_does_not_end_the_talk():
    agent = ScriptedAgent([REFUSAL, *["Go on."] * 9])
    found = await talk(ScriptedSeeker([0] * 9), agent)
    assert found.turns[0].oddities == (Oddity.REFUSED_REPLY,) and found.turns[0].scored
    assert found.trouble == "the model refused to answer" and found.end == "rounds" and len(found.turns) == 10
    assert agent.given[1][1].content == SILENCE


async def test_a_model_that_refuses_to_play_the_seeker_ends_the_talk_where_it_stood():
    found = await talk(ScriptedSeeker([7, 0], fails_at=2, error=REFUSAL))
    assert (found.end, found.points, found.trouble) == ("refused", 47, "the model refused to answer")
    assert found.turns[-1].oddities == (Oddity.REFUSED_SEEKER,) and not found.turns[-1].scored
    assert len(found.turns) == 2


async def test_a_refused_opening_is_recorded_too():
    found = await talk(ScriptedSeeker(fails_at=0, error=REFUSAL))
    assert found.end == "refused" and found.turns == () and found.points == 40 and messages(found) == []


async def test_a_server_that_does_not_take_a_request_ends_the_talk():
    found = await talk(ScriptedSeeker([0] * 9), ScriptedAgent(["Go on.", LLMRefused("status 400")]))
    assert (found.end, found.trouble, len(found.turns)) == ("refused", NOT_TAKEN, 2)


async def test_a_server_that_fails_is_no_part_of_a_record():
    with pytest.raises(LLMUnavailable):
        await talk(ScriptedSeeker(fails_at=1, error=LLMUnavailable("gone")))


async def test_a_seeker_that_repeats_itself_is_noted_and_the_talk_goes_on():
    lines = ["I told you about the letter.", "Yes.", "I TOLD you about  the letter", "No.", *"abcde"]
    found = await talk(ScriptedSeeker([0] * 9, lines))
    odd = [turn.number for turn in found.turns if Oddity.REPEATED_SEEKER in turn.oddities]
    assert odd == [3] and found.end == "rounds" and len(found.turns) == 10


async def test_a_seeker_that_repeats_its_opening_is_noted():
    opening = profile().first_line
    found = await talk(ScriptedSeeker([0] * 9, [opening, *"abcdefgh"]))
    assert Oddity.REPEATED_SEEKER in found.turns[0].oddities


async def test_nothing_given_to_an_agent_holds_the_profile():
    agent = ScriptedAgent()
    await talk(ScriptedSeeker([0] * 9), agent)
    given = " ".join(message.content for said in agent.given for message in said)
    assert SECRET not in given and profile().need not in given
    assert agent.given[0] == tuple(messages(await talk(ScriptedSeeker([0] * 9)))[:1])


async def test_each_side_and_turn_draws_its_own_numbers():
    one = await talk(ScriptedSeeker([0] * 9), ScriptedAgent(draws=1))
    other = await talk(ScriptedSeeker([0] * 9), ScriptedAgent(draws=9))
    assert [t.seeker for t in one.turns] == [t.seeker for t in other.turns]
    assert len({t.seeker for t in one.turns}) == 10


async def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    same = [(await converse(profile(), ScriptedAgent(), ScriptedSeeker(), seed=s)).model_dump_json() for s in (5, 5, 6)]
    assert same[0] == same[1] != same[2]


def test_the_seed_of_a_conversation_is_of_run_profile_and_repeat():
    seeds = {conversation_seed(*key) for key in ((7, "a", 0), (7, "a", 1), (7, "b", 0), (8, "a", 0))}
    assert len(seeds) == 4 and conversation_seed(7, "a", 0) in seeds


async def test_tokens_and_cost_that_the_sides_report_are_recorded():
    found = await talk(ScriptedSeeker([0] * 9), ScriptedAgent(tokens=2, usd=0.25))
    assert found.turns[0].agent_spent.tokens == 2 and found.turns[0].seeker_spent.usd == 0.5
    assert found.spent.tokens == 10 * 2 + 9 * 3 and found.spent.usd == 10 * 0.25 + 9 * 0.5


async def test_a_transcript_reads_back_as_it_was_written():
    found = await talk(ScriptedSeeker(lambda _, rng: rng.randint(-10, 10)))
    assert Transcript.model_validate_json(found.model_dump_json()) == found
    assert random.Random(found.seed) is not None
