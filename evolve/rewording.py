"""New words for steps whose old ones did not land: lines of the library, tried on seekers of the state.

Each line is heard as a local seeker would hear it, after lines of seekers in that state whose lives differ. It lands
where nearly all of them hear the action and do not think that it is about something else. They are the library's own,
never a profile's.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ..pipeline.phrasebook import Phrasebook
from ..skills_bank.models import ActionStep, Message, Skill, StatePlan
from ..skills_bank.taxonomy import SeekerState, SupportAction
from .generation import in_words
from .words import NEVER_ADDED, Words

if TYPE_CHECKING:
    from ..simulator.hearing import Ear, Heard

Hear = Callable[[Sequence[Message]], "Heard"]
LANDS = 0.85
"""Share of trials in which a line has to be heard as its action."""
TRIALS = 8
_IF = re.compile(r"\s*If they write “[^”]*”$")
"""The moment that an old line answered; a new one answers any."""


class Trial(NamedTuple):
    """How a line was taken."""

    line: str
    heard: int
    """Trials in which it was heard as meant, and as on topic."""
    tried: int

    @property
    def lands(self) -> bool:
        """Whether it may stand for its action."""
        return self.heard >= LANDS * self.tried


def reworded(
    skill: Skill,
    wanted: Mapping[SeekerState, Sequence[SupportAction]],
    words: Words,
    hear: Hear,
    attempt: int,
) -> tuple[Skill, list[str]]:
    """Return the skill with new words for these steps, and what was done; what has no better words stays as it is.

    Args:
        skill: The skill.
        wanted: Actions by state, whose steps are to be written anew.
        words: The library, as far as it may be used here.
        hear: Hears a reply.
        attempt: The first takes the first lines that land, the second the second ones, and so on.
    """
    told: list[str] = []
    for plan in skill.plans:
        for place, step in enumerate(plan.steps):
            if step.say and step.action in wanted.get(plan.state, ()) and step.action not in NEVER_ADDED:
                trial, old = _chosen(skill, plan.state, step, words, hear, attempt)
                told.append(_told(plan.state, step, trial, old))
                if trial is not None:
                    skill = _with(skill, plan.state, place, trial.line)
    return skill, told


def local_hear(talk: Sequence[Message]) -> "Heard":
    """Hear a reply as the local seekers do."""
    return _ear().hear(talk)


@cache
def _ear() -> "Ear":
    from ..simulator.casting import shared_reader
    from ..simulator.hearing import Ear

    return Ear.load(shared_reader())


def seekers(book: Phrasebook, state: SeekerState) -> tuple[str, ...]:
    """Return what seekers say in a state: some early, some late, and some of scenarios that differ."""
    phrases = book.states[state]
    lines = [*phrases.early.lines[: TRIALS // 4], *phrases.late.lines[: TRIALS // 4]]
    cells = [cell for action in SupportAction if (cell := book.cell(state, action)) is not None]
    told = list({cell.scenario: cell.seeker for cell in reversed(cells)}.values())[::-1]
    return tuple(dict.fromkeys([*lines, *told]))[:TRIALS]


def _chosen(
    skill: Skill, state: SeekerState, step: ActionStep, words: Words, hear: Hear, attempt: int
) -> tuple[Trial | None, Trial]:
    """Return the line to take, None where none is better than the old one, and how the old one was taken."""
    talks = seekers(words.book, state)
    tried: list[Trial] = []

    def landing() -> Iterator[Trial]:
        for line in words.lines(skill, state, step.action):
            tried.append(_trial(line, step.action, talks, hear))
            if tried[-1].lands:
                yield tried[-1]

    old = _trial(step.say or "", step.action, talks, hear)
    landed = list(islice(landing(), attempt))
    if landed:
        return landed[-1], old
    best = max(tried, key=lambda trial: trial.heard, default=old)
    return (best if best.heard > old.heard else None), old


def _trial(line: str, action: SupportAction, talks: Sequence[str], hear: Hear) -> Trial:
    taken = [hear([Message(role="seeker", content=said), Message(role="supporter", content=line)]) for said in talks]
    return Trial(line, sum(action in heard.actions and not heard.off_topic for heard in taken), len(taken))


def _with(skill: Skill, state: SeekerState, place: int, line: str) -> Skill:
    def step_of(plan: StatePlan, number: int, step: ActionStep) -> ActionStep:
        if plan.state != state or number != place:
            return step
        return step.model_copy(update={"say": line, "how": _IF.sub("", step.how) or step.how})

    plans = tuple(
        plan.model_copy(update={"steps": tuple(step_of(plan, n, step) for n, step in enumerate(plan.steps))})
        for plan in skill.plans
    )
    return skill.model_copy(update={"plans": plans})


def _told(state: SeekerState, step: ActionStep, trial: Trial | None, old: Trial) -> str:
    head = f"{state}: "
    action = in_words([step.action])
    if trial is None:
        return f"{head}keeps its words for {action}: none of the library's is heard as it more often."
    told = f"{head}new words for {action}, heard as it by {trial.heard} of {trial.tried} (the old ones by {old.heard})"
    return f"{told}." if trial.lands else f"{told}; none lands surely, these are the best."
