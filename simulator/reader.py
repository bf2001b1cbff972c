"""The encoder as a simulation reads with it: one text a run, and nothing twice.

The quantised encoder rounds over all inputs of a run, so a text that is read by itself is read the same whoever else
talks at the time. That makes a reading a function of the text, which can be kept: the agent and the seeker of a talk
look at the same turns, composed lines come back in other talks, and whole talks in other runs (`readings.py`).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

from ..skills_bank.encoder import Reading, Turn

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder, Floats
    from ..skills_bank.fake_encoder import FakeEncoder
    from ..skills_bank.risk import RiskDesk
    from ..skills_bank.risk_patterns import Ask, ReplyKind, Signal
    from ..skills_bank.risk_reader import Scores
    from .readings import Readings

BARE, IN_CONTEXT, DIALOGUES, LINES = 4096, 64, 64, 4096
"""Readings kept in memory: of turns without context, about 2 KB each, of turns with it and of dialogues, which seldom
come back within a run, and of lines read for risk."""
PROBE = Turn("seeker", "I wanted to write it down, and then the pen ran dry.", (("supporter", "What was it?"),))
"""Read anew by every process, so that rows kept by another encoder, or on a processor that adds up otherwise, are told
apart."""
KEY_BYTES = 16
SCENARIO_AT = (2, 4, 7)
"""The seeker turns at which it is read what a talk is about; between them the last reading stands.

The longest reading of a turn, and the one that changes least: with and without it, the first skill and its next actions
were the same at all of 271 turns between that were compared. A server reads it at every turn.
"""


class Reader:
    """Reads as `Encoder` does; the newest readings are kept. Safe to share between threads."""

    def __init__(self, encoder: "Encoder | FakeEncoder", kept: "Readings | None" = None) -> None:
        """Take the encoder to read with, and the file to keep readings in between runs, if any."""
        self._encoder = encoder
        self.version = encoder.version
        one, whole = self._one, self._whole
        if kept is not None:
            store = _Store(kept, encoder.read([PROBE]), encoder.version)
            one, whole = store.turns(one), store.dialogues(whole)
        self._bare = lru_cache(BARE)(one)
        self._in_context = lru_cache(IN_CONTEXT)(one)
        self._dialogue = lru_cache(DIALOGUES)(whole)

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
        """Embed plain texts, each by itself: what is told of a bank does not depend on which vectors it lacked."""
        return self.read([Turn("seeker", text) for text in texts]).embedding

    def _one(self, turn: Turn) -> Reading:
        return self._encoder.read([turn])

    def _whole(self, turns: tuple[tuple[str, str], ...]) -> "Floats":
        return self._encoder.read_dialogue(turns)


class _Store:
    """Readings as rows of bytes."""

    def __init__(self, kept: "Readings", probe: Reading, version: str) -> None:
        self._kept, self._sizes = kept, [column.shape[1] for column in probe]
        self._mark = blake2b(b"\0".join([version.encode(), *(column.tobytes() for column in probe)])).digest()

    def turns(self, read: Callable[[Turn], Reading]) -> Callable[[Turn], Reading]:
        """Return `read` of one turn, with what was read before."""
        import numpy as np

        cuts = np.cumsum(self._sizes)[:-1]

        def one(turn: Turn) -> Reading:
            row = self._row(("turn", turn), lambda: np.concatenate(read(turn), axis=1)[0])
            return Reading(*(part[None] for part in np.split(row, cuts)))

        return one

    def dialogues(
        self, read: "Callable[[tuple[tuple[str, str], ...]], Floats]"
    ) -> "Callable[[tuple[tuple[str, str], ...]], Floats]":
        """Return `read` of one dialogue, with what was read before."""

        def whole(turns: tuple[tuple[str, str], ...]) -> "Floats":
            return self._row(("dialogue", turns), lambda: read(turns))

        return whole

    def _row(self, what: tuple, read: "Callable[[], Floats]") -> "Floats":
        import numpy as np

        key = blake2b(repr(what).encode(errors="surrogatepass"), digest_size=KEY_BYTES, key=self._mark).digest()
        found = self._kept.get(key)
        if found is not None:
            return np.frombuffer(found, dtype=np.float32)
        row = read()
        self._kept.put(key, row.tobytes())
        return row


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
    """Return a desk with the shipped patterns and reader that gives the same answers and reads each line once.

    All such desks of a process share what they read, since another bank brings another desk.
    """
    return desk.with_parts(*_kept_parts())  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=1)
def _kept_parts() -> tuple[_KeptPatterns, _KeptReader]:
    return _KeptPatterns(), _KeptReader()
