"""Fits the n-gram reader of `skills_bank/risk_reader.py` on composed lines and calm corpus turns.

Vocabulary: n-grams of composed lines alone. Corpus turns that carry no flag serve as further negatives; nothing of
their text is kept.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..skills_bank.risk_reader import OUTPUTS, ReaderWeights, char_grams, windows, word_grams
from .items import RiskLine

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray

KEPT_WORDS, KEPT_CHARS = 12000, 8000
STRENGTH = 5.0
"""Inverse regularisation of the logistic regressions (scikit-learn's C)."""
CALM_WEIGHT = 0.25


class Sample(NamedTuple):
    """One turn with its goals."""

    words: list[str]
    goals: tuple[bool, bool, bool, bool]
    weight: float
    composed: bool


def composed_samples(lines: Sequence[RiskLine]) -> list[Sample]:
    """Return the lines whose last turn can be read by itself; answers to a question are for the patterns."""
    return [_sample(line) for line in lines if len(line.messages) == 1]


def goals(line: RiskLine) -> tuple[bool, bool, bool, bool]:
    """Return what is to be told of a line, in the order of `OUTPUTS`."""
    mine = [line.kind == kind for kind in OUTPUTS[:3]]
    return mine[0], mine[1], mine[2], mine[0] and line.level == "high"


def _sample(line: RiskLine) -> Sample:
    words = [word for window in windows(line.messages[-1].content) for word in window]
    return Sample(words, goals(line), 1.0, True)


def calm_samples(texts: Sequence[str]) -> list[Sample]:
    """Return samples of seeker turns without any sign of danger; they weigh less than a composed line."""
    calm = (False, False, False, False)
    return [Sample(words, calm, CALM_WEIGHT, False) for text in texts for words in windows(text)]


def fit_reader(samples: Sequence[Sample]) -> ReaderWeights:
    """Return weights fitted on the samples; the vocabulary comes from composed samples and is pruned once."""
    words = _vocabulary(samples, word_grams, 1)
    chars = _vocabulary(samples, char_grams, 2)
    coefficients, _ = _regress(samples, words, chars)
    words, chars = _heaviest(coefficients, words, chars)
    coefficients, bias = _regress(samples, words, chars)
    rows = [tuple(round(float(v), 3) for v in column) for column in coefficients.T]
    return ReaderWeights(
        format=1,
        bias=tuple(round(float(b), 3) for b in bias),  # pyright: ignore[reportArgumentType]
        words=dict(zip(words, rows[: len(words)], strict=True)),  # pyright: ignore[reportArgumentType]
        chars=dict(zip(chars, rows[len(words) :], strict=True)),  # pyright: ignore[reportArgumentType]
    )


def _vocabulary(samples: Sequence[Sample], grams: Callable[[Sequence[str]], set[str]], least: int) -> list[str]:
    counts = Counter(gram for sample in samples if sample.composed for gram in grams(sample.words))
    return sorted(gram for gram, count in counts.items() if count >= least)


def _heaviest(coefficients: "Floats", words: list[str], chars: list[str]) -> tuple[list[str], list[str]]:
    import numpy as np

    size = np.abs(coefficients).max(axis=0)
    keep_words = np.sort(np.argsort(-size[: len(words)])[:KEPT_WORDS])
    keep_chars = np.sort(np.argsort(-size[len(words) :])[:KEPT_CHARS])
    return [words[i] for i in keep_words], [chars[i] for i in keep_chars]


def _regress(samples: Sequence[Sample], words: list[str], chars: list[str]) -> tuple["Floats", "Floats"]:
    import numpy as np
    from scipy.sparse import hstack
    from sklearn.linear_model import LogisticRegression

    blocks = [_matrix(samples, words, word_grams), _matrix(samples, chars, char_grams)]
    features = hstack(blocks).tocsr()
    weights = np.array([sample.weight for sample in samples])
    models = [
        LogisticRegression(C=STRENGTH, max_iter=3000).fit(
            features, [sample.goals[column] for sample in samples], sample_weight=weights
        )
        for column in range(len(OUTPUTS))
    ]
    return np.vstack([m.coef_[0] for m in models]), np.array([m.intercept_[0] for m in models])


def _matrix(samples: Sequence[Sample], vocabulary: list[str], grams: Callable[[Sequence[str]], set[str]]):
    import numpy as np
    from scipy.sparse import csr_matrix

    place = {gram: i for i, gram in enumerate(vocabulary)}
    values, columns, ends = [], [], [0]
    for sample in samples:
        known = [place[gram] for gram in grams(sample.words) if gram in place]
        columns += known
        values += [1 / np.sqrt(len(known))] * len(known) if known else []
        ends.append(len(columns))
    return csr_matrix((values, columns, ends), shape=(len(samples), len(vocabulary)))
