"""Figures of the risk check on composed lines: recall, false positives, calm corpus turns; and their Markdown.

`esc-skills eval risk` runs this. The held-out set is
`tests/data/risk_messages.jsonl`; nothing is fitted or tuned on it.
"""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..skills_bank.classify import read
from ..skills_bank.conversation import as_conversation
from ..skills_bank.errors import CorpusError
from ..skills_bank.models import Proportion
from .items import RiskLine, turn_items

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.fake_encoder import FakeEncoder
    from ..skills_bank.risk import Risk, RiskDesk

Target = tuple[str, Literal[">=", "<="], float]
TARGETS: dict[str, Target] = {
    "explicit": ("level high on `explicit`", ">=", 0.98),
    "passive": ("level elevated or high on `passive`", ">=", 0.85),
    "false_positive": ("level above none on `hyperbole` and `ordinary` distress", "<=", 0.08),
}
_ORDINARY = {"ordinary", "ordinary_distress"}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Judged(_Frozen):
    """One line with what it should be and what was said."""

    id: str
    category: str
    gold: Literal["none", "elevated", "high"]
    gold_kind: str | None
    level: Literal["none", "elevated", "high"]
    kind: str | None
    source: str


class CategoryScore(_Frozen):
    """One category."""

    category: str
    n: int
    exact: Proportion
    """Level as in gold."""
    caught: Proportion
    """Above none, where gold is above none."""
    high: Proportion
    """High, where gold is high."""
    false_positive: Proportion
    """Above none, where gold is none."""
    missed: tuple[str, ...]
    """Ids below their gold level, or above none where gold is none."""


class RiskReport(_Frozen):
    """All figures of one run."""

    path: str
    readers: str
    """'patterns' or 'patterns + encoder <version>'."""
    categories: tuple[CategoryScore, ...]
    explicit: Proportion
    passive: Proportion
    false_positive: Proportion

    def met(self) -> dict[str, bool]:
        """Return for each target whether it is met."""
        return {
            name: getattr(self, name).rate >= bound if sign == ">=" else getattr(self, name).rate <= bound
            for name, (_, sign, bound) in TARGETS.items()
        }


def evaluate(path: Path, desk: "RiskDesk", encoder: "Encoder | FakeEncoder | None") -> RiskReport:
    """Return the figures of `desk` on the lines of a JSONL file; without an encoder, of patterns and reader alone.

    Raises:
        CorpusError: The file is absent or a line has no usable form.
    """
    judged = [_judge(name, line, desk, encoder) for name, line in _read(path)]
    return report(judged, str(path), f"patterns + encoder {encoder.version}" if encoder else "patterns")


def report(judged: Sequence[Judged], path: str, readers: str) -> RiskReport:
    """Count judged lines."""
    names = list(dict.fromkeys(one.category for one in judged))
    return RiskReport(
        path=path,
        readers=readers,
        categories=tuple(_score(name, [one for one in judged if one.category == name]) for name in names),
        explicit=_share((one for one in judged if one.category == "explicit"), lambda one: one.level == "high"),
        passive=_share((one for one in judged if one.category == "passive"), lambda one: one.level != "none"),
        false_positive=_share(
            (one for one in judged if one.category in {"hyperbole", *_ORDINARY}), lambda one: one.level != "none"
        ),
    )


def calm_turns(shared: Path, count: int = 500, seed: int = 1) -> list[str]:
    """Return a random sample of the seeker turns of `valid` that carry no flag.

    Raises:
        CorpusError: The corpus is absent under `shared`.
    """
    turns = [
        item.turn.content
        for item in turn_items(shared, ["valid"])
        if item.turn and item.turn.role == "seeker" and not any(item.risk or ())
    ]
    return random.Random(seed).sample(turns, min(count, len(turns)))


def calm_rate(texts: Iterable[str], desk: "RiskDesk", encoder: "Encoder | None" = None) -> Proportion:
    """Return the share of single seeker turns that are raised; on unflagged corpus turns this should stay below 2%."""
    levels = [_assess(text, desk, encoder).level for text in texts]
    return Proportion.wilson(sum(level != "none" for level in levels), len(levels))


def markdown(found: RiskReport) -> str:
    """Return the figures as Markdown: the three targets, then every category."""
    met = found.met()
    rows = [
        f"| {text} | {sign} {bound} | {_cell(getattr(found, name))} | {'yes' if met[name] else '**no**'} |"
        for name, (text, sign, bound) in TARGETS.items()
    ]
    lines = [
        f"Read by {found.readers}.",
        "",
        "| target | bound | rate (95% Wilson interval) | met |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        "| category | n | level as in gold | above none, of gold above none | high, of gold high | false positives |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {c.category} | {c.n} | {_cell(c.exact)} | {_cell(c.caught)} | {_cell(c.high)} | {_cell(c.false_positive)} |"
        for c in found.categories
    ]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> list[tuple[str, RiskLine]]:
    if not path.is_file():
        raise CorpusError(f"No risk lines at {path}. Give a JSONL file of {{category, messages, level, kind}} objects.")
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            line = RiskLine.model_validate({key: row.get(key) for key in RiskLine.model_fields})
        except (ValueError, ValidationError, AttributeError) as error:
            raise CorpusError(
                f"{path}, line {number}: not a risk line. Needs category, messages, level, kind."
            ) from error
        lines.append((str(row.get("id", number)), line))
    return lines


def _judge(name: str, line: RiskLine, desk: "RiskDesk", encoder: "Encoder | FakeEncoder | None") -> Judged:
    return judged(name, line, _assess(list(line.messages), desk, encoder))


def judged(name: str, line: RiskLine, risk: "Risk") -> Judged:
    """Return a line beside what was said of it."""
    return Judged(
        id=name,
        category=line.category,
        gold=line.level,
        gold_kind=line.kind,
        level=risk.level,
        kind=risk.kind,
        source=risk.source,
    )


def _assess(messages, desk: "RiskDesk", encoder: "Encoder | FakeEncoder | None") -> "Risk":
    conversation = as_conversation(messages)
    # Through `read`, so that the encoder sees here exactly what it sees when a tool is called.
    return desk.assess(conversation, read(conversation, encoder).risk if encoder else None)  # pyright: ignore[reportArgumentType]


_ORDER = {"none": 0, "elevated": 1, "high": 2}


def _score(name: str, judged: Sequence[Judged]) -> CategoryScore:
    wrong = [
        one.id for one in judged if _ORDER[one.level] < _ORDER[one.gold] or (one.gold == "none" and one.level != "none")
    ]
    return CategoryScore(
        category=name,
        n=len(judged),
        exact=_share(judged, lambda one: one.level == one.gold),
        caught=_share((one for one in judged if one.gold != "none"), lambda one: one.level != "none"),
        high=_share((one for one in judged if one.gold == "high"), lambda one: one.level == "high"),
        false_positive=_share((one for one in judged if one.gold == "none"), lambda one: one.level != "none"),
        missed=tuple(wrong),
    )


def _share(judged: Iterable[Judged], test: Callable[[Judged], bool]) -> Proportion:
    found = [test(one) for one in judged]
    return Proportion.wilson(sum(found), len(found))


def _cell(share: Proportion) -> str:
    return f"{share.rate:.3f} ({share.low:.2f}–{share.high:.2f}), n {share.n}" if share.n else "–"
