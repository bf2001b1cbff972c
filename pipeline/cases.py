"""Real supporter turns as selection cases: what stood before each, as labelled (gold) or as the encoder reads it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from ..skills_bank.classify import bare, likely_actions
from ..skills_bank.encoder import Encoder, Turn
from ..skills_bank.models import Message
from ..skills_bank.moment import RECENT, Moment
from ..skills_bank.ranking import SCENARIOS, STATES
from .labels import DialogueLabels
from .moments import SupportTurn, support_turns

Dialogues = Mapping[str, tuple[DialogueLabels, tuple[Message, ...]]]


class Case(NamedTuple):
    """One real supporter turn with a reading of what stood before it, gold or predicted."""

    turn: SupportTurn
    states: np.ndarray
    scenarios: np.ndarray
    embedding: np.ndarray
    moment: Moment


def predicted_cases(dialogues: Dialogues, encoder: Encoder) -> list[Case]:
    """Read every dialogue through the encoder, each turn once, and return one case per support turn."""
    by_dialogue: dict[str, list[SupportTurn]] = defaultdict(list)
    for turn in support_turns(dialogues):
        by_dialogue[turn.dialogue].append(turn)
    found: list[Case] = []
    for name, turns in by_dialogue.items():
        found += _read_dialogue(dialogues[name][1], turns, encoder)
    return found


def _read_dialogue(messages: Sequence[Message], turns: Sequence[SupportTurn], encoder: Encoder) -> list[Case]:
    """Read each turn once the way `classify.read` does at every call: bare, and the newest with its context."""
    plain = encoder.read([bare(message) for message in messages])
    newest = encoder.read(
        [
            Turn(
                *_pair(messages[turn.index - 1]),
                tuple(_pair(m) for m in messages[max(0, turn.index - 3) : turn.index - 1]),
            )
            for turn in turns
        ]
    )
    found = []
    for row, turn in enumerate(turns):
        seeker = [i for i in range(turn.index) if messages[i].role == "seeker"]
        supporter = [i for i in range(turn.index) if messages[i].role == "supporter"]
        moment = turn.moment._replace(
            recent=tuple(likely_actions(plain.actions[i]) for i in supporter[-RECENT:]),
            previous_state=STATES[int(plain.states[seeker[-2]].argmax())] if len(seeker) > 1 else None,
        )
        said = [_pair(m) for m in messages[: turn.index]]
        scenarios = encoder.read_dialogue(said) if len(seeker) > 1 else newest.scenarios[row]
        states, embedding = newest.states[row].astype(float), newest.embedding[row]
        found.append(Case(turn, states, scenarios.astype(float), embedding, moment))
    return found


def _pair(message: Message) -> tuple[Literal["seeker", "supporter"], str]:
    return message.role, message.content


def gold_cases(cases: Sequence[Case]) -> list[Case]:
    """Return the same cases with the labelled state, scenario and moment in place of the encoder's."""
    found = []
    for case in cases:
        states, scenarios = np.zeros(len(STATES)), np.zeros(len(SCENARIOS))
        states[STATES.index(case.turn.state)] = 1.0
        scenarios[SCENARIOS.index(case.turn.scenario)] = 1.0
        found.append(case._replace(states=states, scenarios=scenarios, moment=case.turn.moment))
    return found
