"""Whether the local emotion scorer says of real people what they said themselves, and of agents what is known of them.

The scorer has two readings of a supporter turn. `reply` knows what a local seeker knows before it answers: the state
before and the actions; it is what decides in a simulation. `answer` also knows how the seeker moved: what that
change is worth. Real seekers have no hidden need on record, nor a character, so the drive is 0 throughout.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..pipeline.agreement import auc, spearman
from ..pipeline.corpus import Dialogue
from ..pipeline.labels import DialogueLabels, TurnLabels
from ..pipeline.local_annotator import LocalAnnotator
from ..pipeline.local_fit import read_labelled
from ..skills_bank.encoder import Encoder
from ..skills_bank.taxonomy import SupportAction
from .change_values import fit_values
from .emotion import EmotionState
from .judgement import Rules, SeekerParams, expected_points, points_of_change
from .needs import Character, HiddenNeed
from .playing import Settings, World, action_agent, human_agent, play, world
from .recorded import Runs, figures
from .response import ACTIONS, CHANGES, STATES, ResponseModel, fit_response, fold_of, turn_sameness
from .sentiment import sentiment
from .surveys import read_drops

RESAMPLES = 500
FOLDS = 5
GROUPS: dict[str, tuple[SupportAction, ...]] = {
    "only advises": (SupportAction.PRACTICAL_SUGGESTION,),
    "only asks": (
        SupportAction.OPEN_EXPLORATION,
        SupportAction.CLARIFYING_QUESTION,
        SupportAction.REFLECTIVE_QUESTIONING,
    ),
    "only reassures": (SupportAction.REASSURANCE_AND_ENCOURAGEMENT,),
}
"""Known groups, as action profiles; asking draws its three kinds as often as human supporters do."""
HUMAN = "human action frequencies"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Frozen):
    """One figure with its 95% bootstrap interval over dialogues."""

    value: float
    low: float
    high: float


class Row(_Frozen):
    """One scorer, by what it is compared with."""

    scorer: str
    survey: Figure
    ratings: Figure | None
    failed: Figure


class Group(_Frozen):
    """One action profile: in the simulation, and in real talks."""

    name: str
    change: float
    final: float
    success: float
    failure: float
    real_turns: int
    real_points: Figure | None
    share_and_drop: Figure | None = Field(description="Rank correlation of the actions' share with the survey drop.")


class Words(_Frozen):
    """One agent through words: the talks of the shipped evaluation profiles."""

    agent: str
    talks: int
    change: float
    final: float
    error: float = Field(description="Standard error of the mean final value, over profiles.")
    understood: float = Field(description="Share of intended actions that the seeker heard.")
    success: int
    failure: int


class Validity(_Frozen):
    """All that is measured."""

    encoder: str
    surveys: int
    all_surveys: int
    ups: int
    downs: int
    successes: int
    failures: int
    rows: tuple[Row, ...]
    cross_validated: Figure
    cross_validated_dialogues: tuple[int, int]
    groups: tuple[Group, ...]
    words: tuple[Words, ...]
    context: dict[str, float]


class Case(NamedTuple):
    """One real dialogue with the scores of its supporter turns, by scorer; turns by their place."""

    id: str
    split: str
    scores: dict[str, dict[int, float]]
    whole: dict[str, float]
    """Scores of the dialogue by baselines that have none of turns."""
    rated: tuple[tuple[int, int, bool], ...]
    """Two places and whether the rating rose between them."""

    def mean(self, scorer: str) -> float:
        """Return the dialogue's score."""
        if scorer in self.whole:
            return self.whole[scorer]
        turns = self.scores[scorer]
        return sum(turns.values()) / len(turns) if turns else 0.0


Scorer = Callable[[DialogueLabels], dict[int, float]]


def scorer(model: ResponseModel, rules: Rules, *, answer: bool) -> Scorer:
    """Return what scores each supporter turn of labelled dialogues, by place."""

    def score(labels: DialogueLabels) -> dict[int, float]:
        found: dict[int, float] = {}
        same = turn_sameness(labels)
        for i in range(1, len(labels.turns) - 1):
            before, turn = labels.turns[i - 1], labels.turns[i]
            if turn.change is None or before.state is None or not turn.actions:
                continue
            still = np.zeros(1)
            if answer:
                value = points_of_change(rules, np.array([CHANGES.index(turn.change)]), still)
            else:
                chances = model.change_chances(before.state, dict.fromkeys(turn.actions, 1.0), same[i])
                value = expected_points(rules, chances[None], still)
            found[i] = float(value[0])
        return found

    return score


def sentiment_turns(dialogue: Dialogue) -> dict[int, float]:
    """Return for each supporter turn by how much the seeker's next words sound better than those before."""
    said = [sentiment(turn.content) for turn in dialogue.turns()]
    turns = dialogue.turns()
    return {i: said[i + 1] - said[i - 1] for i in range(1, len(turns) - 1) if turns[i].speaker == "supporter"}


def sentiment_end(dialogue: Dialogue) -> float:
    """Return how the seeker's words of the last third sound."""
    said = [turn.content for turn in dialogue.turns() if turn.speaker == "seeker"]
    return sentiment(" ".join(said[-max(1, len(said) // 3) :]))


def rating_changes(dialogue: Dialogue, labels: DialogueLabels) -> tuple[tuple[int, int, bool], ...]:
    """Return each two successive ratings of the seeker that differ."""
    given = [(i, rating) for i, turn in enumerate(labels.turns) if (rating := _rating(dialogue, turn)) is not None]
    return tuple((i, j, after > before) for (i, before), (j, after) in pairwise(given) if before != after)


def _rating(dialogue: Dialogue, turn: TurnLabels) -> int | None:
    given = [line.feedback for line in dialogue.utterances[slice(*turn.utterances)] if line.feedback]
    return given[-1] if given and turn.speaker == "seeker" else None


def rated(cases: Iterable[Case], scorer: str) -> list[tuple[float, bool]]:
    """Return (mean score of the supporter turns between two ratings, whether the rating rose)."""
    found: list[tuple[float, bool]] = []
    for case in cases:
        scores = case.scores.get(scorer, {})
        for i, j, up in case.rated:
            between = [scores[k] for k in range(i, j) if k in scores]
            if between:
                found.append((sum(between) / len(between), up))
    return found


def measure(shared: Path, params: SeekerParams, say: Callable[[str], None] = lambda _: None) -> Validity:
    """Measure everything on the corpus under `shared`.

    Raises:
        CorpusError: The corpus is absent.
    """
    encoder = Encoder.load(threads=2)
    annotator = LocalAnnotator.load(encoder)
    drops = read_drops(shared)
    gold = list(_labels(("train", "failed")))
    say("reading valid and failed")
    read = list(read_labelled(shared, ("valid", "failed"), encoder))
    predicted = {r.dialogue.id: annotator.labels(r.dialogue, r.reading) for r in read}
    fitted: dict[int | None, tuple[ResponseModel, Rules]] = {
        held: _refit([d for d in gold if held is None or fold_of(d.id) != held], drops, params)
        for held in (None, *range(FOLDS))
    }
    cases: list[Case] = []
    for labels, dialogue, _ in read:
        model, rules = fitted[None if labels.split == "valid" else fold_of(labels.id)]
        reply, answer = scorer(model, rules, answer=False), scorer(model, rules, answer=True)
        other = predicted[labels.id]
        cases.append(
            Case(
                id=labels.id,
                split=labels.split,
                scores={
                    "reply, our labels": reply(labels),
                    "reply, predicted labels": reply(other),
                    "answer, our labels": answer(labels),
                    "answer, predicted labels": answer(other),
                    "sentiment of the answer": sentiment_turns(dialogue),
                },
                whole={
                    "reply, summed, our labels": sum(reply(labels).values()),
                    "answer, summed, our labels": sum(answer(labels).values()),
                    "answer, summed, predicted labels": sum(answer(other).values()),
                    "length": float(len(labels.turns)),
                    "sentiment of the last third": sentiment_end(dialogue),
                },
                rated=rating_changes(dialogue, labels),
            )
        )
    valid = [case for case in cases if case.split == "valid"]
    surveyed = [case for case in valid if case.id in drops]
    names = [*cases[0].scores, *cases[0].whole]
    say("bootstrap")
    rows = tuple(
        Row(
            scorer=name,
            survey=_interval(surveyed, lambda some, n=name: _survey(some, n, drops)),
            ratings=_interval(valid, lambda some, n=name: _ratings(some, n)) if name in cases[0].scores else None,
            failed=_interval(cases, lambda some, n=name: _failed(some, n)),
        )
        for name in names
    )
    crossed = [Case(d.id, d.split, {"reply": scorer(*fitted[fold_of(d.id)], answer=False)(d)}, {}, ()) for d in gold]
    ratings = rated(valid, names[0])
    return Validity(
        encoder=encoder.version,
        surveys=len(surveyed),
        all_surveys=len(drops),
        ups=sum(up for _, up in ratings),
        downs=sum(not up for _, up in ratings),
        successes=len(valid),
        failures=len(cases) - len(valid),
        rows=rows,
        cross_validated=_interval(crossed, lambda some: _failed(some, "reply")),
        cross_validated_dialogues=(
            sum(case.split != "failed" for case in crossed),
            sum(case.split == "failed" for case in crossed),
        ),
        groups=groups(gold, list(_labels(("valid",))), params, drops),
        words=(),
        context=hearing_context(read, encoder),
    )


def _labels(splits: Sequence[str]) -> Iterable[DialogueLabels]:
    from ..pipeline.labels import load_labels

    return (labels for labels in load_labels() if labels.split in splits)


def _refit(
    labels: Sequence[DialogueLabels], drops: Mapping[str, float], params: SeekerParams
) -> tuple[ResponseModel, Rules]:
    """Fit chances and values on some dialogues; the scale of points is the calibrated one."""
    values, _, _ = fit_values(labels, drops, resamples=2)
    rules = Rules.of(params)._replace(values=np.array([values[change].value for change in CHANGES]))
    return fit_response(labels, "fold"), rules


def _survey(cases: Sequence[Case], name: str, drops: Mapping[str, float]) -> float:
    return spearman([case.mean(name) for case in cases], [drops[case.id] for case in cases])


def _ratings(cases: Sequence[Case], name: str) -> float:
    pairs = rated(cases, name)
    return auc([score for score, _ in pairs], [up for _, up in pairs])


def _failed(cases: Sequence[Case], name: str) -> float:
    """Return the chance that an ESConv dialogue scores above a FailedESConv one."""
    return auc([case.mean(name) for case in cases], [case.split != "failed" for case in cases])


def _interval(cases: Sequence[Case], value: Callable[[Sequence[Case]], float], seed: int = 7) -> Figure:
    """Return a figure with its percentile interval; a resample on which it has no value is drawn again."""
    draw = random.Random(seed)
    found: list[float] = []
    while len(found) < RESAMPLES:
        try:
            found.append(value(draw.choices(cases, k=len(cases))))
        except ValueError:
            continue
    low, high = np.percentile(found, [2.5, 97.5])
    return Figure(value=round(value(cases), 3), low=round(float(low), 3), high=round(float(high), 3))


# Known groups ------------------------------------------------------------------------------------------------------


def group_sets(labels: Sequence[DialogueLabels]) -> dict[str, list[tuple[int, ...]]]:
    """Return each group's action sets, each action as often as human supporters take it."""
    counts = {action: 0 for action in SupportAction}
    for dialogue in labels:
        for turn in dialogue.turns:
            for action in turn.actions:
                counts[action] += 1
    return {
        name: [(ACTIONS.index(action),) for action in actions for _ in range(max(1, counts[action] // 10))]
        for name, actions in GROUPS.items()
    }


def groups(
    fit: Sequence[DialogueLabels], real: Sequence[DialogueLabels], params: SeekerParams, drops: Mapping[str, float]
) -> tuple[Group, ...]:
    """Play each action profile against all needs and characters alike, and look at the same profiles in real talks.

    What followed such turns is counted on `real`; how the share of such actions goes with the surveys, on all talks.
    """
    model, rules = ResponseModel.load(), Rules.of(params)
    humans = human_agent(fit, model)
    n = len(HiddenNeed) * len(Character)
    needs, characters = np.arange(n) % len(HiddenNeed), np.arange(n) // len(HiddenNeed)
    lowest_first = (EmotionState.F, EmotionState.C, EmotionState.B, EmotionState.A, EmotionState.S)
    goodbyes = np.array([params.goodbyes[state] for state in lowest_first])
    at = world(np.tile(needs, 5), np.tile(characters, 5), humans, model, goodbyes)
    settings = Settings(
        params.need.value, params.mood.value, params.carry.value, params.disposition.value,
        np.array([params.characters[character].value for character in Character]),
    )  # fmt: skip
    surveyed = [d for d in (*fit, *real) if d.id in drops]
    found = [_group(HUMAN, at, settings, rules, real, None)]
    for name, sets in group_sets(fit).items():
        agent = action_agent(sets, [list(range(len(sets)))] * len(STATES), humans.first, model)
        group = _group(name, at._replace(agent=agent), settings, rules, real, GROUPS[name])
        told = _share_interval(surveyed, GROUPS[name], drops)
        found.append(group.model_copy(update={"share_and_drop": told}))
    return tuple(found)


def _group(
    name: str,
    at: World,
    settings: Settings,
    rules: Rules,
    real: Sequence[DialogueLabels],
    actions: Sequence[SupportAction] | None,
) -> Group:
    played: Runs = play(at, settings, rules).runs
    told = figures(played.changes, played.finals)
    by_dialogue = {d.id: points for d in real if (points := _real_points(d, rules, actions))}
    every = [p for points in by_dialogue.values() for p in points]
    return Group(
        name=name,
        change=round(told["change"], 2),
        final=round(told["final"], 1),
        success=round(told["success"], 3),
        failure=round(told["failure"], 3),
        real_turns=len(every),
        real_points=_mean_interval(list(by_dialogue.values())) if every else None,
        share_and_drop=None,
    )


def _real_points(dialogue: DialogueLabels, rules: Rules, actions: Sequence[SupportAction] | None) -> list[float]:
    """Return what followed, in points, the turns that did these things and nothing else."""
    changes = [
        CHANGES.index(turn.change)
        for turn in dialogue.turns
        if turn.change is not None and (actions is None or set(turn.actions) <= set(actions))
    ]
    return [float(p) for p in points_of_change(rules, np.array(changes, dtype=np.int64), np.zeros(len(changes)))]


def _mean_interval(dialogues: Sequence[Sequence[float]], seed: int = 7) -> Figure:
    draw = random.Random(seed)

    def mean(some: Sequence[Sequence[float]]) -> float:
        return sum(map(sum, some)) / sum(map(len, some))

    draws = [mean(draw.choices(dialogues, k=len(dialogues))) for _ in range(RESAMPLES)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Figure(value=round(mean(dialogues), 2), low=round(float(low), 2), high=round(float(high), 2))


def _share_interval(
    dialogues: Sequence[DialogueLabels], actions: Sequence[SupportAction], drops: Mapping[str, float]
) -> Figure:
    """Return how the share of some actions among a talk's replies goes with the seeker's reported drop."""
    turns = [[t for t in d.turns if t.actions] for d in dialogues]
    shares = [sum(bool(set(t.actions) & set(actions)) for t in some) / max(len(some), 1) for some in turns]
    pairs = [(share, drops[d.id]) for share, d in zip(shares, dialogues, strict=True)]
    draw = random.Random(7)

    def rho(some: Sequence[tuple[float, float]]) -> float:
        return spearman([a for a, _ in some], [b for _, b in some])

    low, high = np.percentile([rho(draw.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES)], [2.5, 97.5])
    return Figure(value=round(rho(pairs), 3), low=round(float(low), 3), high=round(float(high), 3))


# Hearing -----------------------------------------------------------------------------------------------------------


def hearing_context(read: Sequence, encoder: Encoder, most: int = 60) -> dict[str, float]:
    """Return the micro-F1 of the actions heard on `valid` with the seeker's last words, and with two whole turns.

    And how often a real reply seems off topic, against replies taken from the same place of another dialogue.
    """
    from ..pipeline.agreement import set_agreement
    from ..skills_bank.models import Message
    from .hearing import Ear

    ear, annotator = Ear.load(encoder), LocalAnnotator.load(encoder)
    gold: list[tuple[SupportAction, ...]] = []
    short: list[tuple[SupportAction, ...]] = []
    whole: list[tuple[SupportAction, ...]] = []
    own: list[bool] = []
    swapped: list[bool] = []
    some = [r for r in read if r.labels.split == "valid"][:most]
    for place, (labels, dialogue, reading) in enumerate(some):
        other_turns = some[(place + 1) % len(some)].dialogue.turns()
        talk = [Message(role=turn.speaker, content=turn.content) for turn in dialogue.turns()]
        other = annotator.labels(dialogue, reading)
        for i, turn in enumerate(labels.turns):
            if turn.actions:
                gold.append(turn.actions)
                heard = ear.hear(talk[: i + 1])
                short.append(tuple(heard.actions))
                own.append(heard.off_topic)
                foreign = next((t.content for t in other_turns[i:] if t.speaker == "supporter"), None)
                if foreign is not None and i:
                    strange = [*talk[:i], Message(role="supporter", content=foreign)]
                    swapped.append(ear.hear(strange).off_topic)
                whole.append(other.turns[i].actions)
    return {
        "turns": float(len(gold)),
        "short": set_agreement(gold, short).micro_f1,
        "whole": set_agreement(gold, whole).micro_f1,
        "off_topic": sum(own) / len(own),
        "off_topic_swapped": sum(swapped) / len(swapped),
    }
