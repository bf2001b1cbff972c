"""A whole dialogue as the encoder reads it: what the local annotator and the change model decide from."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..skills_bank.encoder import Reading, Turn
from .corpus import Dialogue
from .corpus import Turn as SpokenTurn

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.fake_encoder import FakeEncoder

CHUNK = 64
"""Turns read at a time: bounds the memory of one very long dialogue."""


class DialogueReading(NamedTuple):
    """The turns of a dialogue, each read with the two before it, and the scenario of the whole."""

    turns: tuple[SpokenTurn, ...]
    rows: Reading
    """One row a turn."""
    scenarios: NDArray[np.float32]
    """(18,) distribution over the whole dialogue."""
    words: NDArray[np.int64]
    """(turns,) number of words."""


def read_whole(encoder: "Encoder | FakeEncoder", dialogue: Dialogue) -> DialogueReading:
    """Read a dialogue by itself.

    The quantised encoder rounds over all inputs of a run, so turns of other dialogues in the same run would change the
    last digits: a dialogue that is read alone is read the same on every machine, in every order.
    """
    turns = dialogue.turns()
    said: list[tuple[str, str]] = [(turn.speaker, turn.content) for turn in turns]
    inputs = [Turn(turn.speaker, turn.content, tuple(said[max(0, i - 2) : i])) for i, turn in enumerate(turns)]
    parts = [encoder.read(inputs[begin : begin + CHUNK]) for begin in range(0, len(inputs), CHUNK)]
    return DialogueReading(
        turns=turns,
        rows=Reading(*(np.concatenate(columns) for columns in zip(*parts, strict=True))),
        scenarios=encoder.read_dialogue(said),
        words=np.array([len(text.split()) for _, text in said], dtype=np.int64),
    )
