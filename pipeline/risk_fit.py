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

from pydantic import BaseModel

from ..skills_bank.conversation import as_conversation
from ..skills_bank.encoder import RISK_KINDS, Encoder
from ..skills_bank.risk import Join, Joins, RiskDesk, log_odds
from ..skills_bank.risk_patterns import RANK, load_patterns
from ..skills_bank.risk_reader import OUTPUTS, ReaderWeights, char_grams, load_reader, windows, word_grams
from .items import RISK_FIRST, RISK_TRAIN, RiskLine, read_risk_lines, turn_items

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray

KEPT_WORDS, KEPT_CHARS = 12000, 8000
STRENGTH = 5.0
"""Inverse regularisation of the logistic regressions (scikit-learn's C)."""
MOST_FALSE = 0.06
"""Most false positives on hyperbole and ordinary distress of `first`; the published bound is 0.08."""
EXPLICIT = 0.98
"""Of the explicit lines of `first` that are caught at all, the least share that must come out high."""
CALM_TURNS = 4000
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


class Signs(NamedTuple):
    """What the three readers say of the last turn of one line."""

    line: RiskLine
    strengths: tuple[str, str, str]
    """The strongest pattern of each kind."""
    reader: tuple[float, float, float, float]
    encoder: tuple[float, float, float, float]


def signs(lines: Sequence[RiskLine], encoder: Encoder) -> list[Signs]:
    """Return the signs of every line that can be read by itself (answers to a question are for the patterns)."""
    patterns, reader = load_patterns(), load_reader()
    found = []
    for line in lines:
        conversation = as_conversation([message.model_dump() for message in line.messages])
        text = conversation.last_seeker.content
        scores = reader.read(text)
        if scores is None or len(line.messages) > 1:
            continue
        turn = conversation.turn_with_context(conversation.seeker_indices[-1])
        strongest = [
            max((s.strength for s in patterns.signals(text) if s.kind == kind), key=lambda s: RANK[s], default="none")
            for kind in RISK_KINDS
        ]
        row = [log_odds(float(p)) for p in encoder.read([turn]).risk[0]]
        found.append(Signs(line, tuple(strongest), tuple(scores), tuple(row)))  # pyright: ignore[reportArgumentType]
    return found


def fit_joins(found: Sequence[Signs]) -> Joins:
    """Return the weights with which the signs are joined, fitted on lines none of the readers was fitted on.

    Kinds share their weights: harm to others and abuse alone have too few lines. The bias is where a line is as likely
    risky as not; `main` then moves it to the false-positive rate that is wanted.
    """
    kinds = [(s.strengths[k], s.reader[k], s.encoder[k], s.line.kind == RISK_KINDS[k]) for s in found for k in range(3)]
    grave = [
        (max(s.strengths, key=lambda x: RANK[x]), s.reader[3], s.encoder[3], s.line.level == "high") for s in found
    ]
    return Joins(
        format=1,
        any=_join(kinds, with_encoder=True),
        high=_join(grave, with_encoder=True),
        any_alone=_join(kinds, with_encoder=False),
        high_alone=_join(grave, with_encoder=False),
        light=1.0,
        denies=3.0,
        veto=-2.0,
    )


def _join(rows: Sequence[tuple[str, float, float, bool]], *, with_encoder: bool) -> Join:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    features = np.array(
        [
            [
                reader,
                encoder if with_encoder else 0.0,
                *(float(strength == name) for name in ("weak", "elevated", "high")),
            ]
            for strength, reader, encoder, _ in rows
        ]
    )
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(features, [gold for *_, gold in rows])
    reader, encoder, weak, elevated, high = (round(float(w), 3) for w in fitted.coef_[0])
    bias = round(float(fitted.intercept_[0]), 3)
    # A sign of danger never speaks against danger, whatever a few hundred lines say.
    weak, elevated, high = max(weak, 0.0), max(elevated, 0.0), max(high, 0.0)
    return Join(bias=bias, reader=reader, encoder=encoder, weak=weak, elevated=elevated, high=high)


def settle_thresholds(joins: Joins, path: Path, encoder: Encoder | None) -> Joins:
    """Move the two biases: the most recall for at most `MOST_FALSE` false positives, then level high for `EXPLICIT`.

    Every level above none counts as a false positive on hyperbole and ordinary distress. The lines of `path` are
    those the joins were fitted on; no held-out line is read here.
    """
    from .risk_eval import evaluate

    suffix = "" if encoder else "_alone"

    def shifted(part: str, by: float, base: Joins) -> Joins:
        join: Join = getattr(base, part + suffix)
        return base.model_copy(update={part + suffix: join.model_copy(update={"bias": round(join.bias + by, 3)})})

    def score(candidate: Joins):
        desk = RiskDesk.load().with_joins(candidate)
        return evaluate(path, desk, encoder)

    best = joins
    for by in (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5):
        candidate = shifted("any", by, joins)
        if score(candidate).false_positive.rate > MOST_FALSE:
            break
        best = candidate
    joins = best
    for by in (-0.5, 0.0, 0.5, 1.0):
        best = shifted("high", by, joins)
        found = score(best)
        caught = next(c.caught.rate for c in found.categories if c.category == "explicit")
        if found.explicit.rate >= EXPLICIT * caught:
            break
    return best


def main(shared: Path = Path("../shared")) -> None:
    """Fit the reader on all lines but `first`, then the joins and thresholds on `first`; write both files."""
    lines = [line for path in RISK_TRAIN for line in read_risk_lines(path)]
    folder = Path(str(files("esc_skills.skills_bank")))
    _write(folder / "risk_reader.json", fit(composed_samples(lines) + calm_samples(shared)))
    load_reader.cache_clear()
    encoder = Encoder.load(threads=2)
    joins = fit_joins(signs(read_risk_lines(RISK_FIRST), encoder))
    _write(folder / "risk_join.json", joins)  # what a desk is loaded with while the thresholds are moved
    for reads_with in (encoder, None):
        joins = settle_thresholds(joins, RISK_FIRST, reads_with)
    _write(folder / "risk_join.json", joins)


def _write(target: Path, model: BaseModel) -> None:
    temporary = target.with_suffix(".tmp")
    text = json.dumps(model.model_dump(), ensure_ascii=False, separators=(",", ":"))
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(target)


if __name__ == "__main__":
    main()
