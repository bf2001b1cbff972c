"""A small linear reader of one seeker turn: word and character n-grams with fitted weights, in plain Python.

It stands between the reviewed patterns, which know what they were told, and the encoder's risk head, which may be
absent. The weights are written by `pipeline/risk_fit.py`; their vocabulary holds n-grams of composed lines only.
"""

import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from .risk_patterns import sentences

OUTPUTS: tuple[str, ...] = ("self_harm", "harm_to_others", "abuse", "high")
"""What is scored: the three kinds at any level, and self-harm at level high."""
WINDOW_WORDS = 60
FEWEST_WORDS = 3


class ReaderWeights(BaseModel):
    """`risk_reader.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    bias: tuple[float, float, float, float]
    words: dict[str, tuple[float, float, float, float]]
    chars: dict[str, tuple[float, float, float, float]]


class Scores(NamedTuple):
    """Log-odds of each output for one turn; the worst window of it."""

    self_harm: float
    harm_to_others: float
    abuse: float
    high: float


class RiskReader:
    """Scores turns with fixed weights."""

    def __init__(self, weights: ReaderWeights) -> None:
        """Take the weights."""
        self._weights = weights

    @property
    def weights(self) -> ReaderWeights:
        """The weights, to be stored."""
        return self._weights

    def read(self, text: str) -> Scores | None:
        """Return the scores of a turn, or None where it is too short to be read by itself."""
        best: Scores | None = None
        for words in windows(text):
            found = self._score(words)
            best = found if best is None else Scores(*map(max, best, found))
        return best

    def _score(self, words: Sequence[str]) -> Scores:
        total = list(self._weights.bias)
        for grams, weights in (
            (word_grams(words), self._weights.words),
            (char_grams(words), self._weights.chars),
        ):
            known = [weights[gram] for gram in grams if gram in weights]
            # Binary features of unit length, as scikit-learn's TfidfVectorizer(binary=True, use_idf=False) makes them.
            scale = 1 / math.sqrt(len(known)) if known else 0.0
            for column in range(len(OUTPUTS)):
                total[column] += scale * sum(row[column] for row in known)
        return Scores(*total)


def windows(text: str) -> Iterator[list[str]]:
    """Yield the normal form of a turn as words, in overlapping windows where it is long."""
    words = [word for _, plain in sentences(text) for word in plain.split()]
    if len(words) < FEWEST_WORDS:
        return
    step = WINDOW_WORDS // 2
    for begin in range(0, max(1, len(words) - step), step):
        yield words[begin : begin + WINDOW_WORDS]


def word_grams(words: Sequence[str]) -> set[str]:
    """Return the one- to three-word sequences."""
    return {" ".join(words[i : i + n]) for n in (1, 2, 3) for i in range(len(words) - n + 1)}


def char_grams(words: Sequence[str]) -> set[str]:
    """Return the sequences of three to five characters within words, each padded by a space."""
    grams: set[str] = set()
    for word in set(words):
        padded = f" {word} "
        for n in (3, 4, 5):
            grams.update(padded[i : i + n] for i in range(len(padded) - n + 1))
    return grams


@cache
def load_reader() -> RiskReader:
    """Return the shipped reader."""
    text = files("esc_skills.skills_bank").joinpath("risk_reader.json").read_text(encoding="utf-8")
    return RiskReader(ReaderWeights.model_validate(json.loads(text)))
