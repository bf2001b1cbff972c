"""How the seeker moved over one intervention, told from the turn before, the intervention and the turn after.

Multinomial logistic regression over what the shipped encoder says of the three turns. Fitted by `fit_change` on the
labels of train and failed (`esc-skills fit change`, needs the `train` extra); applied with numpy alone.
"""

import hashlib
import io
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..skills_bank.encoder import EMBEDDING_SIZE
from ..skills_bank.errors import ModelError
from ..skills_bank.taxonomy import ResponseChange, SeekerState, SupportAction, polarity
from .reading import DialogueReading

Floats = NDArray[np.float64]
CHANGES = list(ResponseChange)
POLARITIES = ("positive", "negative", "neutral")
_SIDE = np.array([POLARITIES.index(polarity(change)) for change in CHANGES])
WIDTH = 2 * len(SeekerState) + len(SupportAction) + 10 + 3 + EMBEDDING_SIZE
STRENGTH = 0.01
"""Inverse regularisation (sklearn's C). Of 0.0001 to 0.03 the one of least log loss of the polarity on `valid`, and
these features the ones of best macro-F1 there: adding the embeddings of the other two turns, products of the states,
words of the turn after, or a hidden layer gave less, since the encoder has seen the training turns and speaks of them
more surely than of new ones."""
_FLOOR = 1e-3


def interventions(reading: DialogueReading) -> list[int]:
    """Return the places of the supporter turns that stand between two seeker turns."""
    return [i for i, turn in enumerate(reading.turns) if turn.speaker == "supporter" and 0 < i < len(reading.turns) - 1]


def change_features(reading: DialogueReading, places: list[int]) -> Floats:
    """Return one row per supporter turn of `places`, shape (places, `WIDTH`).

    States of both seeker turns and actions of the turn between, as logarithms; lengths, likeness of the three turns,
    the place in the talk; and the embedding of the turn after, which the encoder reads with the other two in view.
    """
    if not places:
        return np.zeros((0, WIDTH))
    at = np.array(places)
    rows, words = reading.rows, np.log1p(reading.words)
    before, after = at - 1, at + 1
    likeness = [
        (rows.embedding[a] * rows.embedding[b]).sum(axis=1) for a, b in ((after, before), (after, at), (before, at))
    ]
    short = [reading.words[after] <= 3, reading.words[after] <= 6, reading.words[before] <= 3]
    lengths = [words[before], words[at], words[after], words[after] - words[before]]
    last = len(reading.turns)
    place = [at / last, at < 3, at > last - 4]
    return np.hstack([
        _log(rows.states[before]), _log(rows.states[after]), _log_odds(rows.actions[at]),
        np.stack([*lengths, *likeness, *short, *place], axis=1), rows.embedding[after],
    ]).astype(np.float64)  # fmt: skip


class ChangeModel:
    """The fitted regression."""

    def __init__(self, weights: Floats, bias: Floats) -> None:
        """Hold weights (`WIDTH`, 14) on raw features, and the bias (14,)."""
        if weights.shape != (WIDTH, len(CHANGES)) or bias.shape != (len(CHANGES),):
            raise ModelError(f"The change model has shape {weights.shape}, expected {(WIDTH, len(CHANGES))}. {_AGAIN}")
        self._weights, self._bias = weights, bias

    @classmethod
    def load(cls, path: Path, sha256: str) -> Self:
        """Read the weights.

        Raises:
            ModelError: The file is missing, or is not the one of that checksum.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ModelError(
                f"No change model at {path}. Reinstall esc-skills, or run `esc-skills fit change`."
            ) from error
        if (found := hashlib.sha256(data).hexdigest()) != sha256:
            raise ModelError(f"{path} has sha256 {found}, expected {sha256}. {_AGAIN}")
        with np.load(io.BytesIO(data)) as stored:
            return cls(stored["weights"].astype(np.float64), stored["bias"].astype(np.float64))

    def to_bytes(self) -> bytes:
        """Return the file's content; the same weights give the same bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, weights=self._weights.astype(np.float32), bias=self._bias.astype(np.float32))
        return buffer.getvalue()

    def chances(self, features: Floats) -> Floats:
        """Return the distribution over the 14 changes, one row per intervention."""
        logits = features @ self._weights + self._bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


_AGAIN = "Reinstall esc-skills, or run `esc-skills fit change`."


def polarity_chances(chances: Floats) -> Floats:
    """Return the distribution over `POLARITIES`."""
    return np.stack([chances[:, side == _SIDE].sum(axis=1) for side in range(len(POLARITIES))], axis=1)


def decide(chances: Floats) -> list[ResponseChange]:
    """Return one change a row: the likeliest polarity first, then the likeliest change of it.

    Six positive changes split their share of the chances; deciding among all fourteen at once would favour the three
    neutral ones.
    """
    side = polarity_chances(chances).argmax(axis=1)
    return [CHANGES[int(i)] for i in np.where(_SIDE[None, :] == side[:, None], chances, -1.0).argmax(axis=1)]


def fit_change(features: Floats, changes: NDArray[np.int64], strength: float = STRENGTH) -> ChangeModel:
    """Fit the regression; `changes` are places in `ResponseChange`. A change that never occurs is never predicted."""
    from sklearn.linear_model import LogisticRegression

    centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    fitted = LogisticRegression(C=strength, max_iter=500, tol=1e-5).fit((features - centre) / spread, changes)
    weights = np.zeros((WIDTH, len(CHANGES)))
    bias = np.full(len(CHANGES), -50.0)
    slopes, offsets = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # told as one row: the second against the first
        slopes, offsets = np.vstack([np.zeros_like(slopes), slopes]), np.append(0.0, offsets)
    weights[:, fitted.classes_] = slopes.T / spread[:, None]
    bias[fitted.classes_] = offsets - centre @ weights[:, fitted.classes_]
    return ChangeModel(weights, bias)


def _log(chances: NDArray[np.float32]) -> Floats:
    return np.log(chances.astype(np.float64) + _FLOOR)


def _log_odds(chances: NDArray[np.float32]) -> Floats:
    kept = np.clip(chances.astype(np.float64), 1e-4, 1 - 1e-4)
    return np.log(kept / (1 - kept))
