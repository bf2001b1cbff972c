"""Which steps' words do not land: heard as something else than they were meant for, or as about something else.

A cell is a skill, the state its words were written for and the action they were meant as. Most agents say a step's own
words as they stand; then only such replies speak of them. A model words each reply itself; then all of its replies do,
and the state is the one that was answered. What a seeker does not say it heard is no evidence.

A cell is told where its share of lost replies, or of those off topic, is above that of all others (one-sided t-tests,
talks being the units; Benjamini & Hochberg 1995 over all of them), or more than `MOSTLY` are lost in plain numbers; and
where its replies did worse than expected, since words that work are left alone however they are heard.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..skills_bank.bank import Bank
from ..skills_bank.taxonomy import ACTION_INFO, STATE_INFO, SeekerState, SupportAction
from .action_values import NEVER_FAVOURED
from .analysis import Moment, cites_of
from .expectation import VAGUE, Expectation, low_tail, passing
from .models import Context, Finding, FindingKind

LEAST_REPLIES, LEAST_TALKS = 8, 6
MOSTLY = 0.5
RATE = 0.1
"""Share of false findings among those that were tested."""
NAMED = 3
"""Actions that are told as heard instead."""
Mask = NDArray[np.bool_]
_Key = tuple[str, SeekerState, SupportAction]


class Landing(NamedTuple):
    """How the words of one step were taken."""

    skill: str
    state: SeekerState
    action: SupportAction
    places: tuple[int, ...]
    """Of its replies among the moments."""
    unheard: Mask
    """By reply: the action was not heard."""
    off_topic: Mask
    instead: Counter[SupportAction]
    """What was heard in those in which it was not."""
    talk: NDArray[np.int64]
    """By reply: a number for its talk, from 0."""

    @property
    def lost(self) -> Mask:
        """By reply: not heard as meant, or off topic."""
        return self.unheard | self.off_topic

    @property
    def talks(self) -> int:
        """Different conversations."""
        return int(self.talk.max()) + 1


def unlanded(moments: Sequence[Moment], bank: Bank, expectation: Expectation) -> list[Finding]:
    """Return a finding for each step whose words do not land and that did worse than expected, most replies first.

    Args:
        moments: The scored replies of a run.
        bank: The bank it was held with.
        expectation: Of the same moments.
    """
    known = landings(moments, bank)
    cells = [cell for cell in known if len(cell.places) >= LEAST_REPLIES and cell.talks >= LEAST_TALKS]
    lost = _chances([(cell.lost, cell.talk) for cell in cells])
    off_topic = _chances([(cell.off_topic, cell.talk) for cell in cells])
    passed = passing([*lost, *off_topic], RATE)
    found = [
        _finding(moments, cell, min(lost[i], off_topic[i]), expectation)
        for i, cell in enumerate(cells)
        if passed[i] or passed[len(cells) + i] or cell.lost.mean() > MOSTLY
    ]
    costly = [finding for finding in found if finding.effect is not None and finding.effect < 0]
    return sorted(costly, key=lambda finding: (-finding.turns, finding.what))


def landings(moments: Sequence[Moment], bank: Bank) -> list[Landing]:
    """Return how the words of every step were taken that a seeker told of."""
    cells: dict[_Key, list[int]] = defaultdict(list)
    for place, key in _keys(moments, bank):
        cells[key].append(place)
    return [_landing(moments, key, places) for key, places in sorted(cells.items())]


def _keys(moments: Sequence[Moment], bank: Bank) -> list[tuple[int, _Key]]:
    """Return which step each reply is of, for those of which it is known."""
    written = {
        (name, step.action, step.say): plan.state
        for name, skill in bank.skills.items()
        for plan in skill.plans
        for step in plan.steps
        if step.say
    }
    own: list[tuple[int, _Key]] = []
    free: list[tuple[int, _Key]] = []
    for place, moment in enumerate(moments):
        skill = moment.followed
        if skill is None or skill not in bank.skills or not moment.heard:
            continue
        for action in moment.actions:
            state = written.get((skill, action, moment.text))
            if action in NEVER_FAVOURED:  # their words are a rule of safety's and a person's
                continue
            if state is not None:
                own.append((place, (skill, state, action)))
            elif moment.state in bank.skills[skill].states:
                free.append((place, (skill, moment.state, action)))
    return own if len(own) > len(free) else [*own, *free]


def _landing(moments: Sequence[Moment], key: _Key, places: Sequence[int]) -> Landing:
    skill, state, action = key
    heard = [moments[place].heard for place in places]
    talks = {talk: number for number, talk in enumerate(dict.fromkeys(moments[place].talk for place in places))}
    return Landing(
        skill=skill,
        state=state,
        action=action,
        places=tuple(places),
        unheard=np.array([action not in each for each in heard]),
        off_topic=np.array([moments[place].off_topic for place in places]),
        instead=Counter(each[0] for each in heard if action not in each),
        talk=np.array([talks[moments[place].talk] for place in places]),
    )


def _chances(cells: Sequence[tuple[Mask, NDArray[np.int64]]]) -> list[float]:
    """Return the chance of so large a share of flagged replies in each cell, if it were that of all other cells."""
    flagged, replies = sum(int(flags.sum()) for flags, _ in cells), sum(len(flags) for flags, _ in cells)
    return [
        _chance(flags, talk, (flagged - int(flags.sum())) / max(replies - len(flags), 1)) for flags, talk in cells
    ]  # fmt: skip


def _chance(flags: Mask, talk: NDArray[np.int64], usual: float) -> float:
    """Return the one-sided p; the variance is clustered by talk as in `Expected.shortfall`, at least the binomial."""
    share, n, talks = float(flags.mean()), len(flags), int(talk.max()) + 1
    apart = np.bincount(talk, flags - share)
    clustered = float(apart @ apart) * talks / max(talks - 1, 1) / n**2
    error = sqrt(max(clustered, usual * (1 - usual) / n, VAGUE))
    return low_tail((usual - share) / error, talks - 1)


def _finding(moments: Sequence[Moment], cell: Landing, p: float, expectation: Expectation) -> Finding:
    mask = np.zeros(len(moments), dtype=bool)
    mask[list(cell.places)] = True
    beside = expectation.without(mask).shortfall(mask)
    return Finding(
        kind=FindingKind.WORDS,
        skill=cell.skill,
        context=Context(states=(cell.state,)),
        what=_told(cell, beside.effect),
        cites=cites_of(moments[place] for place in cell.places),
        turns=len(cell.places),
        effect=round(beside.effect, 3),
        p=float(f"{p:.3g}"),
        reword=(cell.action,),
    )


def _told(cell: Landing, effect: float) -> str:
    instead = ", ".join(f"{_name(action)} ({n})" for action, n in cell.instead.most_common(NAMED))
    state, but = STATE_INFO[cell.state].name.lower(), f" but as {instead}" if instead else ""
    return (
        f"The words of `{cell.skill}` for {_name(cell.action)} in {state} do not land: of {len(cell.places)} replies "
        f"in {cell.talks} talks {int(cell.unheard.sum())} were not heard as that{but}, and {int(cell.off_topic.sum())} "
        "seemed to be about something else. "
        f"They were followed by {abs(effect):.1f} points {'less' if effect < 0 else 'more'} than expected."
    )


def _name(action: SupportAction) -> str:
    return ACTION_INFO[action].name.lower()
