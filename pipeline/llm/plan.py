"""What a run would send and cost, said before anything is sent."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from .budget import Caps
from .call import Call
from .client import LLMRequest
from .journal import Journal
from .prices import Price, Prices
from .tokens import Range, Tokens, expected_tokens

_SHORTEST_ANSWER = 0.1
"""The lower end of an answer's length, as a share of `max_tokens`; the upper end is `max_tokens`."""


class PlanLine(BaseModel):
    """The calls of one role with one prompt to one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: str
    model: str
    prompt: str
    calls: int
    known: int
    """How many of them the journal answers, or an earlier call of the same plan."""
    input: Range
    output: Range
    usd: tuple[float, float] | None
    """`None`: the price of the model is unknown."""


class Plan(BaseModel):
    """A dry run: calls, tokens and cost. The upper end leaves out second attempts, which the caps do count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: tuple[PlanLine, ...]
    batch: bool = False

    @property
    def calls(self) -> int:
        """How many calls would be sent."""
        return sum(line.calls - line.known for line in self.lines)

    @property
    def tokens(self) -> Range:
        """How many tokens they would take."""
        low = sum(line.input.low + line.output.low for line in self.lines)
        return Range(low, sum(line.input.high + line.output.high for line in self.lines))

    @property
    def usd(self) -> tuple[float, float] | None:
        """What they would cost; `None` where a price is unknown."""
        costs = [line.usd for line in self.lines if line.usd is not None]
        if len(costs) < len(self.lines):
            return None
        return sum(low for low, _ in costs), sum(high for _, high in costs)

    def beyond(self, caps: Caps) -> list[str]:
        """Say which caps the run may reach."""
        usd = self.usd
        ends = (("calls", caps.calls, self.calls), ("tokens", caps.tokens, self.tokens.high))
        told = [f"{name}: up to {end:,}, cap {cap:,}" for name, cap, end in ends if cap is not None and end > cap]
        if caps.usd is not None and usd is not None and usd[1] > caps.usd:
            told.append(f"money: up to ${usd[1]:.2f}, cap ${caps.usd:.2f}")
        return told

    def text(self, caps: Caps | None = None) -> str:
        """Return the plan as lines for a person."""
        told = [_said(line) for line in self.lines]
        how = " by message batches, at half price" if self.batch else ""
        cost = "unknown" if self.usd is None else _money(self.usd)
        low, high = self.tokens
        told.append(f"in all: {self.calls:,} calls to send{how}, {low:,} to {high:,} tokens, cost {cost}")
        told += [f"may reach the cap of {each}" for each in self.beyond(caps or Caps())]
        return "\n".join(told)


def make_plan(
    requests: Iterable[tuple[LLMRequest, type[BaseModel] | None]],
    prices: Prices,
    *,
    journal: Journal | None = None,
    batch: bool = False,
    caps: Caps | None = None,
) -> Plan:
    """Count what `requests` would take; sends nothing, and reads them one by one.

    Raises:
        InputError: There is a cap on money and a price is unknown.
    """
    tallies: dict[tuple[str, str, str], _Tally] = {}
    seen: set[str] = set()
    for request, schema in requests:
        if caps is not None and caps.usd is not None:
            prices.known(request.model)
        call = Call.of(request, schema)
        tally = tallies.setdefault((request.role, request.model, request.prompt), _Tally())
        known = call.hash in seen or (journal is not None and journal.find(call.hash) is not None)
        seen.add(call.hash)
        tally.add(call, known=known)
    lines = (t.line(*key, prices.of(key[1]), batch=batch) for key, t in tallies.items())
    return Plan(lines=tuple(lines), batch=batch)


class _Tally:
    """Sums over the calls of one line."""

    def __init__(self) -> None:
        self.calls = self.known = 0
        self.low = Tokens()
        self.high = Tokens()

    def add(self, call: Call, *, known: bool) -> None:
        """Count a call."""
        self.calls += 1
        self.known += known
        if known:
            return
        first = self.calls - self.known == 1
        whole, system = call.expected_input(), expected_tokens(call.request.system)
        output, fresh = call.request.max_tokens, whole.low - system.low
        # At best the instructions are written to the provider's cache once, and read from it ever after.
        low = Tokens(
            input=fresh,
            output=round(_SHORTEST_ANSWER * output),
            cache_read=0 if first else system.low,
            cache_write=system.low if first else 0,
        )
        self.low = _sum(self.low, low)
        self.high = _sum(self.high, Tokens(input=whole.high, output=output))

    def line(self, role: str, model: str, prompt: str, price: Price | None, *, batch: bool) -> PlanLine:
        """Return the finished line."""
        usd = None
        if price is not None:
            dearest = price.model_copy(update={"input": price.dearest_input})
            usd = (price.cost(self.low, batch=batch), dearest.cost(self.high, batch=batch))
        return PlanLine(
            role=role,
            model=model,
            prompt=prompt,
            calls=self.calls,
            known=self.known,
            input=Range(self.low.total - self.low.output, self.high.input),
            output=Range(self.low.output, self.high.output),
            usd=usd,
        )


def _sum(one: Tokens, other: Tokens) -> Tokens:
    return Tokens(*(a + b for a, b in zip(one, other, strict=True)))


def _said(line: PlanLine) -> str:
    cost = "price unknown" if line.usd is None else _money(line.usd)
    return (
        f"{line.role} ({line.prompt}, {line.model}): {line.calls:,} calls, {line.known:,} of them known; "
        f"input {line.input.low:,} to {line.input.high:,} tokens, "
        f"output {line.output.low:,} to {line.output.high:,}; {cost}"
    )


def _money(usd: tuple[float, float]) -> str:
    return f"${usd[0]:,.2f} to ${usd[1]:,.2f}"
