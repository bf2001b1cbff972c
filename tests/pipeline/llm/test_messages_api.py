"""The pieces of one request: waits, bodies, answers."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import BaseModel

from esc_skills.pipeline.llm import messages_api
from esc_skills.pipeline.llm.call import Call
from esc_skills.pipeline.llm.messages_api import answer_text, back_off, native_schema, read_message, wait_asked_for
from esc_skills.skills_bank.errors import InputError

from .conftest import Mood, make_request


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-4"}, 0),
        ({"retry-after": "Fri, 01 Jan 2021 00:00:00 GMT"}, 0),
    ],
)
def test_the_wait_a_server_asks_for(headers, seconds):
    assert wait_asked_for(headers) == seconds


def test_a_wait_until_a_date():
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 17 <= wait_asked_for({"retry-after": until}) <= 20


def test_the_waits_double_stay_bounded_and_are_never_shorter_than_asked(monkeypatch):
    monkeypatch.setattr(messages_api, "_FIRST_WAIT", 0.5)
    for attempt in range(12):
        assert min(0.5 * 2**attempt, 60) / 2 <= back_off(attempt, 0) <= 60
    assert 30 <= back_off(0, 30) <= 33
    assert len({back_off(3, 0) for _ in range(5)}) > 1


def test_thinking_is_no_answer_and_our_tool_is():
    blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert answer_text(blocks) == "ab"
    tool: dict[str, Any] = {"type": "tool_use", "name": "answer", "input": {"mood": "calm"}}
    assert answer_text([*blocks, tool]) == '{"mood": "calm"}'


def test_tokens_that_a_server_does_not_report_are_estimated_high():
    call = Call.of(make_request(), None)
    reply = read_message({"content": [{"type": "text", "text": "abcd"}], "stop_reason": None}, call, 0.1)
    assert reply.tokens.input == call.expected_input().high and reply.tokens.output == 2
    assert reply.stop == ""


def test_a_schema_that_native_outputs_cannot_carry():
    class Loose(BaseModel):
        """Anything."""

        anything: Any

    with pytest.raises(InputError, match="Loose cannot be asked for"):
        native_schema(Loose)
    assert native_schema(Mood)["additionalProperties"] is False


async def test_a_server_may_say_whether_to_try_again(door, server, messages):
    answers = [messages.Reply(status=400, headers={"x-should-retry": "true"}), "Calm."]
    server.script = lambda body: answers.pop(0)
    async with door() as client:
        assert await client.text(make_request()) == "Calm."
    server.script = lambda body: messages.Reply(status=500, headers={"x-should-retry": "false"})
    async with door() as client:
        with pytest.raises(messages_api.LLMRefused, match="status 500"):
            await client.text(make_request("Another line."))
    assert len(server.requests) == 3
