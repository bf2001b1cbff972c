"""The client over real HTTP: answers, repairs, retries, the journal, caps."""

import asyncio
import json
import logging
import sqlite3
import time

import pytest

from esc_skills.pipeline.llm.client import LLMMessage
from esc_skills.skills_bank.errors import BudgetError, InputError, LLMAnswerError, LLMRefused, LLMUnavailable

from .conftest import KEY, Mood, make_request

GOOD = {"mood": "calm", "strength": 2}


def in_turn(*answers):
    """A script that gives its answers one by one and fails when it is asked for more."""
    left = list(answers)
    return lambda body: left.pop(0)


async def test_text_comes_back_and_the_request_is_a_messages_request(door, server):
    server.script = lambda body: "It sounds calm."
    async with door() as client:
        assert await client.text(make_request(temperature=0.5)) == "It sounds calm."
    seen = server.requests[0]
    assert seen.body["model"] == "test-model" and seen.body["max_tokens"] == 50 and seen.body["temperature"] == 0.5
    assert seen.body["system"] == [
        {"type": "text", "text": "Name the mood of a line.", "cache_control": {"type": "ephemeral"}}
    ]
    assert seen.body["messages"] == [{"role": "user", "content": "How does this line sound?"}]
    assert seen.headers["authorization"] == f"Bearer {KEY}"


async def test_the_key_can_go_as_x_api_key(door, server):
    async with door(llm_auth="x-api-key") as client:
        await client.text(make_request())
    assert server.requests[0].headers["x-api-key"] == KEY
    assert "authorization" not in server.requests[0].headers


async def test_without_caching_the_system_text_is_plain(door, server):
    async with door(llm_cache=False) as client:
        await client.text(make_request())
    assert server.requests[0].body["system"] == "Name the mood of a line."


@pytest.mark.parametrize("way", ["native", "tool", "text"])
async def test_structured_answers_by_each_way_a_server_may_know(door, server, way):
    server.script = lambda body: GOOD
    async with door(llm_structured=way) as client:
        assert await client.structured(make_request(), Mood) == Mood(mood="calm", strength=2)
    body = server.requests[0].body
    assert ("output_config" in body, "tools" in body) == (way == "native", way == "tool")
    assert ("JSON schema" in body["system"][0]["text"]) == (way == "text")


async def test_a_fenced_answer_is_read(door, server):
    server.script = lambda body: "Here it is:\n```json\n" + json.dumps(GOOD) + "\n```"
    async with door() as client:
        assert (await client.structured(make_request(), Mood)).mood == "calm"


@pytest.mark.parametrize("first", ['{"mood": "calm"', '{"mood": "calm", "strength": 9}', "I would rather talk."])
async def test_an_answer_that_does_not_fit_is_asked_for_once_more_with_the_error(door, server, first):
    server.script = in_turn(first, GOOD)
    async with door() as client:
        assert (await client.structured(make_request(), Mood)).strength == 2
    said = server.requests[1].body["messages"]
    assert said[1] == {"role": "assistant", "content": first}
    assert said[2]["role"] == "user" and "does not fit the schema" in said[2]["content"]


async def test_a_second_misfit_fails_with_its_reason_and_is_journaled(door, server):
    server.script = in_turn('{"mood": "calm", "strength": 9}', '{"mood": "calm", "strength": 8}')
    async with door() as client:
        with pytest.raises(LLMAnswerError, match="strength: Input should be less than or equal to 5") as caught:
            await client.structured(make_request(), Mood)
        assert caught.value.reason.startswith("strength:")
        failures = client.journal.failures()
        assert [f.subject for f in failures] == ["d1"] and "strength" in failures[0].reason
        assert client.journal.spent().calls == 2


async def test_a_failed_call_is_tried_again_on_resume(door, server):
    server.script = in_turn("no", "no", GOOD)
    async with door() as client:
        with pytest.raises(LLMAnswerError):
            await client.structured(make_request(), Mood)
    async with door() as client:
        assert (await client.structured(make_request(), Mood)).mood == "calm"
        assert client.journal.failures() == []
    assert len(server.requests) == 3


async def test_a_cut_answer_is_asked_for_with_more_room(door, server, messages):
    server.script = in_turn(messages.Reply('{"mood": "ca', stop_reason="max_tokens"), GOOD)
    async with door() as client:
        assert (await client.structured(make_request(), Mood)).mood == "calm"
    assert [seen.body["max_tokens"] for seen in server.requests] == [50, 100]


async def test_an_answer_cut_twice_fails(door, server, messages):
    server.script = lambda body: messages.Reply("It sou", stop_reason="max_tokens")
    async with door() as client:
        with pytest.raises(LLMAnswerError, match=r"cut off at max_tokens \(100\)"):
            await client.text(make_request())
    assert len(server.requests) == 2


async def test_a_refusal_is_not_asked_again(door, server, messages):
    server.script = lambda body: messages.Reply("", stop_reason="refusal")
    async with door() as client:
        with pytest.raises(LLMAnswerError, match="refused"):
            await client.structured(make_request(), Mood)
    assert len(server.requests) == 1


async def test_an_empty_answer_is_asked_for_once_more(door, server):
    server.script = in_turn(" ", "Calm.")
    async with door() as client:
        assert await client.text(make_request()) == "Calm."


@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_passing_failures_are_retried(door, server, messages, status):
    server.script = in_turn(messages.Reply(status=status), messages.Reply(status=status), "Calm.")
    async with door() as client:
        assert await client.text(make_request()) == "Calm."
    assert len(server.requests) == 3


async def test_retries_come_to_an_end(door, server, messages):
    server.script = lambda body: messages.Reply(status=529, error="overloaded_error")
    async with door(llm_retries=2) as client:
        with pytest.raises(LLMUnavailable, match=r"status 529 overloaded_error.*after 3 attempts"):
            await client.text(make_request())
        assert "529" in client.journal.failures()[0].reason
        assert client.journal.spent().calls == 0


async def test_a_body_that_is_no_json_is_retried(door, server, messages):
    server.script = in_turn(messages.Reply(raw=b"<html>busy"), messages.Reply(raw=b'{"content": ['), "Calm.")
    async with door() as client:
        assert await client.text(make_request()) == "Calm."


async def test_a_slow_answer_is_given_up_and_asked_for_again(door, server, messages):
    server.script = in_turn(messages.Reply("late", delay=5), "Calm.")
    async with door(llm_timeout=0.2) as client:
        assert await client.text(make_request()) == "Calm."


async def test_a_server_that_is_not_there(door, server):
    async with door(llm_retries=1) as client:
        server.__exit__()
        with pytest.raises(LLMUnavailable, match=r"127\.0\.0\.1 cannot be reached, after 2 attempts"):
            await client.text(make_request())


async def test_retry_after_is_honoured_by_all_requests(door, server, messages):
    server.script = in_turn(messages.Reply(status=429, headers={"retry-after": "0.4"}), *["Calm."] * 4)
    async with door(llm_in_flight=1) as client:
        start = time.monotonic()
        await asyncio.gather(*(client.text(make_request(f"line {i}")) for i in range(4)))
        assert time.monotonic() - start >= 0.4
    assert server.requests[1].at - server.requests[0].at >= 0.4


async def test_a_wait_of_hours_is_not_waited(door, server, messages):
    server.script = lambda body: messages.Reply(status=429, headers={"retry-after": "7200"})
    async with door() as client:
        with pytest.raises(LLMUnavailable, match="after 1 attempts"):
            await client.text(make_request())


async def test_a_4xx_is_refused_at_once_and_names_what_the_server_said(door, server, messages):
    server.script = lambda body: messages.Reply(status=404, error="not_found_error", message="model: test-model")
    async with door() as client:
        with pytest.raises(LLMRefused, match="mood@abc123 on d1: status 404 not_found_error: model: test-model"):
            await client.text(make_request())
    assert len(server.requests) == 1


async def test_a_server_that_quotes_the_dialogue_is_not_quoted(door, server, messages):
    line = "The lamp in the hallway keeps me awake every single night."
    server.script = lambda body: messages.Reply(status=400, message=f"bad input: {line}")
    async with door() as client:
        with pytest.raises(LLMRefused) as caught:
            await client.text(make_request(line))
    assert "hallway" not in str(caught.value) and "left out" in str(caught.value)


async def test_the_same_request_is_sent_once(door, server):
    server.latency = 0.05
    async with door() as client:
        answers = await asyncio.gather(*(client.text(make_request()) for _ in range(10)))
        assert set(answers) == {"ok"}
        assert await client.text(make_request(subject="d2", prompt="other@1")) == "ok"
    async with door() as client:
        assert await client.text(make_request()) == "ok"
    assert len(server.requests) == 1


async def test_one_caller_that_gives_up_does_not_cost_the_other_its_answer(door, server):
    server.latency = 0.1
    async with door() as client:
        first = asyncio.create_task(client.text(make_request()))
        second = asyncio.create_task(client.text(make_request()))
        await asyncio.sleep(0.02)
        first.cancel()
        assert await second == "ok"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"system": "Other."}, {"max_tokens": 51}, {"temperature": 0.1}, {"content": "Other?"}],
)
async def test_what_decides_the_answer_makes_another_request(door, server, change):
    async with door() as client:
        await client.text(make_request())
        await client.text(make_request(**change))
    assert len(server.requests) == 2


async def test_the_schema_makes_another_request(door, server):
    server.script = lambda body: GOOD
    async with door() as client:
        await client.text(make_request())
        await client.structured(make_request(), Mood)
    assert len(server.requests) == 2


async def test_contact_details_are_masked_before_sending(door, server):
    messages = (
        LLMMessage(role="user", content="Write to pat.doe@example.org please."),
        LLMMessage(role="assistant", content="You mean @pat_doe_example?"),
        LLMMessage(role="user", content="Yes, or call 555-010-4477."),
    )
    async with door() as client:
        await client.text(make_request(messages=messages, system="Ask help@example.org."))
    sent = json.dumps(server.requests[0].body["messages"])
    assert "<EMAIL>" in sent and "<HANDLE>" in sent and "<PHONE>" in sent
    assert "pat" not in sent and "4477" not in sent
    assert "help@example.org" in server.requests[0].body["system"][0]["text"]


async def test_neither_key_nor_prompt_is_in_logs_journal_or_errors(door, server, messages, caplog, tmp_path):
    line = "The lamp in the hallway keeps me awake."
    server.script = in_turn(
        "Calm.", "no", messages.Reply(status=500), messages.Reply(status=401, message=f"invalid key {KEY}")
    )
    told = []
    with caplog.at_level(logging.DEBUG):
        async with door(llm_retries=1) as client:
            await client.text(make_request(line))
            with pytest.raises(LLMRefused) as caught:
                await client.structured(make_request(line), Mood)
            told += [str(caught.value), repr(caught.value), repr(client.api.__dict__)]
            kept = "".join(path.read_bytes().decode("latin-1") for path in tmp_path.glob("journal.db*"))
    assert "invalid key ***" in told[0]
    assert "mood@abc123" in kept and "Calm." in kept
    for place in (*told, kept, caplog.text):
        assert KEY not in place
        assert "hallway" not in place
    assert (tmp_path / "journal.db").stat().st_mode & 0o077 == 0


async def test_the_cap_on_calls_is_never_passed(door, server):
    async with door(llm_cap_calls=5) as client:
        got = await asyncio.gather(*(client.text(make_request(f"l{i}")) for i in range(9)), return_exceptions=True)
        assert sum(answer == "ok" for answer in got) == 5
        errors = [answer for answer in got if isinstance(answer, BudgetError)]
        assert len(errors) == 4 and "The cap of 5 calls is reached" in str(errors[0])
        assert "ESC_LLM_CAP_CALLS" in str(errors[0])
        assert await client.text(make_request("l0")) == "ok"  # the journal is free
    assert len(server.requests) == 5


async def test_a_cap_counts_over_resumes_of_the_same_run_only(door, server):
    async with door(run="a", llm_cap_calls=1) as client:
        await client.text(make_request("one"))
    async with door(run="a", llm_cap_calls=1) as client:
        with pytest.raises(BudgetError):
            await client.text(make_request("two"))
    async with door(run="b", llm_cap_calls=1) as client:
        await client.text(make_request("two"))
        await client.text(make_request("one"))
    assert len(server.requests) == 2


async def test_the_cap_on_tokens_holds_with_many_calls_under_way(door, server, messages):
    server.script = lambda body: messages.Reply("ok", input_tokens=10, output_tokens=50)
    async with door(llm_cap_tokens=1000) as client:
        got = await asyncio.gather(*(client.text(make_request(f"l{i}")) for i in range(40)), return_exceptions=True)
        spent = client.journal.spent()
        assert spent.tokens <= 1000
        # Calls whose worst case does not fit wait for those under way, so most of the cap is used.
        assert spent.tokens >= 850
        assert all(answer == "ok" or isinstance(answer, BudgetError) for answer in got)


async def test_the_cap_on_money(door, server, messages, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text('prices: [{model: "test-*", input: 1000, output: 5000}]', encoding="utf-8")
    server.script = lambda body: messages.Reply("ok", input_tokens=10, output_tokens=10)
    async with door(llm_cap_usd=0.5, llm_prices=prices) as client:
        await client.text(make_request("one"))
        with pytest.raises(BudgetError, match=r"cap of 0\.5 usd"):
            for i in range(20):
                await client.text(make_request(f"l{i}"))
        spent = client.journal.spent()
        assert spent.calls >= 2 and spent.usd == pytest.approx(spent.calls * 0.06) and spent.usd <= 0.5


async def test_a_cap_on_money_with_an_unknown_price_is_an_error(door, server):
    async with door(llm_cap_usd=1) as client:
        with pytest.raises(InputError, match=r"price of 'test-model' is unknown.*ESC_LLM_PRICES"):
            await client.text(make_request())
    assert server.requests == []


async def test_tokens_and_cost_are_journaled(door, server, messages):
    server.script = lambda body: messages.Reply("ok", input_tokens=1000, output_tokens=100, cache_read=4000)
    async with door() as client:
        await client.text(make_request(model="claude-haiku-4-5"))
        await client.text(make_request())
        priced, unpriced = client.journal.totals()
    assert (priced.model, priced.calls, priced.tokens) == ("claude-haiku-4-5", 1, (1000, 100, 4000, 0))
    assert priced.usd == pytest.approx((1000 * 1 + 100 * 5 + 4000 * 0.1) / 1e6)
    assert unpriced.usd is None and unpriced.seconds > 0


async def test_a_journal_that_is_no_journal(door, server, tmp_path):
    (tmp_path / "journal.db").write_text("This is no database, only a line of text that is long enough.", "utf-8")
    with pytest.raises(InputError, match=r"journal.* cannot be used"):
        async with door():
            pass


async def test_a_journal_of_a_later_version_is_left_alone(door, server, tmp_path):
    db = sqlite3.connect(tmp_path / "journal.db")
    db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(InputError, match="version 9"):
        async with door():
            pass
