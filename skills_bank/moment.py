"""The moment in a talk at which the next reply is due: what the choice of an action may depend on beside the state.

The same `Moment` is built from labels (to fit `outcome.py`) and from the encoder's reading (to serve), so that both
see the same things. It holds counts and labels only, no text.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .taxonomy import SeekerState, SupportAction

QUESTIONS = frozenset({
    SupportAction.OPEN_EXPLORATION, SupportAction.CLARIFYING_QUESTION, SupportAction.REFLECTIVE_QUESTIONING,
})  # fmt: skip
ADVICE = frozenset({
    SupportAction.PRACTICAL_SUGGESTION, SupportAction.COLLABORATIVE_PLANNING, SupportAction.INFORMATION_GIVING,
})  # fmt: skip
ACKNOWLEDGEMENT = frozenset({SupportAction.EMOTIONAL_VALIDATION, SupportAction.FEELING_REFLECTION})
RECENT = 3
"""How many supporter turns back the moment looks; serving reads no more through the encoder, to stay quick."""


class Moment(NamedTuple):
    """What stands before the next supporter turn."""

    supporter_turns: int
    """Supporter turns so far."""
    recent: tuple[tuple[SupportAction, ...], ...]
    """Actions of the last `RECENT` supporter turns, oldest first."""
    previous_state: SeekerState | None
    """State of the seeker turn before the last one."""
    words: int
    """Words of the last seeker turn."""
    words_so_far: int
    """Words of all seeker turns."""
    asks: bool
    """Whether the last seeker turn holds a question mark."""

    @property
    def last(self) -> tuple[SupportAction, ...]:
        """Actions of the last supporter turn; empty when there was none."""
        return self.recent[-1] if self.recent else ()

    @property
    def questions_in_a_row(self) -> int:
        """Supporter turns with a question, counted back from the last; at most `RECENT`."""
        count = 0
        for actions in reversed(self.recent):
            if not QUESTIONS & set(actions):
                break
            count += 1
        return count

    @property
    def stage(self) -> str:
        """Phase of the talk, by supporter turns so far: early (up to 3), middle (up to 8) or late."""
        return "early" if self.supporter_turns <= 3 else "middle" if self.supporter_turns <= 8 else "late"

    def did_recently(self, actions: frozenset[SupportAction]) -> bool:
        """Whether any recent supporter turn did one of `actions`."""
        return any(actions & set(turn) for turn in self.recent)


def family(action: SupportAction) -> str:
    """Return the coarse kind of an action: question, advice, rapport or empathy."""
    if action in QUESTIONS:
        return "question"
    if action in ADVICE:
        return "advice"
    return "rapport" if action == SupportAction.RAPPORT_AND_CLOSING else "empathy"


def _band(value: int, edges: Sequence[int]) -> str:
    return str(sum(value > edge for edge in edges))


def factors(moment: Moment) -> list[str]:
    """Return the moment as names of binary factors, the vocabulary of the outcome model."""
    found = [
        "turns=" + _band(moment.supporter_turns, (0, 1, 3, 6, 10)),
        f"questions={moment.questions_in_a_row}",
        f"previous={moment.previous_state or 'none'}",
        "words=" + _band(moment.words, (3, 8, 15, 30)),
        "said=" + _band(moment.words_so_far, (14, 39, 89, 179)),
        f"asks={moment.asks}",
        f"advised={moment.did_recently(ADVICE)}",
        f"acknowledged={moment.did_recently(ACKNOWLEDGEMENT)}",
    ]
    found += [f"last={action}" for action in moment.last]
    found += sorted({f"last_family={family(action)}" for action in moment.last})
    return found
