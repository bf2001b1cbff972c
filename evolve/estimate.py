"""A dry run: the talks an evolution would hold and the calls to models it would make, before the first is made.

The talks with the parent bank are known. How many proposals come of them is not: the most is reckoned with the cap on
candidates, or else with one proposal for every skill and every state. Calls in talks are counted by rehearsing some of
them to their last round (`simulator/rehearsal.py`); those of analyzer and generator are guesses at their most.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..pipeline.llm.budget import Caps
from ..pipeline.llm.client import Role
from ..pipeline.llm.plan import Plan, PlanLine
from ..pipeline.llm.prices import load_prices
from ..pipeline.llm.settings import LLMSettings
from ..pipeline.llm.tokens import Range, Tokens
from ..skills_bank.bank import Bank
from ..skills_bank.taxonomy import SeekerState
from . import joining, settling
from .acceptance import ALPHA, looks_of
from .plan import ATTEMPTS, HARD, WIDE, EvolvePlan, llm_settings, profiles_of
from .split import split_profiles

if TYPE_CHECKING:
    from .split import Split

SAMPLE = 6
"""Talks that are rehearsed."""
READING = (Range(2_500, 9_000), Range(200, 2_000))
"""Tokens of a call that reads a talk: in, and out."""
WRITING = (Range(5_000, 30_000), Range(2_000, 8_000))
"""Tokens of a call that writes a skill, with two talks and the reports of the lowest profiles."""
CALLS = Range(1, 2)
"""An answer that does not fit is asked for once more."""


class Talks(NamedTuple):
    """How many talks each step holds: at least, and at most."""

    baseline: Range
    floor: Range
    attempt: Range
    attempts: Range
    joint: Range
    sealed: Range

    @property
    def all(self) -> Range:
        """The sum over all steps."""
        low = self.baseline.low + self.floor.low + self.attempts.low * self.attempt.low + self.joint.low
        high = self.baseline.high + self.floor.high + self.attempts.high * self.attempt.high + self.joint.high
        return Range(low + self.sealed.low, high + self.sealed.high)


def told(plan: EvolvePlan) -> str:
    """Return what a plan would do and cost, as lines for a person.

    Raises:
        InputError: There is a cap on money and a model's price is unknown.
    """
    split = split_profiles(profiles_of(plan), plan.seed)
    talks = count(plan, split)
    hashes = split.hashes()
    parts = ", ".join(f"{len(getattr(split, part))} {part} ({hashes[part]})" for part in hashes)
    lines = [
        f"bank {plan.bank.version} ({plan.bank.hash[:12]}) in {plan.bank.root}",
        f"{plan.n} profiles of {plan.profiles}, seed {plan.seed}: {parts}",
        f"seeker {plan.seeker}, supporter {plan.supporter}, analyzer {plan.analyzer}, generator {plan.generator}; "
        f"strategy {plan.strategy}",
        f"talks: baseline {talks.baseline.high:,}, noise floor {talks.floor.high:,}, up to {talks.attempts.high:,} "
        f"attempts of {talks.attempt.low:,} to {talks.attempt.high:,}, together up to {talks.joint.high:,}, sealed up "
        f"to {talks.sealed.high:,}; in all {talks.all.low:,} to {talks.all.high:,}",
        "the result becomes a new version" if plan.apply else "the bank stays as it is; the result lies in the job",
    ]
    return "\n".join((*lines, _calls(plan, split, talks)))


def count(plan: EvolvePlan, split: "Split") -> Talks:
    """Return how many talks a plan takes."""
    profiles = profiles_of(plan)
    risky = sum(profile.risk is not None for profile in profiles.profiles if profile.id in set(split.verify))
    hard, wide = min(HARD, len(split.verify)), min(WIDE, len(split.verify))
    baseline = len(split.propose) + len(split.verify)
    if plan.strategy == "paper":
        attempt = Range(2 * hard + 2 * risky, 2 * hard + 2 * risky)
    else:
        attempt = _paired(wide, plan.repeats, risky)
    joint = _paired(len(split.verify), joining.REPEATS, risky)
    sealed = 2 * settling.REPEATS * len(split.sealed)
    return Talks(
        baseline=Range(baseline, baseline),
        floor=Range(2 * plan.repeats * hard, 2 * plan.repeats * hard),
        attempt=attempt,
        attempts=Range(0, _most_attempts(plan)),
        joint=Range(0, joining.ROUNDS * joint.high),
        sealed=Range(0, sealed),
    )


def _paired(profiles: int, repeats: int, risky: int) -> Range:
    """Return the talks of a judgement by looks: the first with its noise floor, and all of them."""
    first = looks_of(repeats, ALPHA)[0].repeats
    floor = 2 * first * profiles
    return Range(floor + first * profiles + 2 * risky, floor + 2 * repeats * profiles + 2 * risky)


def _most_attempts(plan: EvolvePlan) -> int:
    if plan.caps.candidates is not None:
        return plan.caps.candidates
    return ATTEMPTS * (len(Bank.load(plan.bank.folder).skills) + len(SeekerState))


def _calls(plan: EvolvePlan, split: "Split", talks: Talks) -> str:
    """Return what the calls to models take, and whether the caps allow more than the first steps."""
    if not plan.asks_models:
        return "no call to a language model, no network"
    settings = llm_settings(plan, LLMSettings())
    caps = Caps(calls=settings.llm_cap_calls, tokens=settings.llm_cap_tokens, usd=settings.llm_cap_usd)
    least: list[PlanLine] = []
    most: list[PlanLine] = []
    if plan.simulates_by_models:
        sample = asyncio.run(_rehearsed(plan, settings))
        begin = talks.baseline.high + talks.floor.high
        least += [_times(line, begin / SAMPLE) for line in sample.lines]
        most += [_times(line, talks.all.high / SAMPLE) for line in sample.lines]
    if plan.analyzer == "llm":
        line = _guess(plan, settings, Role.ANALYZER, len(split.propose), READING)
        least.append(line)
        most.append(line)
    if plan.generator == "llm":
        most.append(_guess(plan, settings, Role.GENERATOR, talks.attempts.high, WRITING))
    told = [
        Plan(lines=tuple(most)).text(caps),
        "at most: every talk to its last round, every proposal tried to its end",
    ]
    if short := Plan(lines=tuple(least)).beyond(caps):
        told.append(f"budget too small: before the first proposal it may reach the cap of {'; '.join(short)}")
    return "\n".join(told)


async def _rehearsed(plan: EvolvePlan, settings: LLMSettings) -> Plan:
    from ..simulator.rehearsal import rehearse
    from ..simulator.run import tasks_of
    from .parts import recipe_of

    return await rehearse(recipe_of(plan, settings), tasks_of(profiles_of(plan), SAMPLE, plan.seed), settings)


def _times(line: PlanLine, factor: float) -> PlanLine:
    """Return the line of so many times as many talks."""

    def more(found: Range) -> Range:
        return Range(round(found.low * factor), round(found.high * factor))

    usd = None if line.usd is None else (line.usd[0] * factor, line.usd[1] * factor)
    return line.model_copy(
        update={
            "calls": round(line.calls * factor),
            "known": round(line.known * factor),
            "input": more(line.input),
            "output": more(line.output),
            "usd": usd,
        }
    )


def _guess(plan: EvolvePlan, settings: LLMSettings, role: Role, times: int, each: tuple[Range, Range]) -> PlanLine:
    prices, model = load_prices(settings.llm_prices), plan.models[role]
    price = prices.known(model) if settings.llm_cap_usd is not None else prices.of(model)
    end: Callable[[int], Tokens] = lambda i: Tokens(  # noqa: E731
        input=times * CALLS[i] * each[0][i], output=times * CALLS[i] * each[1][i]
    )
    return PlanLine(
        role=role,
        model=model,
        prompt="a guess",
        calls=times * CALLS.high,
        known=0,
        input=Range(end(0).input, end(1).input),
        output=Range(end(0).output, end(1).output),
        usd=None if price is None else (price.cost(end(0)), price.cost(end(1))),
    )
