"""`classify_seeker_state`: risk first, then states, scenarios and the phrases that drove the state."""

import re
from typing import TYPE_CHECKING, NamedTuple

from .conversation import Conversation
from .encoder import Reading, Turn
from .models import Message
from .moment import RECENT, Moment
from .results import ScenarioProbability, StateProbability
from .taxonomy import Scenario, SeekerState, SupportAction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .encoder import Encoder

    Floats = NDArray[np.float32]

STATES, SCENARIOS, ACTIONS = list(SeekerState), list(Scenario), list(SupportAction)
SEEKER_TURNS = 3
"""How many seeker turns, counted back, the encoder reads: the state, where it came from, and a late disclosure."""
MOST_PHRASES = 8
MOST_DRIVERS = 2
LEAST_DROP = 0.05
"""A phrase counts as driving the state when leaving it out lowers the state's probability by at least this much."""
ACTION_PRESENT = 0.5
LOW_CONFIDENCE = 0.4

_CLAUSE = re.compile(r"(?<=[.!?;,\n])\s+|\s+(?=(?:but|because|and then|so that|although|since)\b)", re.IGNORECASE)


class Read(NamedTuple):
    """Everything the encoder says about one conversation; derived data only."""

    states: "Floats"
    """(15,) posterior of the last seeker turn."""
    scenarios: "Floats"
    """(18,) distribution over the whole talk."""
    embedding: "Floats"
    """(384,) of the last seeker turn."""
    risk: "Floats"
    """(turns, 3) of the last seeker turns, newest last."""
    moment: Moment


def read(conversation: Conversation, encoder: "Encoder") -> Read:
    """Read the last seeker turns, the last supporter turns and the talk so far through the encoder.

    Only the newest seeker turn is read with the turns before it: earlier ones serve as hints of where the talk stood,
    and a supporter's action is told as well without context (docs/selection.md), in a third of the time.
    """
    newest = conversation.turn_with_context(conversation.seeker_indices[-1])
    earlier = [bare(conversation.turns[i]) for i in conversation.seeker_indices[-SEEKER_TURNS:-1]]
    supporter = [
        bare(turn) for turn in conversation.turns[: conversation.seeker_indices[-1]] if turn.role == "supporter"
    ]
    reading = encoder.read([newest, *earlier, *supporter[-RECENT:]])
    return Read(
        states=reading.states[0],
        scenarios=reading.scenarios[0] if not earlier else encoder.read_dialogue(_said(conversation)),
        embedding=reading.embedding[0],
        risk=reading.risk[[*range(1, len(earlier) + 1), 0]],
        moment=_moment(conversation, reading, len(earlier), len(supporter)),
    )


def bare(turn: Message) -> Turn:
    """Return a turn as the encoder reads it without context."""
    return Turn(turn.role, turn.content)


def _said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in conversation.window]


def _moment(conversation: Conversation, reading: Reading, earlier: int, supporter_turns: int) -> Moment:
    """Build the moment from a reading whose rows are: newest seeker turn, earlier seeker turns, supporter turns."""
    text = conversation.last_seeker.content
    return Moment(
        supporter_turns=supporter_turns,
        recent=tuple(likely_actions(row) for row in reading.actions[1 + earlier :]),
        previous_state=STATES[int(reading.states[earlier].argmax())] if earlier else None,
        words=len(text.split()),
        words_so_far=sum(len(turn.content.split()) for turn in conversation.seeker_turns),
        asks="?" in text,
    )


def likely_actions(row: "Floats") -> tuple[SupportAction, ...]:
    """The likely actions of one supporter turn, most likely first; at least one, at most three."""
    ranked = sorted(range(len(ACTIONS)), key=lambda j: -row[j])[:3]
    return tuple(ACTIONS[j] for place, j in enumerate(ranked) if place == 0 or row[j] >= ACTION_PRESENT)


def top_states(states: "Floats", k: int = 3) -> tuple[StateProbability, ...]:
    """Return the `k` most likely states."""
    order = sorted(range(len(STATES)), key=lambda j: -states[j])[:k]
    return tuple(StateProbability(state=STATES[j], probability=round(float(states[j]), 3)) for j in order)


def top_scenarios(scenarios: "Floats", k: int = 3) -> tuple[ScenarioProbability, ...]:
    """Return the `k` most likely scenarios."""
    order = sorted(range(len(SCENARIOS)), key=lambda j: -scenarios[j])[:k]
    return tuple(ScenarioProbability(scenario=SCENARIOS[j], probability=round(float(scenarios[j]), 3)) for j in order)


def driving_phrases(conversation: Conversation, encoder: "Encoder", states: "Floats") -> tuple[str, ...]:
    """Return the phrases of the last seeker turn without which its state would be less likely (occlusion)."""
    turn = conversation.turn_with_context(conversation.seeker_indices[-1])
    phrases = [part.strip() for part in _CLAUSE.split(turn.content) if part.strip()]
    if len(phrases) < 2:
        return (turn.content.strip(),) if len(turn.content) <= 200 else ()
    phrases = phrases[-MOST_PHRASES:]
    without = [turn._replace(content=turn.content.replace(phrase, " ", 1).strip() or ".") for phrase in phrases]
    top = int(states.argmax())
    drop = states[top] - encoder.read(without).states[:, top]
    order = sorted(range(len(phrases)), key=lambda i: -drop[i])
    return tuple(phrases[i] for i in order[:MOST_DRIVERS] if drop[i] >= LEAST_DROP)


def notes(conversation: Conversation, states: "Floats") -> list[str]:
    """Return what the caller should know about how far to trust the reading."""
    found = [conversation.note] if conversation.note else []
    if not conversation.is_english:
        found.append(
            f"The text looks like {conversation.language!r}, not English: the encoder knows English only, so states "
            "and scenarios are low confidence. Let the host's own model read the talk and pass `state`."
        )
    elif float(states.max()) < LOW_CONFIDENCE:
        found.append("Low confidence: no single state stands out. Ask before acting on it.")
    return found
