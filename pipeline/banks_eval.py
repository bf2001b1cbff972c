"""The banks in the package side by side on real dialogues: hit@k and outcome lift on `valid`, and the difference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..skills_bank.bank import Bank
from ..skills_bank.encoder import Encoder
from ..skills_bank.index import Facets
from ..skills_bank.outcome import OutcomeModel
from ..skills_bank.ranking import Ranker, Weights
from ..skills_bank.taxonomy import SupportAction
from .cases import Case, gold_cases, predicted_cases
from .lift import Estimate, lift, lift_difference
from .moments import dialogue_turns
from .select_eval import KS, hits, rank, targets

OUTCOMES = {
    "positive": "positive change",
    "negative": "negative change",
    "positive_other": "positive, other than telling",
}


class Ranked(NamedTuple):
    """What one bank advises at each case."""

    hits: dict[int, float]
    units: int
    advice: list[SupportAction]


def beside(shared: Path, banks: Mapping[str, tuple[Bank, Facets]], encoder: Encoder) -> str:
    """Return a table of two banks, the older one first; differences are paired over the same resamples of dialogues.

    Raises:
        CorpusError: The corpus is absent under `shared`.
    """
    old, new = banks
    predicted = predicted_cases(dialogue_turns(shared, ["valid"]), encoder)
    lines = [f"| on `valid` | {old} | {new} | difference (95%) |", "| --- | ---: | ---: | ---: |"]
    for reading, cases in (("gold", gold_cases(predicted)), ("predicted", predicted)):
        a, b = (_ranked(bank, facets, cases) for bank, facets in banks.values())
        for k in KS:
            lines.append(f"| hit@{k}, {reading} states | {a.hits[k]:.3f} | {b.hits[k]:.3f} | |")
        lines += _lifts(reading, cases, a.advice, b.advice)
    return "\n".join(lines)


def _ranked(bank: Bank, facets: Facets, cases: Sequence[Case]) -> Ranked:
    skills = list(bank.skills.values())
    ranker = Ranker(skills, bank.evidence, facets.vectors, facets.owners([skill.name for skill in skills]))
    found = rank(cases, bank, ranker, OutcomeModel.load(), Weights.load())
    goals = targets(cases, ranker.cells)
    return Ranked(hits(found.order, goals, KS), len(goals), found.action)


def _lifts(
    reading: str, cases: Sequence[Case], old: Sequence[SupportAction], new: Sequence[SupportAction]
) -> list[str]:
    turns = [case.turn for case in cases]
    one, other = lift(turns, old), lift(turns, new)
    difference: dict[str, Estimate] = lift_difference(turns, new, old)
    return [
        f"| lift, {told}, {reading} states | {getattr(one, name)} | {getattr(other, name)} | {difference[name]} |"
        for name, told in OUTCOMES.items()
    ]
