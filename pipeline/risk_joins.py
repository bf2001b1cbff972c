"""How the signs of danger in one turn are joined: a sum of log-odds, with the thresholds set on false positives."""

from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple, cast

import numpy as np

from ..skills_bank.conversation import as_conversation
from ..skills_bank.encoder import RISK_KINDS
from ..skills_bank.risk import Join, Joins, RiskDesk
from ..skills_bank.risk_patterns import RANK, RiskPatterns, load_patterns
from ..skills_bank.risk_reader import RiskReader, Scores
from .items import RiskLine
from .risk_eval import RiskReport, judged, report

MOST_FALSE = 0.07
"""Most false positives on hyperbole and ordinary distress by writers unknown to reader and head; the bound is 0.08."""
EXPLICIT = 0.97
"""Of the explicit lines that are caught at all, the least share that must come out high."""
_STEPS = 9
_REACH = 3.0


class Signs(NamedTuple):
    """What the three readers say of one line, the fitted two fitted without the writer of the line."""

    line: RiskLine
    strengths: tuple[str, str, str]
    """The strongest pattern of each kind."""
    tone: str
    """As `RiskPatterns.tone` gives it."""
    reader: tuple[float, float, float, float]
    encoder: tuple[float, float, float, float]
    """Log-odds."""


def strengths(patterns: RiskPatterns, text: str) -> tuple[str, str, str]:
    """Return the strongest pattern of each kind in a turn."""
    found = patterns.signals(text)
    mine = [max((s.strength for s in found if s.kind == k), key=RANK.__getitem__, default="none") for k in RISK_KINDS]
    return mine[0], mine[1], mine[2]


def fit_joins(found: Sequence[Signs]) -> Joins:
    """Return the weights with which the signs are joined, fitted on lines none of the readers was fitted on.

    Kinds share their weights: harm to others and abuse alone have too few lines. The bias is where a line is as likely
    risky as not; `settle_thresholds` then moves it to the false-positive rate that is wanted.
    """
    kinds = [
        _Row(s.strengths[k], s.tone, s.reader[k], s.encoder[k], s.line.kind == RISK_KINDS[k])
        for s in found
        for k in range(3)
    ]
    grave = [
        _Row(max(s.strengths, key=RANK.__getitem__), s.tone, s.reader[3], s.encoder[3], s.line.level == "high")
        for s in found
    ]
    return Joins(
        format=1,
        any=_join(kinds, with_encoder=True),
        high=_join(grave, with_encoder=True),
        any_alone=_join(kinds, with_encoder=False),
        high_alone=_join(grave, with_encoder=False),
        veto=-2.0,
    )


class _Row(NamedTuple):
    strength: str
    tone: str
    reader: float
    encoder: float
    gold: bool


def _join(rows: Sequence[_Row], *, with_encoder: bool) -> Join:
    from sklearn.linear_model import LogisticRegression

    features = np.array(
        [
            [
                row.reader,
                row.encoder if with_encoder else 0.0,
                *(float(row.strength == name) for name in ("weak", "elevated", "high")),
                *(-float(row.tone == name) for name in ("light", "denies")),
            ]
            for row in rows
        ]
    )
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(features, [row.gold for row in rows])
    reader, encoder, *rest = (round(float(w), 3) for w in fitted.coef_[0])
    # A sign of danger never speaks against danger, nor a denial for it, whatever a few hundred lines say.
    weak, elevated, high, light, denies = (max(weight, 0.0) for weight in rest)
    return Join(
        bias=round(float(fitted.intercept_[0]), 3),
        reader=reader,
        encoder=encoder,
        weak=weak,
        elevated=elevated,
        high=high,
        light=light,
        denies=denies,
    )


class _Told(RiskReader):
    """A reader that repeats what was read of each text when its writer was left out."""

    def __init__(self, found: Sequence[Signs]) -> None:
        self._scores = {line.line.messages[-1].content: Scores(*line.reader) for line in found}

    def read(self, text: str) -> Scores | None:
        return self._scores[text]


class _Remembered:
    """Patterns that read each text once: thresholds are moved a dozen times over the same lines."""

    def __init__(self, patterns: RiskPatterns) -> None:
        self.signals, self.tone = cache(patterns.signals), cache(patterns.tone)
        self.asked, self.reply = cache(patterns.asked), cache(patterns.reply)


def settle_thresholds(joins: Joins, found: Sequence[Signs], *, with_encoder: bool) -> Joins:
    """Move the two biases: the most recall for at most `MOST_FALSE` false positives, then level high for `EXPLICIT`.

    Every level above none counts as a false positive on hyperbole and ordinary distress.
    """
    base = RiskDesk.load().with_parts(cast("RiskPatterns", _Remembered(load_patterns())), _Told(found))
    suffix = "" if with_encoder else "_alone"

    def moved(part: Literal["any", "high"], by: float, start: Joins) -> Joins:
        join: Join = getattr(start, part + suffix)
        return start.model_copy(update={part + suffix: join.model_copy(update={"bias": round(join.bias + by, 3)})})

    def measure(candidate: Joins) -> RiskReport:
        desk = base.with_joins(candidate)
        return report([_judge(str(i), one, desk, with_encoder) for i, one in enumerate(found)], "", "")

    # Both rates rise with the bias, so the greatest (least) bias that keeps the bound is found by halving.
    low, high = -_REACH, _REACH
    for _ in range(_STEPS):
        middle = (low + high) / 2
        fits = measure(moved("any", middle, joins)).false_positive.rate <= MOST_FALSE
        low, high = (middle, high) if fits else (low, middle)
    joins = moved("any", low, joins)
    low, high = -_REACH, _REACH
    for _ in range(_STEPS):
        middle = (low + high) / 2
        scored = measure(moved("high", middle, joins))
        caught = next(c.caught.rate for c in scored.categories if c.category == "explicit")
        fits = scored.explicit.rate >= EXPLICIT * caught
        low, high = (low, middle) if fits else (middle, high)
    return moved("high", high, joins)


def _judge(name: str, one: Signs, desk: RiskDesk, with_encoder: bool):
    conversation = as_conversation([message.model_dump() for message in one.line.messages])
    chances = 1.0 / (1.0 + np.exp(-np.array([one.encoder])))
    return judged(name, one.line, desk.assess(conversation, chances if with_encoder else None))
