"""The ONNX encoder: one forward pass, several readings of each turn.

Serving needs numpy, onnxruntime and tokenizers; the last two are imported in `Encoder.load` only, so that a server
starts without them. The files beside it in `model/` are written by `esc_skills.pipeline.train`; `docs/encoder.md` is
the model card.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from .errors import ModelError
from .taxonomy import Scenario, SeekerState, SupportAction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int64]

RISK_KINDS: tuple[str, ...] = ("self_harm", "harm_to_others", "abuse")
"""Column order of `Reading.risk`."""

EMBEDDING_SIZE = 384


class Turn(NamedTuple):
    """One turn to read, with the two turns before it."""

    role: Literal["seeker", "supporter"]
    content: str
    context: tuple[tuple[str, str], ...] = ()
    """The previous two turns as (role, text), oldest first."""


class Reading(NamedTuple):
    """What the encoder says about n turns, one row each; columns follow the order of the taxonomy's enums."""

    embedding: "Floats"
    """(n, 384), L2-normalised."""
    states: "Floats"
    """(n, 15), calibrated softmax."""
    actions: "Floats"
    """(n, 17), calibrated sigmoids: a turn may do several things."""
    scenarios: "Floats"
    """(n, 18), calibrated softmax."""
    risk: "Floats"
    """(n, 3), sigmoids for `RISK_KINDS`."""


class Limits(NamedTuple):
    """How many tokens of each part of a turn are read; the current turn comes first."""

    current: int = 64
    previous: int = 28
    earlier: int = 20
    dialogue: int = 120


SEEKER_MARK, SUPPORTER_MARK, DIALOGUE_MARK = "[unused1]", "[unused2]", "[unused3]"
"""One token says who speaks: entries that BERT's vocabulary keeps free, so no word's meaning leaks into it."""


class Encoded(NamedTuple):
    """Token ids and segment types of one input (0: what is read and pooled, 1: the turns before it)."""

    ids: list[int]
    types: list[int]


class Speller:
    """Turns text into the encoder's input; training and serving share it, so that they cannot differ."""

    def __init__(self, tokenizer: "Tokenizer", limits: Limits) -> None:
        self._tokenizer = tokenizer
        self.limits = limits
        names = ("[CLS]", "[SEP]", SEEKER_MARK, SUPPORTER_MARK, DIALOGUE_MARK)
        self._cls, self._sep, self._seeker, self._supporter, self._dialogue = map(self._id, names)

    @classmethod
    def from_file(cls, path: Path, limits: Limits) -> Self:
        """Read a `tokenizer.json`."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # a "[SEP]" typed by a person is text
        return cls(tokenizer, limits)

    def turns(self, turns: Sequence[Turn]) -> list[Encoded]:
        """Spell turns: `[CLS] who words [SEP]` and, as second segment, `who words who words [SEP]` of the context."""
        texts = [text for turn in turns for text in (turn.content, *(said for _, said in turn.context[-2:]))]
        words = iter(self._words(texts))
        return [self._turn(turn, words) for turn in turns]

    def dialogue(self, turns: Sequence[tuple[str, str]]) -> Encoded:
        """Spell the seeker's lines so far: the first ones, which tell the matter, and the last ones."""
        lines = self._words([text for role, text in turns if role == "seeker"])
        room = self.limits.dialogue
        telling = [line for line in lines if len(line) > _SHORT] or lines
        ids = _ends([token for line in telling for token in line], room // 2, room - room // 2)
        return Encoded([self._cls, self._dialogue, *ids, self._sep], [0] * (len(ids) + 3))

    def _turn(self, turn: Turn, words: Iterator[list[int]]) -> Encoded:
        limits = self.limits
        current = _ends(next(words), limits.current // 4, limits.current - limits.current // 4)
        ids = [self._cls, self._mark(turn.role), *current, self._sep]
        types = [0] * len(ids)
        context = turn.context[-2:]
        if context:
            rooms = (limits.earlier, limits.previous)[-len(context) :]
            before = [
                token
                for (role, _), room in zip(context, rooms, strict=True)
                for token in (self._mark(role), *_ends(next(words), 0, room))
            ]
            ids += [*before, self._sep]
            types += [1] * (len(before) + 1)
        return Encoded(ids, types)

    def _words(self, texts: list[str]) -> list[list[int]]:
        clipped = [text if len(text) <= _CHARACTERS else f"{text[:_HALF]} {text[-_HALF:]}" for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(clipped, add_special_tokens=False)]

    def _mark(self, role: str) -> int:
        return self._seeker if role == "seeker" else self._supporter

    def _id(self, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        if token is None:
            raise ModelError(f"The tokenizer has no token {name!r}; it is not the one the encoder was trained with.")
        return token


_SHORT = 4  # tokens; "yes", "thank you" tell nothing about the matter
_CHARACTERS = 4000  # beyond it only the ends are tokenised: 64 tokens are read at most, so the middle cannot matter
_HALF = _CHARACTERS // 2


def _ends(tokens: list[int], head: int, tail: int) -> list[int]:
    """Keep the first `head` and the last `tail` tokens: the state shows in the last clause (annotation guidelines)."""
    return tokens if len(tokens) <= head + tail else tokens[:head] + tokens[len(tokens) - tail :]


def padded(inputs: Sequence[Encoded]) -> tuple["Ints", "Ints"]:
    """Return ids and types as arrays, padded with 0 to the longest input."""
    import numpy as np

    width = max(len(item.ids) for item in inputs)
    ids = np.zeros((len(inputs), width), dtype=np.int64)
    types = np.zeros((len(inputs), width), dtype=np.int64)
    for row, item in enumerate(inputs):
        ids[row, : len(item.ids)] = item.ids
        types[row, : len(item.types)] = item.types
    return ids, types
