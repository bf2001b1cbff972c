"""Input messages → a checked conversation."""

import pytest

from esc_skills.skills_bank.conversation import (
    MAX_MESSAGE_CHARS,
    MAX_MESSAGES,
    WINDOW_TURNS,
    as_conversation,
    clean,
    detect_language,
)
from esc_skills.skills_bank.errors import InputError


def test_a_string_is_one_seeker_line():
    talk = as_conversation("I feel low today")
    assert [(turn.role, turn.content) for turn in talk.turns] == [("seeker", "I feel low today")]


def test_roles_of_other_hosts_are_known_and_neighbours_merge():
    talk = as_conversation(
        [
            {"role": "user", "content": "hello"},
            {"role": "USER", "content": "anyone?"},
            {"role": "assistant", "content": "I'm here", "id": 7},
        ]
    )
    assert [turn.role for turn in talk.turns] == ["seeker", "supporter"]
    assert talk.last_seeker.content == "hello\nanyone?"


@pytest.mark.parametrize(
    ("messages", "names"),
    [
        ("   ", "no text"),
        ([], "empty"),
        (7, "int"),
        ({"role": "seeker", "content": "x"}, "list of messages"),
        ([{"role": "seeker"}], "'content' missing"),
        ([{"role": "system", "content": "x"}], "unknown role"),
        ([{"role": "seeker", "content": 3}], "messages[0].content"),
        ([{"role": "supporter", "content": "hi"}], "none is from the seeker"),
        ([{"role": "seeker", "content": "x" * (MAX_MESSAGE_CHARS + 1)}], "limit is 20,000"),
        ([{"role": "seeker", "content": "x"}] * (MAX_MESSAGES + 1), "messages, the limit"),
    ],
)
def test_unusable_input_is_named(messages: object, names: str):
    with pytest.raises(InputError) as caught:
        as_conversation(messages)  # pyright: ignore[reportArgumentType]
    assert names in str(caught.value)


def test_a_long_talk_is_windowed_and_says_so():
    turns = [{"role": ("seeker", "supporter")[i % 2], "content": f"turn {i}"} for i in range(99)]
    talk = as_conversation(turns)
    assert len(talk.turns) == 99
    assert len(talk.window) == WINDOW_TURNS
    assert talk.note is not None and "most recent" in talk.note


def test_context_is_the_two_turns_before():
    talk = as_conversation([{"role": ("seeker", "supporter")[i % 2], "content": str(i)} for i in range(5)])
    assert talk.turn_with_context(4).context == (("seeker", "2"), ("supporter", "3"))
    assert [turn.content for turn in talk.recent_seeker(2)] == ["2", "4"]


def test_control_characters_and_surrogates_go():
    assert clean("a\x00b\r\nc\ud800") == "ab\nc\ufffd"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("I don't know what to do with my life", "en"),
        ("Ich weiß nicht, was ich mit mir machen soll und bin sehr müde", "de"),
        ("no sé qué hacer, estoy muy cansada de todo", "es"),
        ("私はとても疲れました", "ja"),
        ("我很难过", "zh"),
        ("12345 !!", "unknown"),
    ],
)
def test_language(text: str, language: str):
    assert detect_language(text) == language
