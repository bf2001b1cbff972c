"""Fits the weights of `skills_bank/risk_reader.py` on composed lines and calm corpus turns.

`python -m esc_skills.pipeline.risk_fit` writes `skills_bank/risk_reader.json`. Vocabulary: n-grams of composed lines
alone. Corpus turns that carry no flag serve as further negatives; nothing of their text is kept.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..skills_bank.risk_reader import OUTPUTS, ReaderWeights, char_grams, windows, word_grams
from .items import RiskLine, read_risk_lines, turn_items

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray

LINES = ("train", "extra", "dev")
KEPT_WORDS, KEPT_CHARS = 9000, 7000
STRENGTH = 5.0
"""Inverse regularisation of the logistic regressions (scikit-learn's C)."""
CALM_TURNS = 4000
CALM_WEIGHT = 0.25


class Sample(NamedTuple):
    """One turn with its goals."""

    words: list[str]
    goals: tuple[bool, bool, bool, bool]
    weight: float
    composed: bool


def lines_path(name: str) -> Path:
    """Return the path of a file of composed lines."""
    return Path(str(files("esc_skills.pipeline").joinpath(f"risk_lines.{name}.jsonl")))


def composed_samples(lines: Sequence[RiskLine]) -> list[Sample]:
    """Return the lines whose last turn can be read by itself; answers to a question are for the patterns."""
    return [_sample(line) for line in lines if len(line.messages) == 1]


def _sample(line: RiskLine) -> Sample:
    words = [word for window in windows(line.messages[-1].content) for word in window]
    goals = (*(line.kind == kind for kind in OUTPUTS[:3]), line.kind == "self_harm" and line.level == "high")
    return Sample(words, goals, 1.0, True)  # pyright: ignore[reportArgumentType]


def calm_samples(shared: Path, count: int = CALM_TURNS, seed: int = 0) -> list[Sample]:
    """Return seeker turns of the training corpus that carry no flag."""
    items = turn_items(shared, ["train"])
    turns = [
        item.turn.content for item in items if item.turn and item.turn.role == "seeker" and not any(item.risk or ())
    ]
    chosen = random.Random(seed).sample(turns, min(count, len(turns)))
    calm = (False, False, False, False)
    return [Sample(words, calm, CALM_WEIGHT, False) for text in chosen for words in windows(text)]


def fit(samples: Sequence[Sample]) -> ReaderWeights:
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


def main(shared: Path = Path("../shared")) -> None:
    """Fit on the shipped lines and write the weights beside the reader."""
    lines = [line for name in LINES for line in read_risk_lines(lines_path(name))]
    weights = fit(composed_samples(lines) + calm_samples(shared))
    target = Path(str(files("esc_skills.skills_bank").joinpath("risk_reader.json")))
    target.write_text(json.dumps(weights.model_dump(), ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


if __name__ == "__main__":
    main()
