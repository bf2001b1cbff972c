"""Many simulated talks at once, as arrays: the rules of `judgement` with an agent that draws action sets by state."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..pipeline.labels import DialogueLabels
from .emotion import SAGE
from .judgement import Rules, drawn, drive, judge
from .needs import Character
from .recorded import CHARACTERS, SCORED, Floats, Ints, Runs, moments
from .response import (
    ACTIONS,
    EARLIER,
    STATES,
    USUAL,
    ResponseModel,
    tilted,
)
from .service import service_table

COPIES = 12
"""How often the profiles are run in one simulation."""
ROUNDS, SETTLED = 25, 0.003


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


PARAMETERS = ("need", "mood", "carry", "disposition", "negative", "avoidant")


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


def simulated_moments(at: World, theta: Floats, rules: Rules, shares: Floats) -> tuple[Floats, Rules, Played]:
    """Return the moments as groups of the size of the recorded profiles would show them."""
    settings = Settings.of(theta)
    rules, played = settle(at, settings, rules, shares)
    size = len(at.needs) // COPIES
    parts = [slice(i * size, (i + 1) * size) for i in range(COPIES)]
    cut = [Runs(at.needs[p], at.characters[p], played.runs.changes[:, p], played.runs.goodbye[:, p]) for p in parts]
    return np.mean([moments(part) for part in cut], axis=0), rules, played
