"""What the model calls of one turn took: a client that keeps count for whoever is listening.

Agents and seekers serve many talks at once and know nothing of cost. The session opens a `tally` around each of them;
calls made inside it, and in tasks started inside it, are counted there and nowhere else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from ..pipeline.llm.call import Call
from ..pipeline.llm.client import LLMRequest, T

if TYPE_CHECKING:
    from ..pipeline.llm.door import Door


@dataclass
class Tally:
    """A sum that grows."""

    calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0
    """`None` once a call's price was unknown."""

    def add(self, tokens: int, usd: float | None) -> None:
        """Count one call."""
        self.calls += 1
        self.tokens += tokens
        self.usd = None if usd is None or self.usd is None else self.usd + usd


_TALLY: ContextVar[Tally | None] = ContextVar("tally", default=None)


@contextmanager
def tally() -> Iterator[Tally]:
    """Count the calls made inside."""
    mine = Tally()
    token = _TALLY.set(mine)
    try:
        yield mine
    finally:
        _TALLY.reset(token)


class Metered:
    """An `LLMClient` through a door; what an answer took is read from the journal, so a resumed run says the same."""

    def __init__(self, door: "Door", draw: str = "") -> None:
        """Take the open door, and the draw that all requests belong to; see `LLMRequest.draw`."""
        self._door, self._draw = door, draw

    async def text(self, request: LLMRequest) -> str:
        """Return the answer as text; see `LLMClient.text`."""
        request = self._drawn(request)
        try:
            return await self._door.text(request)
        finally:
            self._count(request, None)

    async def structured(self, request: LLMRequest, schema: type[T]) -> T:
        """Return the answer as a `schema`; see `LLMClient.structured`."""
        request = self._drawn(request)
        try:
            return await self._door.structured(request, schema)
        finally:
            self._count(request, schema)

    def _drawn(self, request: LLMRequest) -> LLMRequest:
        return request.model_copy(update={"draw": self._draw}) if self._draw else request

    def _count(self, request: LLMRequest, schema: type[BaseModel] | None) -> None:
        mine = _TALLY.get()
        if mine is not None:
            tokens, usd = self._door.journal.took(Call.of(request, schema).root)
            mine.add(tokens.total, usd)
