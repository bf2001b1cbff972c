"""The recorded SAGE runs as arrays, and the moments by which a simulation is compared with them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..skills_bank.errors import InputError
from .emotion import SAGE, EmotionState, state_of
from .needs import Character
from .sage_files import Talk, read_talks
from .service import NEEDS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHARACTERS = list(Character)
SCORED = SAGE.rounds - 1
"""Scored turns at most: the last reply gets no answer."""


class Runs(NamedTuple):
    """Scored talks as arrays: r runs of the same n profiles."""

    needs: Ints
    """(n,) places in `HiddenNeed`."""
    characters: Ints
    """(n,) places in `Character`."""
    changes: Floats
    """(r, n, 9) points a turn; nan after the end."""
    goodbye: NDArray[np.bool_]
    """(r, n, 9) whether the seeker left with that turn."""

    @property
    def finals(self) -> Floats:
        """(r, n) last scored value."""
        points = np.full(self.changes.shape[:2], float(SAGE.start))
        for turn in range(SCORED):
            step = np.nan_to_num(self.changes[:, :, turn])
            points = np.clip(points + step, 0, SAGE.cap)
        return points


MOMENTS = ("persistence", "between", "needs", "profiles", "negative", "avoidant")
MOMENT_NAMES: dict[str, str] = {
    "persistence": "correlation of successive changes of a talk",
    "between": "standard deviation of the talks' mean changes",
    "needs": "standard deviation of the hidden needs' mean changes",
    "profiles": "correlation of a profile's mean change over two agents",
    "negative": "mean change of negative characters less that of the others",
    "avoidant": "mean change of avoidant characters less that of passive ones",
}


def load_runs(folder: Path) -> tuple[tuple[str, ...], Runs]:
    """Read all recorded runs of a folder; they must be of the same profiles.

    Raises:
        InputError: There are fewer than two, or they differ in their profiles.
    """
    found = {path.stem: {talk.id: talk for talk in read_talks(path)[0]} for path in sorted(folder.glob("*.jsonl"))}
    if len(found) < 2:
        raise InputError(f"{folder} holds {len(found)} recorded SAGE runs; calibration needs two or more.")
    ids = sorted(set.union(*(set(talks) for talks in found.values())))
    for name, talks in found.items():
        if missing := set(ids) - set(talks):
            raise InputError(f"{name} lacks {len(missing)} profiles that other runs have, e.g. {min(missing)}.")
    first = next(iter(found.values()))
    rows = [[_row(talks[i]) for i in ids] for talks in found.values()]
    return tuple(found), Runs(
        needs=np.array([NEEDS.index(first[i].need) for i in ids]),
        characters=np.array([CHARACTERS.index(first[i].character) for i in ids]),
        changes=np.array([[changes for changes, _ in run] for run in rows]),
        goodbye=np.array([[left for _, left in run] for run in rows]),
    )


def _row(talk: Talk) -> tuple[list[float], list[bool]]:
    turns = talk.turns[:SCORED]
    rest = SCORED - len(turns)
    return [float(t.change) for t in turns] + [np.nan] * rest, [t.goodbye for t in turns] + [False] * rest


def moments(runs: Runs) -> Floats:
    """Return `MOMENTS`, each the mean over the runs (of the pairs of runs for `profiles`)."""
    means = np.nanmean(runs.changes, axis=2)
    found: list[list[float]] = []
    for changes, talk in zip(runs.changes, means, strict=True):
        centred = changes - np.nanmean(changes)
        pairs = centred[:, 1:] * centred[:, :-1]
        of = [[_mean(changes[kind == k]) for k in np.unique(kind)] for kind in (runs.needs,)]
        character = [changes[runs.characters == i] for i in range(len(CHARACTERS))]
        negative, passive, avoidant = (character[CHARACTERS.index(c)] for c in _ORDER)
        others = np.concatenate([passive, avoidant])
        found.append([
            float(np.nanmean(pairs) / np.nanvar(changes)), float(talk.std()), float(np.std(of[0])), np.nan,
            _mean(negative) - _mean(others), _mean(avoidant) - _mean(passive),
        ])  # fmt: skip
    result = np.array(found)
    upper = np.triu_indices(len(means), 1)
    row = np.array([np.nan if np.isnan(column).all() else column.mean() for column in result.T])
    row[MOMENTS.index("profiles")] = float(np.corrcoef(means)[upper].mean())
    return row


_ORDER = (Character.NEGATIVE, Character.PASSIVE, Character.AVOIDANT)


def _mean(changes: Floats) -> float:
    return float(np.nanmean(changes))


def figures(changes: Floats, finals: Floats) -> dict[str, float]:
    """Return SAGE's figures over any array of changes and final values."""
    some = changes[~np.isnan(changes)]
    return {
        "change": float(some.mean()),
        "spread": float(some.std()),
        "negative": float((some < 0).mean()),
        "zero": float((some == 0).mean()),
        "final": float(finals.mean()),
        "final_sd": float(finals.std()),
        "success": float((finals >= SAGE.cap).mean()),
        "failure": float((finals < SAGE.ends_below).mean()),
        "turns": float(len(some) / finals.size),
    }


LOWEST_FIRST = (EmotionState.F, EmotionState.C, EmotionState.B, EmotionState.A, EmotionState.S)


def goodbye_chances(runs: Runs) -> dict[EmotionState, float]:
    """Return the share of scored turns with which seekers left, by the emotion state after them.

    At S and F the talk is over whether or not anybody says goodbye; their shares tell how often it was said.
    """
    points = np.full(runs.changes.shape[:2], float(SAGE.start))
    counts = {state: [0, 0] for state in EmotionState}
    for turn in range(SCORED):
        here = ~np.isnan(runs.changes[:, :, turn])
        points = np.where(here, np.clip(points + np.nan_to_num(runs.changes[:, :, turn]), 0, SAGE.cap), points)
        for value, left in zip(points[here], runs.goodbye[:, :, turn][here], strict=True):
            counts[state_of(int(value))][0] += 1
            counts[state_of(int(value))][1] += int(left)
    return {state: round(left / max(n, 1), 4) for state, (n, left) in counts.items()}


def ladder_of(runs: Runs) -> tuple[Ints, Floats]:
    """Return the values that occur and how often each, the runs weighing alike."""
    rungs = np.unique(runs.changes[~np.isnan(runs.changes)])
    shares = np.array([[(run == rung).sum() / (~np.isnan(run)).sum() for rung in rungs] for run in runs.changes])
    return rungs.astype(np.int64), shares.mean(axis=0)


RESAMPLES = 1000


def resampled(runs: Runs, seed: int = 7) -> Floats:
    """Return the moments of `RESAMPLES` bootstrap samples of the profiles, which all runs share."""
    random = np.random.default_rng(seed)
    n = len(runs.needs)
    picks = [random.integers(n, size=n) for _ in range(RESAMPLES)]
    return np.array([
        moments(Runs(runs.needs[p], runs.characters[p], runs.changes[:, p], runs.goodbye[:, p])) for p in picks
    ])  # fmt: skip
