"""Hard caps on calls, tokens and money: a call that could cross one is not sent."""

import asyncio
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ...skills_bank.errors import BudgetError
from .call import Call
from .prices import Prices
from .tokens import Tokens


class Caps(BaseModel):
    """The most a run may take; `None` is no cap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)


class Spent(NamedTuple):
    """What was taken, or may be."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0

    def plus(self, other: "Spent") -> "Spent":
        """Add."""
        return Spent(self.calls + other.calls, self.tokens + other.tokens, self.usd + other.usd)

    def minus(self, other: "Spent") -> "Spent":
        """Take away."""
        return Spent(self.calls - other.calls, self.tokens - other.tokens, self.usd - other.usd)


class Budget:
    """What is spent and what the calls under way may still cost; the two together never pass a cap.

    A call under way counts with its input by the upper estimate and its output at `max_tokens`.
    """

    def __init__(self, caps: Caps, prices: Prices, spent: Spent | None = None) -> None:
        self.prices = prices
        self.caps = caps
        self.spent = spent or Spent()
        """What this run has paid, over all the times it was resumed."""
        self._held = Spent()
        self._batched = Spent()
        self._settled: asyncio.Event | None = None

    async def reserve(self, call: Call) -> Spent:
        """Set the worst case of `call` aside; waits for calls under way where only they stand in its way.

        Raises:
            BudgetError: The call could cross a cap.
            InputError: There is a cap on money and the model's price is unknown.
        """
        worst = self.worst(call)
        while (crossed := self._crossed(worst)) is not None:
            if self._held.calls == 0:
                raise BudgetError(crossed)
            self._settled = self._settled or asyncio.Event()
            await self._settled.wait()
        self._held = self._held.plus(worst)
        return worst

    def fits(self, worst: Spent) -> bool:
        """Say whether `worst` can be set aside now."""
        return self._crossed(worst) is None

    def hold(self, worst: Spent) -> None:
        """Set the worst case of calls in a batch aside; nobody waits for it, as a batch may take a day."""
        self._batched = self._batched.plus(worst)

    def free(self, worst: Spent) -> None:
        """Give back what a batch held."""
        self._batched = self._batched.minus(worst)

    def worst(self, call: Call, *, batch: bool = False) -> Spent:
        """Return the most `call` can cost."""
        tokens, usd = 0, 0.0
        if self.caps.tokens is not None or self.caps.usd is not None:
            most = call.worst()
            tokens = most.total
            if self.caps.usd is not None:
                price = self.prices.known(call.request.model)
                dearest = price.model_copy(update={"input": price.dearest_input})
                usd = dearest.cost(most, batch=batch)
        return Spent(1, tokens, usd)

    def count(self, model: str, tokens: Tokens, *, batch: bool = False) -> float | None:
        """Count what a call really took; returns its cost, `None` where no price is known."""
        price = self.prices.of(model)
        usd = price.cost(tokens, batch=batch) if price is not None else None
        self.spent = self.spent.plus(Spent(1, tokens.total, usd or 0.0))
        return usd

    def release(self, held: Spent) -> None:
        """Give back what `reserve` set aside, once the call is counted or has failed."""
        self._held = self._held.minus(held)
        if self._settled is not None:
            self._settled.set()
            self._settled = None

    def _crossed(self, worst: Spent) -> str | None:
        taken = self.spent.plus(self._held).plus(self._batched)
        for name, cap in (("calls", self.caps.calls), ("tokens", self.caps.tokens), ("usd", self.caps.usd)):
            spent, more = getattr(self.spent, name), getattr(worst, name)
            # Sums of cents lose digits on the way; a millionth of a dollar is no money.
            if cap is not None and getattr(taken, name) + more > cap + 1e-6:
                return (
                    f"The cap of {cap:g} {name} is reached: {spent:g} spent, and the next call may take {more:g}. "
                    f"Raise ESC_LLM_CAP_{name.upper()} and resume; what is paid for is kept."
                )
        return None
