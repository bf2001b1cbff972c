"""What the local annotator is worth: label by label, against the seekers' own ratings, and through the whole pipeline.

`esc-skills eval annotator` runs this. Gold is our own labels; `valid` is new to the encoder and to everything fitted,
`failed` is not.
"""

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from ..skills_bank.encoder import Encoder
from ..skills_bank.evidence import expected_outcome
from ..skills_bank.taxonomy import polarity
from .agreement import Agreement, SetAgreement, agreement, auc, f1_scores, set_agreement, spearman
from .change_model import POLARITIES, interventions, polarity_chances
from .corpus import Dialogue
from .labels import FLAGS, DialogueLabels, Flag, TurnLabels
from .local_annotator import LocalAnnotator
from .local_fit import read_labelled
from .prototypes import index, prototypes
from .units import units

RESAMPLES = 500
SIGN = {"positive": 1.0, "neutral": 0.0, "negative": -1.0}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FlagFigures(_Frozen):
    """One flag over seeker turns."""

    gold: int
    found: int
    both: int


class Ratings(_Frozen):
    """Predicted polarity between two ratings of the same seeker, against whether the rating went up or down."""

    up: int
    down: int
    auc: float
    low: float
    high: float
    auc_of_labels: float
    """The same with our labels in place of the prediction: what perfect labels would reach."""


class LocalFigures(_Frozen):
    """Agreement with our labels on one split."""

    split: str
    dialogues: int
    state: Agreement
    first_action: Agreement
    actions: SetAgreement
    change: Agreement
    polarity: Agreement
    negative_f1: float
    scenario: Agreement
    scenarios: SetAgreement
    flags: dict[Flag, FlagFigures]
    ratings: Ratings | None


class PipelineFigures(_Frozen):
    """Prototypes and effects from one set of labels beside those from another; `ours` is the reference."""

    name: str
    units: tuple[int, int]
    prototypes: tuple[int, int]
    """Reference, other."""
    shared: int
    outcome: float
    """Spearman's rho of the expected outcomes over the shared prototypes."""
    lift_positive: float
    lift_negative: float


class Judged(NamedTuple):
    """One dialogue with both sets of labels."""

    gold: DialogueLabels
    local: DialogueLabels
    dialogue: Dialogue
    polarity: dict[int, float]
    """Place of a supporter turn → chance of a positive minus chance of a negative change."""


class AnnotatorReport(_Frozen):
    """Everything on docs/annotators.md that is measured."""

    annotator: str
    valid: LocalFigures
    failed: LocalFigures
    pipeline: tuple[PipelineFigures, ...]


def evaluate(shared: Path, annotator: LocalAnnotator | None = None, encoder: Encoder | None = None) -> AnnotatorReport:
    """Annotate `valid` and `failed` from their text alone and compare with our labels.

    Raises:
        CorpusError: The corpus is absent under `shared`.
        ModelError: The annotator's files are missing or altered.
    """
    encoder = encoder or Encoder.load(threads=2)
    annotator = annotator or LocalAnnotator.load(encoder)
    judged = {split: judge(shared, split, annotator, encoder) for split in ("valid", "failed")}
    both = [*judged["valid"], *judged["failed"]]
    everything = units(splits=("train", "failed"))
    return AnnotatorReport(
        annotator=annotator.name,
        valid=compare("valid", judged["valid"]),
        failed=compare("failed", judged["failed"]),
        pipeline=(
            through_pipeline("valid + failed", [j.gold for j in both], [j.local for j in both]),
            through_pipeline(
                "valid", [j.gold for j in judged["valid"]], [j.local for j in judged["valid"]]
            ),
            _between(
                "yardstick: our labels of train + failed beside our labels of valid",
                units([j.gold for j in judged["valid"]], ("valid",)),
                everything,
            ),
        ),
    )  # fmt: skip


def judge(shared: Path, split: str, annotator: LocalAnnotator, encoder: Encoder) -> list[Judged]:
    """Annotate every dialogue of a split."""
    found: list[Judged] = []
    for gold, dialogue, reading in read_labelled(shared, (split,), encoder):
        sides = polarity_chances(annotator.change_chances(reading))
        score = sides[:, POLARITIES.index("positive")] - sides[:, POLARITIES.index("negative")]
        scores = dict(zip(interventions(reading), map(float, score), strict=True))
        found.append(Judged(gold, annotator.labels(dialogue, reading), dialogue, scores))
    return found


def compare(split: str, judged: Sequence[Judged]) -> LocalFigures:
    """Return the agreement of both sets of labels."""
    pairs = [pair for j in judged for pair in zip(j.gold.turns, j.local.turns, strict=True)]
    states = [(a.state, b.state) for a, b in pairs if a.state]
    actions = [(a.actions, b.actions) for a, b in pairs if a.actions]
    changes = [(a.change, b.change) for a, b in pairs if a.change and b.change]
    sides = [(polarity(a), polarity(b)) for a, b in changes]
    return LocalFigures(
        split=split,
        dialogues=len(judged),
        state=_agreement(states),
        first_action=_agreement([(a[0], b[0]) for a, b in actions]),
        actions=set_agreement([a for a, _ in actions], [b for _, b in actions]),
        change=_agreement(changes),
        polarity=_agreement(sides),
        negative_f1=round(f1_scores([a for a, _ in sides], [b for _, b in sides]).get("negative", 0.0), 4),
        scenario=_agreement([(j.gold.scenarios[0], j.local.scenarios[0]) for j in judged]),
        scenarios=set_agreement([j.gold.scenarios for j in judged], [j.local.scenarios for j in judged]),
        flags={flag: _flag(flag, pairs) for flag in FLAGS},
        ratings=ratings(judged),
    )


def ratings(judged: Sequence[Judged], seed: int = 7) -> Ratings | None:
    """Return how well predicted polarity tells whether the seeker's next rating is lower or higher than the last.

    One case is two successive ratings of a seeker that differ; its score is the mean, over the supporter turns between
    them, of the chance of a positive minus that of a negative change. The interval is a percentile bootstrap over
    dialogues. None where no rating of one of the two kinds is there.
    """
    cases = [(_cases(j, j.polarity), _cases(j, _labelled(j.gold))) for j in judged]
    predicted, labelled = [case for a, _ in cases for case in a], [case for _, b in cases for case in b]
    if len({up for _, up in predicted}) < 2:
        return None
    random_ = random.Random(seed)
    draws: list[float] = []
    while len(draws) < RESAMPLES:
        drawn = [case for a, _ in random_.choices(cases, k=len(cases)) for case in a]
        if len({up for _, up in drawn}) == 2:
            draws.append(_auc(drawn))
    low, high = np.percentile(draws, [2.5, 97.5])
    return Ratings(
        up=sum(up for _, up in predicted),
        down=sum(not up for _, up in predicted),
        auc=round(_auc(predicted), 4),
        low=round(float(low), 4),
        high=round(float(high), 4),
        auc_of_labels=round(_auc(labelled), 4),
    )


def through_pipeline(name: str, ours: Iterable[DialogueLabels], theirs: Iterable[DialogueLabels]) -> PipelineFigures:
    """Build units and prototypes from both sets of labels of the same dialogues and compare them."""
    ours, theirs = list(ours), list(theirs)
    splits = {labels.split for labels in ours}
    return _between(name, units(ours, splits), units(theirs, splits))


def _between(name: str, ours: Sequence, theirs: Sequence) -> PipelineFigures:
    a, b = index(prototypes(ours)), index(prototypes(theirs))
    cells = [cell for cell in a if cell in b]

    def rho(value) -> float:
        return round(spearman([value(a[cell]) for cell in cells], [value(b[cell]) for cell in cells]), 4)

    return PipelineFigures(
        name=name,
        units=(len(ours), len(theirs)),
        prototypes=(len(a), len(b)),
        shared=len(cells),
        outcome=rho(expected_outcome),
        lift_positive=rho(lambda p: p.lift_positive),
        lift_negative=rho(lambda p: p.lift_negative),
    )


def _agreement(pairs: Sequence[tuple]) -> Agreement:
    return agreement([a for a, _ in pairs], [b for _, b in pairs])


def _flag(flag: Flag, pairs: Sequence[tuple[TurnLabels, TurnLabels]]) -> FlagFigures:
    return FlagFigures(
        gold=sum(flag in a.flags for a, _ in pairs),
        found=sum(flag in b.flags for _, b in pairs),
        both=sum(flag in a.flags and flag in b.flags for a, b in pairs),
    )


def _labelled(gold: DialogueLabels) -> dict[int, float]:
    return {i: SIGN[polarity(turn.change)] for i, turn in enumerate(gold.turns) if turn.change}


def _cases(judged: Judged, scores: dict[int, float]) -> list[tuple[float, bool]]:
    """Return (score, rating went up) for each two successive ratings that differ."""
    given = [(i, rating) for i, turn in enumerate(judged.gold.turns) if (rating := _rating(judged.dialogue, turn))]
    found: list[tuple[float, bool]] = []
    for (i, before), (j, after) in pairwise(given):
        between = [scores[k] for k in range(i, j) if k in scores]
        if before != after and between:
            found.append((sum(between) / len(between), after > before))
    return found


def _rating(dialogue: Dialogue, turn: TurnLabels) -> int | None:
    """Return the last rating given in a seeker turn."""
    given = [line.feedback for line in dialogue.utterances[slice(*turn.utterances)] if line.feedback]
    return given[-1] if given else None


def _auc(cases: Sequence[tuple[float, bool]]) -> float:
    return auc([score for score, _ in cases], [up for _, up in cases])
