"""How alike two texts are: cosine of the encoder's embeddings, and runs of words in common.

The encoder reads about sixty tokens at a time, so a longer text is embedded sentence by sentence and the mean is taken.
It was trained to tell states and scenarios apart, which pulls texts of one scenario together; shared words are counted
beside it, because they need no model.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SHINGLE = 4
"""Words in a row that count as one shared piece."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


class Embedder(Protocol):
    """The part of `Encoder` that is used here."""

    def embed(self, texts: Sequence[str]) -> "Floats":
        """Return one normalised vector a text."""
        ...


def vectors(texts: Sequence[str], embedder: Embedder) -> "Floats":
    """Return one normalised vector a text: the mean over its sentences."""
    import numpy as np

    sentences = [[part for part in _SENTENCE.split(text) if part.strip()] or [text] for text in texts]
    places = {sentence: i for i, sentence in enumerate(dict.fromkeys(s for parts in sentences for s in parts))}
    embedded = embedder.embed(list(places))  # profiles share their sentences: each is read once
    means = np.stack([embedded[[places[sentence] for sentence in parts]].mean(axis=0) for parts in sentences])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)


def shingles(text: str, length: int = SHINGLE) -> frozenset[str]:
    """Return the runs of words of a text, in lower case."""
    words = _WORD.findall(text.lower())
    return frozenset(" ".join(words[i : i + length]) for i in range(len(words) - length + 1))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the Jaccard overlap of two sets of runs (Broder 1997); 0 where both are empty."""
    union = len(one | other)
    return len(one & other) / union if union else 0.0
