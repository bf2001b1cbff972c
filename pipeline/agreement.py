"""How far two sets of labels agree: accuracy, macro-F1, Cohen's kappa, and the area under the ROC curve."""

from collections import Counter
from collections.abc import Hashable, Sequence

from pydantic import BaseModel, ConfigDict


class Agreement(BaseModel):
    """Figures of one kind of label, single-valued."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    accuracy: float
    macro_f1: float
    kappa: float


class SetAgreement(BaseModel):
    """Figures of a label of several values, such as the actions of a turn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    same: float
    """Share with exactly the same values."""
    shared: float
    """Share with any value in common."""
    macro_f1: float
    micro_f1: float


def agreement(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> Agreement:
    """Compare two equally long rows of labels; macro-F1 is over the labels that occur in `gold`.

    Raises:
        ValueError: Nothing to compare, or rows of different length.
    """
    if not gold or len(gold) != len(predicted):
        raise ValueError(f"Cannot compare {len(gold)} labels with {len(predicted)}.")
    return Agreement(
        n=len(gold),
        accuracy=round(accuracy(gold, predicted), 4),
        macro_f1=round(sum(scores := f1_scores(gold, predicted).values()) / len(scores), 4),
        kappa=round(cohen_kappa(gold, predicted), 4),
    )


def accuracy(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Return the share of equal labels."""
    return sum(a == b for a, b in zip(gold, predicted, strict=True)) / len(gold)


def f1_scores(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> dict[Hashable, float]:
    """Return F1 of each label that occurs in `gold`, one against the rest."""
    wanted, given = Counter(gold), Counter(predicted)
    hits = Counter(a for a, b in zip(gold, predicted, strict=True) if a == b)
    return {label: 2 * hits[label] / (wanted[label] + given[label]) for label in wanted}


def cohen_kappa(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Return Cohen's kappa (1960): agreement beyond what the two label frequencies give by chance.

    Where both rows hold the same single label throughout, chance already explains all: 0.
    """
    n = len(gold)
    wanted, given = Counter(gold), Counter(predicted)
    chance = sum(wanted[label] * given[label] for label in wanted) / (n * n)
    return 0.0 if chance == 1 else (accuracy(gold, predicted) - chance) / (1 - chance)


def set_agreement(gold: Sequence[Sequence[Hashable]], predicted: Sequence[Sequence[Hashable]]) -> SetAgreement:
    """Compare two rows of label sets; F1 over the labels that occur in `gold`.

    Raises:
        ValueError: Nothing to compare, or rows of different length.
    """
    if not gold or len(gold) != len(predicted):
        raise ValueError(f"Cannot compare {len(gold)} label sets with {len(predicted)}.")
    wanted = Counter(label for labels in gold for label in set(labels))
    given = Counter(label for labels in predicted for label in set(labels))
    pairs = [(set(a), set(b)) for a, b in zip(gold, predicted, strict=True)]
    hits = Counter(label for a, b in pairs for label in a & b)
    return SetAgreement(
        n=len(gold),
        same=round(sum(a == b for a, b in pairs) / len(pairs), 4),
        shared=round(sum(bool(a & b) for a, b in pairs) / len(pairs), 4),
        macro_f1=round(sum(2 * hits[x] / (wanted[x] + given[x]) for x in wanted) / max(len(wanted), 1), 4),
        micro_f1=round(2 * hits.total() / max(wanted.total() + given.total(), 1), 4),
    )


def auc(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Return the chance that a positive has the higher score than a negative, ties counting half (Hanley, McNeil 1982).

    Raises:
        ValueError: One of the two sides is empty.
    """
    ups = [s for s, yes in zip(scores, positive, strict=True) if yes]
    downs = [s for s, yes in zip(scores, positive, strict=True) if not yes]
    if not ups or not downs:
        raise ValueError(f"An AUC needs both sides; got {len(ups)} positive and {len(downs)} negative.")
    wins = sum((up > down) + 0.5 * (up == down) for up in ups for down in downs)
    return wins / (len(ups) * len(downs))


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation: Pearson's of the ranks, ties sharing their mean rank.

    Raises:
        ValueError: Fewer than two pairs, or one side is constant.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"A rank correlation needs two equally long rows of 2 or more, got {len(first)}, {len(second)}."
        )
    a, b = _ranks(first), _ranks(second)
    mean = (len(a) + 1) / 2
    spread = (sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b)) ** 0.5
    if spread == 0:
        raise ValueError("A rank correlation needs values that differ; one side is constant.")
    return sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True)) / spread


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    first = {value: place for place, value in reversed(list(enumerate(ordered, start=1)))}
    counts = Counter(ordered)
    return [first[value] + (counts[value] - 1) / 2 for value in values]
