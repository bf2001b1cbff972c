"""Bulk work through the Message Batches API: half the price, within a day.

A batch only fills the journal. The ordinary client then finds the answers there, and mends by ordinary calls what does
not fit its schema; what the batch did not answer it sends itself, at full price.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from ...skills_bank.errors import BudgetError, LLMRefused
from .budget import Spent
from .call import Call
from .client import LLMRequest
from .door import Door
from .journal import Batch, Line, Reply
from .messages_api import read_message

_MOST_CALLS = 10_000
"""The API takes 100,000 requests or 256 MB a batch; a tenth of it keeps the memory of making one small."""
_CLOCKS_APART = 600.0
_PAGE = 100

Wanted = Iterable[tuple[LLMRequest, type[BaseModel] | None]]
_Chunk = dict[str, tuple[Call, Spent]]


async def prefetch(door: Door, wanted: Wanted, *, poll: float = 30.0, most: int = _MOST_CALLS) -> int:
    """Answer into the journal what `wanted` asks and the journal does not hold; returns how many answers came.

    Batches of a killed run are found again and waited for, not sent again. `wanted` is read once, a batch at a time.

    Raises:
        BudgetError: Not even one more call fits under the caps; what was sent before is collected first.
        LLMRefused: The server has no batches, or refuses one.
        LLMUnavailable: The server cannot be reached.
    """
    came = 0
    for batch in door.journal.batches():
        if not batch.name:
            await _find_or_drop(door, batch, poll)
    chunk: _Chunk = {}
    for request, schema in wanted:
        call = Call.of(request, schema)
        waiting = call.hash in chunk or door.journal.is_batched(call.hash)
        if waiting or door.journal.find(call.hash) is not None:
            continue
        worst = door.budget.worst(call, batch=True)
        if len(chunk) == most or not door.budget.fits(worst):
            await _submit(door, chunk)
            chunk = {}
        if not door.budget.fits(worst):
            came += await _collect_all(door, poll)
        if not door.budget.fits(worst):
            raise BudgetError(f"The caps leave no room for {call.name}. Raise them and resume.")
        door.budget.hold(worst)
        chunk[call.hash] = (call, worst)
    await _submit(door, chunk)
    return came + await _collect_all(door, poll)


async def _submit(door: Door, chunk: _Chunk) -> None:
    """Send one batch; its calls are noted before, so that a kill in between does not pay for them twice."""
    if not chunk:
        return
    line = door.journal.open_batch((Line.of(call), worst) for call, worst in chunk.values())
    requests: Any = [{"custom_id": hash_, "params": door.api.body(call)} for hash_, (call, _) in chunk.items()]
    create = door.api.sdk.messages.batches.create
    try:
        # Sent once: whether a batch whose answer got lost was taken shows in the list of batches, on resume.
        made = await door.api.retrying(lambda: create(requests=requests), f"a batch of {len(chunk)}", again=False)
    except LLMRefused:
        door.journal.drop_batch(line)
        for _, worst in chunk.values():
            door.budget.free(worst)
        raise
    door.journal.name_batch(line, made.id)


async def _collect_all(door: Door, poll: float) -> int:
    return sum([await _collect(door, batch, poll) for batch in door.journal.batches() if batch.name])


async def _collect(door: Door, batch: Batch, poll: float) -> int:
    """Wait for a batch and keep what it gave; returns how many answers."""
    await _ended(door, batch.name, poll)
    calls = door.journal.batched(batch.id)
    replies: list[tuple[Line, Reply]] = []
    failures: list[tuple[Line, str]] = []
    for hash_, result in await _results(door, batch.name):
        line = calls.pop(hash_, None)
        if line is None:
            continue
        if result["type"] == "succeeded":
            replies.append((line, read_message(result["message"], None, 0.0)))
        else:
            failures.append((line, f"{result['type']} in a batch"))
    failures += [(line, "the batch gave no result for it") for line in calls.values()]
    count = door.budget.count
    answers = [(line, reply, count(line.model, reply.tokens, batch=True)) for line, reply in replies]
    door.budget.free(batch.worst)
    door.journal.collect(batch.id, answers, failures)
    return len(answers)


async def _ended(door: Door, name: str, poll: float) -> None:
    while True:
        found = await door.api.retrying(lambda: door.api.sdk.messages.batches.retrieve(name), f"batch {name}")
        if found.processing_status == "ended":
            return
        await asyncio.sleep(poll)


async def _results(door: Door, name: str) -> list[tuple[str, dict[str, Any]]]:
    async def read() -> list[tuple[str, dict[str, Any]]]:
        lines = await door.api.sdk.messages.batches.results(name)
        # Without warnings: they print what does not fit the SDK's models, and that may be an answer.
        return [(each.custom_id, each.result.model_dump(mode="json", warnings=False)) async for each in lines]

    return await door.api.retrying(read, f"batch {name}")


async def _find_or_drop(door: Door, batch: Batch, poll: float) -> None:
    """Look on the server for a batch whose id was never read; forget it where the server never took it."""
    named = {each.name for each in door.journal.batches()}
    hashes = door.journal.batched(batch.id).keys()
    page = await door.api.retrying(lambda: door.api.sdk.messages.batches.list(limit=_PAGE), "the list of batches")
    async for each in page:
        if each.created_at.timestamp() < batch.at - _CLOCKS_APART:
            break
        counts = each.request_counts
        size = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
        if each.id in named or size != batch.size:
            continue
        await _ended(door, each.id, poll)
        if any(hash_ in hashes for hash_, _ in await _results(door, each.id)):
            door.journal.name_batch(batch.id, each.id)
            return
    door.journal.drop_batch(batch.id)
    door.budget.free(batch.worst)
