"""Fits what the labels cannot give: to the moments of the recorded SAGE runs, and to ESConv's survey scores.

What a change is worth comes from the surveys: over dialogues, how much the reported intensity drops with each
change's share of the turns, by ridge regression towards the taxonomy's polarity. Need, mood, carry, disposition and
character come from the runs by the method of simulated moments (McFadden 1989): the rules of `judgement` are run on the
profiles of the runs with an agent that follows the human supporters' action frequencies, until the moments match. The
level is a convention: that agent is taken to score as the five recorded agents together, since SAGE recorded no human.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..pipeline.labels import DialogueLabels
from ..skills_bank.errors import InputError, ModelError
from ..skills_bank.taxonomy import ResponseChange
from .emotion import SAGE, EmotionState, state_of
from .judgement import Interval, Rules, SeekerParams, drawn, drive, judge
from .needs import Character
from .response import (
    ACTIONS,
    CHANGES,
    EARLIER,
    SIGNS,
    STATES,
    USUAL,
    ResponseModel,
    data_folder,
    tilted,
)
from .sage_files import Talk, read_talks
from .service import NEEDS, service_table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CHARACTERS = list(Character)
SCORED = SAGE.rounds - 1
"""Scored turns at most: the last reply gets no answer."""
CALIBRATION_FILE = "calibration.json"
NOISE = 0.3
COPIES = 12
"""How often the profiles are run in one simulation."""
RESAMPLES = 1000
RIDGE = (30.0, 100.0, 300.0, 1000.0)
STEPS = 15
STRIDE = 0.1
ROUNDS, SETTLED = 25, 0.003


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
PARAMETERS = ("need", "mood", "carry", "disposition", "negative", "avoidant")
STARTS = ((1.0, 1.0, 0.5, 0.3, -0.4, 0.1), (2.2, 0.2, 1.3, 0.15, -0.35, 0.1))
"""Where the search begins; the moments are a valley, so it begins on both of its slopes."""
MOMENT_NAMES: dict[str, str] = {
    "persistence": "correlation of successive changes of a talk",
    "between": "standard deviation of the talks' mean changes",
    "needs": "standard deviation of the hidden needs' mean changes",
    "profiles": "correlation of a profile's mean change over two agents",
    "negative": "mean change of negative characters less that of the others",
    "avoidant": "mean change of avoidant characters less that of passive ones",
}


class RunCheck(_Frozen):
    """One recorded run beside the simulation, shifted by one number to the run's mean change."""

    run: str
    quality: float
    recorded: dict[str, float]
    simulated: dict[str, float]


class MomentFit(_Frozen):
    """A recorded moment with its interval, and what the simulation gives."""

    recorded: Interval
    simulated: float


class Fit(_Frozen):
    """`data/calibration.json`: how well the parameters fit."""

    format: Literal[1] = 1
    moments: dict[str, MomentFit]
    recorded: dict[str, float] = Field(description="Figures of the runs together.")
    simulated: dict[str, float]
    runs: tuple[RunCheck, ...]
    survey_dialogues: int
    survey_ridge: float


class Calibration(Fit):
    """The parameters with their fit."""

    params: SeekerParams


def load_calibration(path: Path | None = None) -> Fit:
    """Read how well the shipped parameters fit.

    Raises:
        ModelError: The file is missing or is none of ours.
    """
    path = path or data_folder() / CALIBRATION_FILE
    try:
        return Fit.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        raise ModelError(f"{path} is missing or of another form; run `esc-skills simulator calibrate`.") from None


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


# Simulation --------------------------------------------------------------------------------------------------------


class Humans(NamedTuple):
    """What human supporters did, state by state: the agent that calibration runs."""

    rows: Ints
    """Rows of all states one after the other, each as often as it occurred."""
    starts: Ints
    """(16,) where the rows of each state begin, and where the last ends."""
    chances: Floats
    """(rows, 15, 14) chances of the changes from each state."""
    service: Floats
    """(rows, 8) how well it serves each need."""
    first: Floats
    """(15,) shares of the states in which somebody was answered."""
    actions: Floats
    """(rows, 17) 1 for each action of the set."""
    wear: float


def human_agent(labels: Sequence[DialogueLabels], model: ResponseModel) -> Humans:
    """Collect the action sets of all supporter turns that stand between two seeker turns, by the state before."""
    sets: dict[tuple[int, ...], int] = {}
    of_state: list[list[int]] = [[] for _ in STATES]
    for dialogue in labels:
        for before, turn in zip(dialogue.turns, dialogue.turns[1:], strict=False):
            if turn.change is not None and before.state is not None and turn.actions:
                key = tuple(sorted(ACTIONS.index(action) for action in turn.actions))
                of_state[STATES.index(before.state)].append(sets.setdefault(key, len(sets)))
    counts = np.array([len(rows) for rows in of_state], dtype=float)
    return action_agent(list(sets), of_state, counts / counts.sum(), model)


def action_agent(
    sets: Sequence[tuple[int, ...]], of_state: Sequence[Sequence[int]], first: Floats, model: ResponseModel
) -> Humans:
    """Return an agent that in each state draws one of the given action sets."""
    table = model.change_table
    filled = [list(rows) or [0] for rows in of_state]
    return Humans(
        rows=np.concatenate([np.array(rows) for rows in filled]),
        starts=np.concatenate([[0], np.cumsum([len(rows) for rows in filled])]),
        chances=np.array([table[:, list(actions)].mean(axis=1) for actions in sets]),
        service=np.array([service_table()[:, list(actions)].mean(axis=1) for actions in sets]),
        first=first,
        actions=np.array([[float(i in actions) for i in range(len(ACTIONS))] for actions in sets]),
        wear=model.wear,
    )


class World(NamedTuple):
    """All that stays the same while parameters are tried: profiles, chance, agent, model."""

    needs: Ints
    characters: Ints
    agent: Humans
    nexts: Floats
    goodbyes: Floats
    """(5,) chances in the order of `EmotionState`."""
    draws: Floats
    """(runs, profiles, 9, 5) uniform numbers: action, change, worth, next state, goodbye."""
    own: Floats
    """(profiles,) dispositions, standard normal."""


def world(needs: Ints, characters: Ints, agent: Humans, model: ResponseModel, goodbyes: Floats, seed: int = 7) -> World:
    """Prepare `COPIES` times the profiles, in two runs."""
    random = np.random.default_rng(seed)
    n = COPIES * len(needs)
    return World(
        needs=np.tile(needs, COPIES),
        characters=np.tile(characters, COPIES),
        agent=agent,
        nexts=model.next_table,
        goodbyes=goodbyes,
        draws=random.random((2, n, SCORED, 5)),
        own=random.standard_normal(n),
    )


class Settings(NamedTuple):
    """What is fitted; characters in the order of the enum."""

    need: float
    mood: float
    carry: float
    disposition: float
    characters: Floats

    @classmethod
    def of(cls, theta: Floats) -> "Settings":
        """Read the row of `PARAMETERS`: negative against the others, avoidant against passive."""
        need, mood, carry, disposition, negative, avoidant = theta
        drive_of = {
            Character.NEGATIVE: negative * 2 / 3,
            Character.PASSIVE: -negative / 3 - avoidant / 2,
            Character.AVOIDANT: -negative / 3 + avoidant / 2,
        }
        return cls(need, mood, carry, disposition, np.array([drive_of[c] for c in CHARACTERS]))


class Played(NamedTuple):
    """A simulation: the talks, and the worth of each scored turn."""

    runs: Runs
    worth: Floats
    changes: Ints
    """(r, n, 9) response changes, -1 after the end."""


def play(at: World, settings: Settings, rules: Rules, quality: float = 0.0) -> Played:
    """Run every talk, with `quality` added to the drive of each turn."""
    shape = at.draws.shape[:3]
    changes, worth = np.full(shape, np.nan), np.full(shape, np.nan)
    left, responses = np.zeros(shape, dtype=bool), np.full(shape, -1)
    lasting = settings.characters[at.characters] + settings.disposition * at.own + quality
    for run in range(shape[0]):
        state = drawn(np.tile(at.agent.first, (shape[1], 1)), at.draws[run, :, 0, 4])
        points, last = np.full(shape[1], float(SAGE.start)), np.zeros(shape[1])
        going, done = np.arange(shape[1]), np.zeros((shape[1], len(ACTIONS)))
        for turn in range(SCORED):
            u = at.draws[run, going, turn]
            begin, end = at.agent.starts[state], at.agent.starts[state + 1]
            rows = at.agent.rows[begin + (u[:, 0] * (end - begin)).astype(np.int64)]
            by = drive(rules, at.agent.service[rows, at.needs[going]], points, last, lasting[going])
            same = _sameness(at.agent.actions[rows], done, turn)
            chances = tilted(at.agent.chances[rows, state], at.agent.wear * same)
            judged = judge(rules, chances, by, u[:, 1:3])
            done += at.agent.actions[rows]
            points = np.clip(points + judged.points, 0.0, SAGE.cap).astype(np.float64)
            changes[run, going, turn], worth[run, going, turn] = judged.points, judged.worth
            responses[run, going, turn] = judged.change
            of = np.searchsorted([10, 40, 70, 100], points, side="right")
            gone = u[:, 4] < at.goodbyes[of]
            left[run, going, turn] = gone
            state = drawn(at.nexts[state, judged.change], u[:, 3])
            stay = ~gone & (points < SAGE.cap) & (points >= SAGE.ends_below)
            going, state, points, last = going[stay], state[stay], points[stay], judged.points[stay].astype(np.float64)
            done = done[stay]
            if not len(going):
                break
    return Played(Runs(at.needs, at.characters, changes, left), worth, responses)


def _sameness(actions: Floats, done: Floats, earlier: int) -> Floats:
    """Return what `response.sameness` says, for all talks at once; `done` counts the replies that held each action."""
    if earlier < EARLIER:
        return np.zeros(len(actions))
    share = (actions * done).sum(axis=1) / (actions.sum(axis=1) * earlier)
    return np.maximum(0.0, share - USUAL) / (1 - USUAL)


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


def settle(at: World, settings: Settings, rules: Rules, shares: Floats) -> tuple[Rules, Played]:
    """Lay the cuts so that the rungs are as frequent as recorded.

    A talk's course depends on the cuts and they on it, so both are found by turns, half a step at a time: a full one
    overshoots, since a talk that goes well goes on going well.
    """
    rules = rules._replace(need=settings.need, mood=settings.mood, carry=settings.carry)
    played = play(at, settings, rules)
    for _ in range(ROUNDS):
        worth = played.worth[~np.isnan(played.worth)]
        cuts = np.quantile(worth, np.cumsum(shares)[:-1])
        if np.abs(cuts - rules.cuts).max() < SETTLED:
            break
        rules = rules._replace(cuts=(cuts + rules.cuts) / 2)
        played = play(at, settings, rules)
    return rules, played


def _simulated(at: World, theta: Floats, rules: Rules, shares: Floats) -> tuple[Floats, Rules, Played]:
    """Return the moments as groups of the size of the recorded profiles would show them."""
    settings = Settings.of(theta)
    rules, played = settle(at, settings, rules, shares)
    size = len(at.needs) // COPIES
    parts = [slice(i * size, (i + 1) * size) for i in range(COPIES)]
    cut = [Runs(at.needs[p], at.characters[p], played.runs.changes[:, p], played.runs.goodbye[:, p]) for p in parts]
    return np.mean([moments(part) for part in cut], axis=0), rules, played


# Fitting -----------------------------------------------------------------------------------------------------------


def calibrate(
    recorded: tuple[Sequence[str], Runs],
    labels: Sequence[DialogueLabels],
    model: ResponseModel,
    drops: Mapping[str, float],
    say: Callable[[str], None] = lambda _: None,
) -> Calibration:
    """Fit everything.

    Args:
        recorded: Names and talks of the recorded runs.
        labels: Labelled dialogues to learn the worth of changes and the human supporters' actions from.
        model: The response model.
        drops: Dialogue -> how much the seeker's reported intensity fell.
        say: Is told how it goes.
    """
    names, runs = recorded
    values, ridge, dialogues = fit_values(labels, drops)
    goodbyes = goodbye_chances(runs)
    agent = human_agent(labels, model)
    at = world(runs.needs, runs.characters, agent, model, np.array([goodbyes[s] for s in LOWEST_FIRST]))
    rungs, shares = ladder_of(runs)
    row = np.array([values[change].value for change in CHANGES])
    start = np.quantile(np.random.default_rng(1).standard_normal(10_000), np.cumsum(shares)[:-1])
    rules = Rules(need=0, mood=0, carry=0, values=row, noise=NOISE, ladder=rungs, cuts=start)
    target = moments(runs)
    draws = resampled(runs)
    draws += target - draws.mean(axis=0)  # resampled groups differ more than the groups do
    fits = [_fit(at, rules, shares, target, draws.std(axis=0), start, say) for start in STARTS]
    theta, slopes, rules, _ = min(fits, key=lambda one: one[3])
    found, rules, played = _simulated(at, theta, rules, shares)
    weights = 1 / draws.std(axis=0)
    # One Gauss-Newton step from the fit to each resample's moments: what a refit would give, to first order.
    back = np.linalg.pinv(slopes * weights[:, None]) * weights[None, :]
    scattered = theta + (draws - target) @ back.T
    settings = Settings.of(theta)
    spread = np.array([Settings.of(t).characters for t in scattered])
    params = SeekerParams(
        source=f"{len(names)} recorded SAGE runs of {len(runs.needs)} profiles; {dialogues} surveys of train + failed",
        need=_interval(settings.need, scattered[:, 0]),
        mood=_interval(settings.mood, scattered[:, 1]),
        carry=_interval(settings.carry, scattered[:, 2]),
        disposition=_interval(settings.disposition, np.maximum(scattered[:, 3], 0)),
        characters={c: _interval(settings.characters[i], spread[:, i]) for i, c in enumerate(CHARACTERS)},
        values=values,
        noise=NOISE,
        ladder=tuple(int(rung) for rung in rungs),
        cuts=tuple(round(float(cut), 5) for cut in rules.cuts),
        goodbyes=goodbyes,
    )
    return Calibration(
        params=params,
        moments={
            name: MomentFit(recorded=_interval(target[i], draws[:, i]), simulated=round(float(found[i]), 4))
            for i, name in enumerate(MOMENTS)
        },
        recorded=_pooled(runs),
        simulated=figures(played.runs.changes, played.runs.finals),
        runs=tuple(_check(name, i, runs, at, settings, rules) for i, name in enumerate(names)),
        survey_dialogues=dialogues,
        survey_ridge=ridge,
    )


def _fit(
    at: World,
    rules: Rules,
    shares: Floats,
    target: Floats,
    errors: Floats,
    start: Sequence[float],
    say: Callable[[str], None],
) -> tuple[Floats, Floats, Rules, float]:
    """Levenberg and Marquardt's method on the moments, in units of their standard error, on the same chance."""
    theta, ones, damping = np.array(start), np.eye(len(PARAMETERS)), 0.1
    here, rules, _ = _simulated(at, theta, rules, shares)
    slopes = np.zeros((len(MOMENTS), len(PARAMETERS)))
    loss = _loss(here, target, errors)
    for step in range(STEPS):
        told = ", ".join(f"{name} {x:.2f}" for name, x in zip(PARAMETERS, theta, strict=True))
        say(f"step {step}: loss {loss:.2f} at {told}")
        nearby = [_simulated(at, theta + STRIDE * one, rules, shares)[0] for one in ones]
        slopes = np.stack([(moved - here) / STRIDE for moved in nearby], axis=1)
        scaled, before = slopes / errors[:, None], loss
        while damping < 1000:
            square = scaled.T @ scaled
            move = np.linalg.solve(square + damping * np.diag(np.diag(square)), scaled.T @ ((target - here) / errors))
            tried: Floats = (theta + np.clip(move, -0.6, 0.6)).astype(np.float64)
            tried[:4] = np.maximum(tried[:4], 0.0)
            after, laid, _ = _simulated(at, tried, rules, shares)
            if (less := _loss(after, target, errors)) < loss:
                theta, here, rules, loss, damping = tried, after, laid, less, damping / 3
                break
            damping *= 4
        if before - loss < 0.02:
            break
    return theta, slopes, rules, loss


def _loss(here: Floats, target: Floats, errors: Floats) -> float:
    return float((((target - here) / errors) ** 2).sum())


def resampled(runs: Runs, seed: int = 7) -> Floats:
    """Return the moments of `RESAMPLES` bootstrap samples of the profiles, which all runs share."""
    random = np.random.default_rng(seed)
    n = len(runs.needs)
    picks = [random.integers(n, size=n) for _ in range(RESAMPLES)]
    return np.array([
        moments(Runs(runs.needs[p], runs.characters[p], runs.changes[:, p], runs.goodbye[:, p])) for p in picks
    ])  # fmt: skip


def _interval(value: float, draws: Floats) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value=round(float(value), 4), low=round(float(low), 4), high=round(float(high), 4))


def _pooled(runs: Runs) -> dict[str, float]:
    each = [figures(changes, finals) for changes, finals in zip(runs.changes, runs.finals, strict=True)]
    return {key: float(np.mean([one[key] for one in each])) for key in each[0]}


def _check(name: str, place: int, runs: Runs, at: World, settings: Settings, rules: Rules) -> RunCheck:
    """Shift the simulated agent to the run's mean change by bisection, and look at everything else."""
    recorded = figures(runs.changes[place], runs.finals[place])
    low, high = -4.0, 4.0
    for _ in range(14):
        middle = (low + high) / 2
        mean = float(np.nanmean(play(at, settings, rules, middle).runs.changes))
        low, high = (middle, high) if mean < recorded["change"] else (low, middle)
    played = play(at, settings, rules, (low + high) / 2)
    simulated = figures(played.runs.changes, played.runs.finals)
    return RunCheck(run=name, quality=round((low + high) / 2, 3), recorded=recorded, simulated=simulated)


def shares_of(dialogue: DialogueLabels) -> Floats | None:
    """Return each change's share of a dialogue's interventions; None where none is labelled."""
    counts = np.zeros(len(CHANGES))
    for turn in dialogue.turns:
        if turn.change is not None:
            counts[CHANGES.index(turn.change)] += 1
    return counts / counts.sum() if counts.sum() else None


def fit_values(
    labels: Sequence[DialogueLabels], drops: Mapping[str, float], resamples: int = RESAMPLES
) -> tuple[dict[ResponseChange, Interval], float, int]:
    """Return what each change is worth, the ridge that was chosen, and how many dialogues told.

    Ridge regression of the drop in intensity on the shares of the changes, drawn towards a multiple of the polarity; a
    change is never worth the opposite of its polarity. Scaled to a standard deviation of 1 over all changes that
    occurred, and centred.
    """
    rows = [(shares, drops[d.id]) for d in labels if d.id in drops and (shares := shares_of(d)) is not None]
    if len(rows) < 2 * len(CHANGES):
        raise InputError(f"{len(rows)} dialogues carry both intensities; too few to tell what a change is worth.")
    x, y = np.array([shares for shares, _ in rows]), np.array([drop for _, drop in rows])
    often = x.mean(axis=0)
    off = {ridge: _held_out(x, y, ridge) for ridge in RIDGE}
    best_ridge = min(RIDGE, key=lambda r: off[r].mean())
    # The strongest ridge that is no worse than the best by more than one standard error (Breiman et al. 1984).
    room = float((off[best_ridge]).std() / len(y) ** 0.5)
    ridge = max(r for r in RIDGE if off[r].mean() <= off[best_ridge].mean() + room)
    random = np.random.default_rng(7)
    draws: list[Floats] = []
    for _ in range(resamples):
        pick = random.integers(len(y), size=len(y))
        draws.append(_scaled(_values(x[pick], y[pick], ridge), often))
    best, scattered = _scaled(_values(x, y, ridge), often), np.array(draws)
    return {c: _interval(best[i], scattered[:, i]) for i, c in enumerate(CHANGES)}, ridge, len(y)


def _held_out(x: Floats, y: Floats, ridge: float) -> Floats:
    """Return the squared error of each dialogue, predicted from the other four fifths."""
    fold, found = np.arange(len(y)) % 5, np.zeros(len(y))
    for k in range(5):
        rest, out = fold != k, fold == k
        told = (x[out] - x[rest].mean(axis=0)) @ _values(x[rest], y[rest], ridge)
        found[out] = (y[out] - y[rest].mean() - told) ** 2
    return found


def _values(x: Floats, y: Floats, ridge: float) -> Floats:
    centred, off = x - x.mean(axis=0), y - y.mean()
    side = centred @ SIGNS
    base = float(side @ off / (side @ side))
    rest = off - base * side
    # A change's share varies by a tenth or so, hence the ridge in hundredths.
    moved = np.linalg.solve(centred.T @ centred + ridge / 100 * np.eye(len(CHANGES)), centred.T @ rest)
    values = base * SIGNS + moved
    return np.where(SIGNS > 0, np.maximum(values, 0), np.where(SIGNS < 0, np.minimum(values, 0), values))


def _scaled(values: Floats, often: Floats) -> Floats:
    centre = float(often @ values)
    return (values - centre) / max(float(np.sqrt(often @ (values - centre) ** 2)), 1e-9)
