"""The client that is used: every call scrubbed, looked up, counted, paced, sent and written down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ...skills_bank.errors import LLMAnswerError, LLMRefused, LLMUnavailable
from .answers import parse_answer, repair_message, says_no
from .budget import Budget, Caps
from .call import Call
from .client import LLMMessage, LLMRequest, T
from .journal import Journal, Line, Reply
from .messages_api import MessagesAPI
from .prices import load_prices
from .settings import LLMSettings

V = TypeVar("V")

_AHEAD = 8


class _Misfit(Exception):
    """An answer that cannot be used, and what to ask next; `again` is `None` where asking again is no use."""

    def __init__(self, reason: str, again: Call | None) -> None:
        self.reason = reason
        self.again = again


class Door:
    """An `LLMClient` over a server, a journal and a budget; made by `open_door`."""

    def __init__(self, api: MessagesAPI, journal: Journal, budget: Budget) -> None:
        self.api = api
        self.journal = journal
        self.budget = budget
        self._flying: dict[str, asyncio.Task[Reply]] = {}
        # A few more than can be under way: the next ones are scrubbed and hashed while those wait for their answers,
        # instead of all of a corpus at once before the first is sent.
        self._prepared = asyncio.Semaphore(api.pace.limit + _AHEAD)

    async def text(self, request: LLMRequest) -> str:
        """Return the answer as text; see `LLMClient.text`."""
        return await self._ask(request, None, _read_text)

    async def structured(self, request: LLMRequest, schema: type[T]) -> T:
        """Return the answer as a `schema`; see `LLMClient.structured`."""

        def read(call: Call, reply: Reply) -> T:
            text = _read_text(call, reply)
            try:
                return parse_answer(text, schema)
            except ValidationError as error:
                raise _Misfit(says_no(error), _repaired(call, text, error)) from None

        return await self._ask(request, schema, read)

    async def aclose(self) -> None:
        """Give up what is under way and close the connections."""
        for task in self._flying.values():
            task.cancel()
        await asyncio.gather(*self._flying.values(), return_exceptions=True)
        await self.api.aclose()

    async def _ask(self, request: LLMRequest, schema: type[BaseModel] | None, read: Callable[[Call, Reply], V]) -> V:
        async with self._prepared:
            return await self._ask_twice(Call.of(request, schema), read)

    async def _ask_twice(self, call: Call, read: Callable[[Call, Reply], V]) -> V:
        """Ask, and once more where the answer cannot be used."""
        reply = await self._reply(call)
        try:
            return read(call, reply)
        except _Misfit as misfit:
            reason, again = misfit.reason, misfit.again
        spoiled = [reply.id]
        if again is not None:
            if again.hash == call.hash:
                self.journal.spoil(spoiled, reason)
            reply = await self._reply(again)
            try:
                return read(again, reply)
            except _Misfit as misfit:
                reason = misfit.reason
            spoiled.append(reply.id)
        # Both, so that a resumed run asks from the start.
        self.journal.spoil(spoiled, reason)
        raise LLMAnswerError(call.name, reason)

    async def _reply(self, call: Call) -> Reply:
        """Return the journal's answer, or that of the same call under way, or a new one."""
        found = self.journal.find(call.hash)
        if found is not None:
            return found
        task = self._flying.get(call.hash)
        if task is None:
            task = asyncio.create_task(self._pay(call))
            self._flying[call.hash] = task
            task.add_done_callback(lambda done: self._landed(call.hash, done))
        # Shielded: one caller that gives up must not take the answer from another that waits for it.
        return await asyncio.shield(task)

    def _landed(self, hash_: str, task: asyncio.Task[Reply]) -> None:
        del self._flying[hash_]
        if not task.cancelled():
            # Looked at, so that asyncio does not complain of an error whose callers have all gone.
            task.exception()

    async def _pay(self, call: Call) -> Reply:
        if self.journal.is_batched(call.hash):
            raise LLMUnavailable(f"{call.name}: it waits in a message batch; resume with ESC_LLM_BATCH=true")
        held = await self.budget.reserve(call)
        try:
            reply = await self.api.send(call)
            usd = self.budget.count(call.request.model, reply.tokens)
        except (LLMRefused, LLMUnavailable) as error:
            self.journal.failed(Line.of(call), str(error))
            raise
        finally:
            self.budget.release(held)
        line = self.journal.answered(Line.of(call), reply, usd)
        return Reply(reply.text, reply.stop, reply.tokens, reply.latency, line)


@asynccontextmanager
async def open_door(settings: LLMSettings, journal: Path, *, run: str = "") -> AsyncIterator[Door]:
    """Open the door to the server that `settings` name.

    Args:
        settings: Server, key, pace and caps.
        journal: The journal's file; made where it is missing.
        run: Name of the run whose spending the caps limit; a resumed run keeps its name. Answers are found whichever
            run paid for them.

    Raises:
        InputError: No key, a journal that cannot be used, or a file of prices that cannot be read.
    """
    prices = load_prices(settings.llm_prices)
    caps = Caps(calls=settings.llm_cap_calls, tokens=settings.llm_cap_tokens, usd=settings.llm_cap_usd)
    kept = Journal(journal, run)
    try:
        budget = Budget(caps, prices, kept.spent())
        for batch in kept.batches():
            budget.hold(batch.worst)
        door = Door(MessagesAPI(settings), kept, budget)
        try:
            yield door
        finally:
            await door.aclose()
    finally:
        kept.close()


def _read_text(call: Call, reply: Reply) -> str:
    if reply.stop == "refusal":
        raise _Misfit("the model refused to answer", None)
    if reply.stop == "model_context_window_exceeded":
        raise _Misfit("the model's context is full: the request is too long for it", None)
    if reply.stop == "max_tokens":
        most = call.request.max_tokens
        raise _Misfit(f"the answer was cut off at max_tokens ({most})", call.with_room(2 * most))
    if not reply.text.strip():
        raise _Misfit("the answer is empty", call)
    return reply.text


def _repaired(call: Call, text: str, error: ValidationError) -> Call:
    return call.with_messages(LLMMessage(role="assistant", content=text), repair_message(error))
