"""Which of a skill's actions come next: the plan for the state, reordered by the talk.

The outcome model ranks; the rules below are the field's own and outrank it, because a model fitted on frequencies
would gladly ask a fifth question. Each rule names its reason.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .models import ActionStep
from .moment import ACKNOWLEDGEMENT, ADVICE, QUESTIONS, Moment
from .taxonomy import SeekerState, SupportAction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_QUESTIONS = 3
"""After this many questions in a row another one feels like an interview (taxonomy: typical risk)."""
_NEEDS_GROUND = frozenset({SupportAction.COGNITIVE_REFRAMING, SupportAction.PRACTICAL_SUGGESTION})
_GUARDED = frozenset({SeekerState.RESISTANCE, SeekerState.WITHDRAWAL})


class Ranked(NamedTuple):
    """A step with the value the outcome model gives it and why it was moved, if it was."""

    step: ActionStep
    value: float
    held_back: str = ""


def held_back(action: SupportAction, state: SeekerState, moment: Moment) -> str:
    """Return why `action` should wait at this moment, or an empty string.

    - three questions in a row: no fourth;
    - advice that was just given and met resistance or withdrawal is not repeated;
    - reframing or a suggestion waits until a feeling was acknowledged;
    - a summary needs something to sum up;
    - self-disclosure is for a person with a true story; most hosts are programs, which must not invent one.
    """
    if action in QUESTIONS and moment.questions_in_a_row >= MOST_QUESTIONS:
        return "the last three replies were questions"
    if action in ADVICE and state in _GUARDED and ADVICE & set(moment.last):
        return "advice was just pushed back"
    if action in _NEEDS_GROUND and not moment.did_recently(ACKNOWLEDGEMENT):
        return "acknowledge the feeling first"
    if action == SupportAction.SUMMARIZING and moment.supporter_turns < 2:
        return "too little has been said to sum up"
    if action == SupportAction.SELF_DISCLOSURE:
        return "only a human supporter with a true story"
    return ""


def order(
    steps: Sequence[ActionStep], state: SeekerState, moment: Moment, value: "NDArray[np.float64]"
) -> list[Ranked]:
    """Return `steps` with the best next one first; `value` is the row of the outcome model for the state, (17,).

    Held-back steps go to the end, in the order of their value; ties keep the author's order.
    """
    columns = list(SupportAction)
    ranked = [
        Ranked(step, float(value[columns.index(step.action)]), held_back(step.action, state, moment)) for step in steps
    ]
    return sorted(ranked, key=lambda item: (bool(item.held_back), -item.value))
