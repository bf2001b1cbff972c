"""The encoder as a simulation reads with it: one text a run, and nothing twice.

The quantised encoder rounds over all inputs of a run, so a text that is read by itself is read the same whoever else
talks at the time. That makes a reading a function of the text, which can be kept: the agent and the seeker of a talk
look at the same turns, and composed lines come back in other talks.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from ..skills_bank.encoder import Reading, Turn

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder, Floats
    from ..skills_bank.fake_encoder import FakeEncoder
    from ..skills_bank.risk import RiskDesk
    from ..skills_bank.risk_patterns import Ask, ReplyKind, Signal
    from ..skills_bank.risk_reader import Scores

BARE, IN_CONTEXT, DIALOGUES, LINES = 4096, 64, 64, 1024
"""Readings kept: of turns without context, about 2 KB each, of turns with it and of dialogues, which seldom come back,
and of lines read for risk."""
SCENARIO_AT = (2, 4, 7)
"""The seeker turns at which it is read what a talk is about; between them the last reading stands.

The longest reading of a turn, and the one that changes least: with and without it, the first skill and its next actions
were the same at all of 271 turns between that were compared. A server reads it at every turn.
"""


class Reader:
    """Reads as `Encoder` does; the newest readings are kept. Safe to share between threads."""

    def __init__(self, encoder: "Encoder | FakeEncoder") -> None:
        """Take the encoder to read with."""
        self._encoder = encoder
        self.version = encoder.version
        self._bare = lru_cache(BARE)(self._one)
        self._in_context = lru_cache(IN_CONTEXT)(self._one)
        self._dialogue = lru_cache(DIALOGUES)(self._whole)

    def read(self, turns: Sequence[Turn]) -> Reading:
        """Read turns; see `Encoder.read`."""
        import numpy as np

        if not turns:
            return self._encoder.read(turns)
        rows = [self._in_context(turn) if turn.context else self._bare(turn) for turn in turns]
        return Reading(*(np.concatenate(columns) for columns in zip(*rows, strict=True)))

    def read_dialogue(self, turns: Sequence[tuple[str, str]]) -> "Floats":
        """Read a dialogue as it stood at the last of `SCENARIO_AT`; see `Encoder.read_dialogue`."""
        said = tuple(turn for turn in turns if turn[0] == "seeker")  # the encoder looks at no other
        read = max((turn for turn in SCENARIO_AT if turn <= len(said)), default=len(said))
        return self._dialogue(said[:read]).copy()

    def embed(self, texts: Sequence[str]) -> "Floats":
        """Embed plain texts; see `Encoder.embed`."""
        return self._encoder.embed(texts)

    def _one(self, turn: Turn) -> Reading:
        return self._encoder.read([turn])

    def _whole(self, turns: tuple[tuple[str, str], ...]) -> "Floats":
        return self._encoder.read_dialogue(turns)


class _KeptPatterns:
    """`RiskPatterns` that keeps what it found in a line: a desk reads every line of a talk again at each turn."""

    def __init__(self) -> None:
        from ..skills_bank.risk_patterns import load_patterns

        patterns = load_patterns()
        self._signals = lru_cache(LINES)(patterns.signals)
        self._tone = lru_cache(LINES)(patterns.tone)
        self._asked = lru_cache(LINES)(patterns.asked)
        self._reply = lru_cache(LINES)(patterns.reply)

    def signals(self, text: str) -> "list[Signal]":
        return self._signals(text)

    def tone(self, text: str) -> str:
        return self._tone(text)

    def asked(self, text: str) -> "Ask | None":
        return self._asked(text)

    def reply(self, text: str) -> "ReplyKind | str":
        return self._reply(text)


class _KeptReader:
    """`RiskReader` that keeps its scores."""

    def __init__(self) -> None:
        from ..skills_bank.risk_reader import load_reader

        self._read = lru_cache(LINES)(load_reader().read)

    def read(self, text: str) -> "Scores | None":
        return self._read(text)


def quick_desk(desk: "RiskDesk") -> "RiskDesk":
    """Return a desk with the shipped patterns and reader that gives the same answers and reads each line once."""
    return desk.with_parts(_KeptPatterns(), _KeptReader())  # pyright: ignore[reportArgumentType]
