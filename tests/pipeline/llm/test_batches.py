"""Bulk work through the batches endpoints of the local server."""

import asyncio
import json

import pytest

from esc_skills.pipeline.llm.batches import prefetch
from esc_skills.pipeline.llm.call import Call
from esc_skills.pipeline.llm.journal import Line
from esc_skills.skills_bank.errors import BudgetError, LLMRefused, LLMUnavailable

from .conftest import Mood, make_request

GOOD = {"mood": "calm", "strength": 2}


def wanted(count: int):
    return [(make_request(f"line {i}", model="claude-haiku-4-5", subject=f"d{i}"), Mood) for i in range(count)]


async def test_a_batch_fills_the_journal_at_half_price(door, server, messages):
    server.script = lambda body: messages.Reply(json.dumps(GOOD), input_tokens=1000, output_tokens=100)
    async with door() as client:
        assert await prefetch(client, wanted(5), poll=0.01) == 5
        for request, schema in wanted(5):
            assert (await client.structured(request, schema)).mood == "calm"
        spent = client.journal.spent()
    assert server.requests == [] and len(server.batches) == 1
    assert spent.calls == 5 and spent.usd == pytest.approx(5 * (1000 + 500) / 1e6 / 2)


async def test_known_and_repeated_calls_are_not_batched(door, server):
    server.script = lambda body: GOOD
    async with door() as client:
        await client.structured(*wanted(1)[0])
        assert await prefetch(client, wanted(3) + wanted(3), poll=0.01) == 2
        assert await prefetch(client, wanted(3), poll=0.01) == 0
    assert [len(batch["requests"]) for batch in server.batches.values()] == [2]


async def test_large_work_goes_in_several_batches(door, server):
    server.script = lambda body: GOOD
    async with door() as client:
        assert await prefetch(client, wanted(7), poll=0.01, most=3) == 7
    assert [len(batch["requests"]) for batch in server.batches.values()] == [3, 3, 1]


async def test_what_a_batch_does_not_answer_is_failed_and_asked_by_an_ordinary_call(door, server, messages):
    def script(body):
        return messages.Reply(status=500) if "line 1" in str(body["messages"]) and not server.requests else GOOD

    server.script = script
    async with door() as client:
        assert await prefetch(client, wanted(3), poll=0.01) == 2
        assert [f.subject for f in client.journal.failures()] == ["d1"]
        assert client.journal.failures()[0].reason == "errored in a batch"
        for request, schema in wanted(3):
            await client.structured(request, schema)
        assert client.journal.failures() == []
    assert len(server.requests) == 1


async def test_an_answer_that_does_not_fit_is_mended_by_an_ordinary_call(door, server):
    server.script = lambda body: GOOD if len(body["messages"]) > 1 else "no json"
    async with door() as client:
        await prefetch(client, wanted(1), poll=0.01)
        assert (await client.structured(*wanted(1)[0])).mood == "calm"
    assert len(server.requests) == 1


async def test_a_run_that_is_stopped_while_it_waits_finds_its_batch_again(door, server):
    server.script = lambda body: GOOD
    server.batch_polls = 1000
    async with door() as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(prefetch(client, wanted(3), poll=0.01), 0.2)
    for batch in server.batches.values():
        batch["polls"] = 0
    async with door() as client:
        with pytest.raises(LLMUnavailable, match="waits in a message batch"):
            await client.structured(*wanted(1)[0])
        assert await prefetch(client, wanted(3), poll=0.01) == 3
        assert client.journal.spent().calls == 3
    assert len(server.batches) == 1 and server.requests == []


async def test_a_batch_under_way_counts_against_the_caps_and_is_not_waited_for(door, server):
    server.batch_polls = 1000
    async with door(llm_cap_calls=4) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(prefetch(client, wanted(3), poll=0.01), 0.2)
    async with door(llm_cap_calls=4) as client:
        await client.text(make_request("one more"))
        with pytest.raises(BudgetError):
            await asyncio.wait_for(client.text(make_request("too many")), 2)


@pytest.mark.parametrize("taken", [True, False])
async def test_a_run_killed_between_sending_a_batch_and_reading_its_id(door, server, taken):
    server.script = lambda body: GOOD
    async with door() as client:
        calls = [Call.of(request, schema) for request, schema in wanted(3)]
        client.journal.open_batch((Line.of(call), client.budget.worst(call, batch=True)) for call in calls)
        if taken:
            requests = [{"custom_id": call.hash, "params": client.api.body(call)} for call in calls]
            await client.api.sdk.messages.batches.create(requests=requests)
    async with door() as client:
        assert await prefetch(client, wanted(3), poll=0.01) == 3
        assert client.journal.batches() == []
    assert len(server.batches) == 1


async def test_batches_keep_the_caps(door, server, messages):
    server.script = lambda body: messages.Reply(json.dumps(GOOD), input_tokens=10, output_tokens=10)
    async with door(llm_cap_calls=4) as client:
        with pytest.raises(BudgetError, match="no room"):
            await prefetch(client, wanted(6), poll=0.01)
        assert client.journal.spent().calls == 4
        assert client.budget.spent.calls == 4
    assert [len(batch["requests"]) for batch in server.batches.values()] == [4]


async def test_a_server_without_batches_says_so_and_nothing_is_left_behind(door, server):
    async with door(llm_base_url=f"{server.url}/elsewhere", llm_cap_calls=2) as client:
        with pytest.raises(LLMRefused, match="a batch of 2: status 404"):
            await prefetch(client, wanted(2), poll=0.01)
        assert client.journal.batches() == []
        assert client.budget.fits(client.budget.worst(Call.of(*wanted(1)[0])))
