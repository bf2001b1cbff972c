"""The pace: bounded, halved when the server says it is too much, slowly regained."""

import asyncio
import time

import pytest

from esc_skills.pipeline.llm.pace import Pace

from .conftest import make_request


async def test_no_more_than_the_limit_are_in():
    pace = Pace(3)
    rounds = [await pace.enter() for _ in range(3)]
    fourth = asyncio.create_task(pace.enter())
    await asyncio.sleep(0.01)
    assert not fourth.done()
    pace.leave(rounds[0], answered=True)
    await asyncio.wait_for(fourth, 1)


async def test_one_burst_of_refusals_halves_once_and_answers_regain_it():
    pace = Pace(64)
    rounds = [await pace.enter() for _ in range(64)]
    for round_ in rounds:
        pace.leave(round_, answered=False, overloaded=True)
    assert pace.limit == 32
    for _ in range(33):
        pace.leave(await pace.enter(), answered=True)
    assert pace.limit == 33
    pace.leave(await pace.enter(), answered=False, overloaded=True)
    assert pace.limit == 16


async def test_the_limit_stays_between_one_and_the_most():
    pace = Pace(2)
    for _ in range(5):
        pace.leave(await pace.enter(), answered=False, overloaded=True)
    assert pace.limit == 1
    for _ in range(50):
        pace.leave(await pace.enter(), answered=True)
    assert pace.limit == 2


async def test_other_failures_do_not_slow_down():
    pace = Pace(8)
    pace.leave(await pace.enter(), answered=False)
    assert pace.limit == 8


async def test_nothing_starts_while_the_server_asks_to_wait():
    pace = Pace(4)
    start = time.monotonic()
    pace.leave(await pace.enter(), answered=False, overloaded=True, wait=0.1)
    await asyncio.gather(*(pace.enter() for _ in range(2)))
    assert time.monotonic() - start >= 0.1


async def test_a_waiter_that_is_cancelled_leaves_its_place_to_the_next():
    pace = Pace(1)
    held = await pace.enter()
    first, second = asyncio.create_task(pace.enter()), asyncio.create_task(pace.enter())
    await asyncio.sleep(0)
    first.cancel()
    pace.leave(held, answered=True)
    await asyncio.wait_for(second, 1)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_waiter_cancelled_after_its_turn_came_gives_it_back():
    pace = Pace(1)
    held = await pace.enter()
    first, second = asyncio.create_task(pace.enter()), asyncio.create_task(pace.enter())
    await asyncio.sleep(0)
    pace.leave(held, answered=True)
    first.cancel()
    await asyncio.wait_for(second, 1)


async def test_against_a_server_that_takes_eight_the_pace_settles_near_it(door, server, messages):
    def script(body):
        return messages.Reply(status=429) if server.in_flight > 8 else "ok"

    server.script, server.latency = script, 0.01
    async with door(llm_in_flight=32, llm_retries=20) as client:
        await asyncio.gather(*(client.text(make_request(f"line {i}")) for i in range(150)))
        assert client.api.pace.limit < 20
    refused = sum(seen.status == 429 for seen in server.requests)
    assert server.answered == 150 and refused < 100
