"""How many requests are under way at once: bounded, fewer when the server says it is too much, slowly more again."""

import asyncio
import random
import time
from collections import deque


class Pace:
    """Additive increase, multiplicative decrease (Chiu and Jain 1989), as TCP does it.

    An answer lets `1 / limit` more requests in, so one more a round; a 429 or 529 halves the limit, once for all
    requests that were under way together. While the server asks to wait, nothing starts.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._active = 0
        self._round = 0
        self._closed_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        return int(self._limit)

    async def enter(self) -> int:
        """Wait for a place; returns the round, to be handed to `leave`."""
        if self._waiting or not self._open():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            self._wake()
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._active -= 1
                    self._wake()
                raise
        else:
            self._active += 1
        return self._round

    def leave(self, round_: int, *, answered: bool, overloaded: bool = False, wait: float = 0.0) -> None:
        """Give the place back, and learn from how the request went."""
        self._active -= 1
        if answered:
            self._limit = min(self._most, self._limit + 1 / self._limit)
        elif overloaded:
            if round_ == self._round:
                self._limit = max(1.0, self._limit / 2)
                self._round += 1
            if wait > 0:
                # Jitter, so that several processes on one key do not come back in one burst.
                until = time.monotonic() + wait * random.uniform(1.0, 1.1)
                self._closed_until = max(self._closed_until, until)
        self._wake()

    def _open(self) -> bool:
        return self._active < self.limit and time.monotonic() >= self._closed_until

    def _wake(self) -> None:
        while self._waiting and self._open():
            turn = self._waiting.popleft()
            if not turn.done():
                self._active += 1
                turn.set_result(None)
        left = self._closed_until - time.monotonic()
        if self._waiting and left > 0 and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(left, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake()
