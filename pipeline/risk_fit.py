"""`esc-skills fit risk`: the encoder's risk head, the n-gram reader and the sum that joins them with the patterns.

Head and reader are fitted twice: once for each group of writers on the lines of all others, so that joining and
thresholds rest on what is said of lines by somebody unknown, and once on all lines, to be shipped. The joins use only
writers whose lines nobody had seen when the patterns were written.
"""

import json
import random
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from ..skills_bank.encoder import Turn
from ..skills_bank.models import Message
from ..skills_bank.risk_patterns import load_patterns
from ..skills_bank.risk_reader import RiskReader, Scores, load_reader
from ..skills_bank.taxonomy import ResponseChange, SeekerState, SupportAction
from .items import RISK_UNSEEN, RISK_WRITERS, RiskLine, read_risk_lines, risk_lines_path, turn_items
from .phrasebook import load_phrases
from .risk_head import RiskHead, TrunkReader, fit_head, graft
from .risk_joins import Signs, fit_joins, settle_thresholds, strengths
from .risk_ngrams import CALM_WEIGHT, Sample, calm_samples, composed_samples, fit_reader, goals

FOLDS = 5
EVERYDAY = "everyday_"
CALM_TURNS = 4000
CALM_ROWS = 2500
"""Calm turns that the head is fitted on; each costs as much as a composed line."""

RARE_WEIGHT = 2.5
"""Of a line on harm to others or on abuse: there are ten on self-harm for one of them."""


class Material:
    """The composed lines that can be read by themselves, and calm corpus turns, with all that is fitted on."""

    def __init__(self, shared: Path, folder: Path) -> None:
        written = [(name, line) for name in RISK_WRITERS for line in read_risk_lines(risk_lines_path(name))]
        single = [(name, line) for name, line in written if len(line.messages) == 1] + everyday_lines()
        self.writers = np.array([name for name, _ in single])
        self.lines: list[RiskLine] = [line for _, line in single]
        self.goals = np.array([goals(line) for line in self.lines], dtype=np.float32)
        calm = calm_turns(shared)
        self._rare = np.max(self.goals[:, 1:3], axis=1) > 0
        self._calm_samples: list[Sample] = calm_samples([turn.content for turn in calm])
        trunk = TrunkReader(folder)
        self.features = trunk.read([Turn("seeker", line.messages[0].content) for line in self.lines])
        self._calm_features = trunk.read(calm[:CALM_ROWS])

    def reader(self, chosen: np.ndarray) -> RiskReader:
        """Return an n-gram reader fitted on the chosen lines."""
        lines = [line for line, take in zip(self.lines, chosen, strict=True) if take]
        return RiskReader(fit_reader(composed_samples(lines) + self._calm_samples))

    def head(self, chosen: np.ndarray) -> RiskHead:
        """Return a risk head fitted on the chosen lines."""
        calm = len(self._calm_features)
        return fit_head(
            np.concatenate([self.features[chosen], self._calm_features]),
            np.concatenate([self.goals[chosen], np.zeros((calm, self.goals.shape[1]), dtype=np.float32)]),
            np.concatenate([np.where(self._rare[chosen], RARE_WEIGHT, 1.0), np.full(calm, CALM_WEIGHT)]),
        )


def everyday_lines() -> list[tuple[str, RiskLine]]:
    """Return what seekers say in our library of phrases, each with a stand-in for its writer, one for five actions.

    The writers of risk lines thought of danger or of its look-alikes; a reader fitted on those alone takes much of an
    ordinary talk for danger. Left out are the lines that a trained listener might ask about.
    """
    asked_about = (SeekerState.HOPELESSNESS, ResponseChange.DEEPENED_HOPELESSNESS)
    found: list[tuple[str, RiskLine]] = []
    for place, (where, text) in enumerate(load_phrases().seeker_lines()):
        if SupportAction.SAFETY_CHECK_AND_REFERRAL in where or any(name in where for name in asked_about):
            continue
        message = Message(role="seeker", content=text)
        line = RiskLine(category="ordinary_distress", messages=(message,), level="none")
        found.append((f"{EVERYDAY}{place % FOLDS}", line))
    return found


def calm_turns(shared: Path, count: int = CALM_TURNS, seed: int = 0) -> list[Turn]:
    """Return seeker turns of the training corpus that carry no flag."""
    items = turn_items(shared, ["train"])
    turns = [i.turn for i in items if i.turn and i.turn.role == "seeker" and not any(i.risk or ())]
    return random.Random(seed).sample(turns, min(count, len(turns)))


def folds(writers: Sequence[str], count: int = FOLDS) -> Iterator[frozenset[str]]:
    """Yield groups of writers, each writer in one of them."""
    names = sorted(set(writers))
    return (frozenset(names[i::count]) for i in range(min(count, len(names))))


def settle_head(material: Material, folder: Path) -> np.ndarray:
    """Fit the risk head on all lines and put it into the encoder of `folder`.

    Returns:
        (lines, 4) log-odds, each line read by a head fitted on the lines of other writers.
    """
    raw = np.zeros_like(material.goals)
    for held in _held_out(material):
        raw[held] = material.head(~held).score(material.features[held])
    slope, offset = platt(raw, material.goals)
    graft(folder, material.head(np.ones(len(raw), dtype=bool)).scaled(slope, offset))
    return raw * slope + offset


def cross_read(material: Material) -> list[Scores | None]:
    """Return the n-gram reader's scores, each line read by a reader fitted on the lines of other writers."""
    read: list[Scores | None] = [None] * len(material.lines)
    for held in _held_out(material):
        reader = material.reader(~held)
        for i in np.flatnonzero(held):
            read[i] = reader.read(material.lines[i].messages[0].content)
    return read


def _held_out(material: Material) -> Iterator[np.ndarray]:
    return (np.isin(material.writers, sorted(group)) for group in folds(list(material.writers)))


def platt(raw: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and offset of each column that turn raw scores into log-odds (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    fitted = [LogisticRegression(C=100.0).fit(raw[:, [k]], goal[:, k]) for k in range(raw.shape[1])]
    slope = np.array([model.coef_[0, 0] for model in fitted], dtype=np.float32)
    return slope, np.array([model.intercept_[0] for model in fitted], dtype=np.float32)


def main(shared: Path = Path("../shared")) -> None:
    """Fit all three on all composed lines and write them into `skills_bank/`."""
    folder = Path(str(files("esc_skills.skills_bank")))
    material = Material(shared, folder / "model")
    odds = settle_head(material, folder / "model")
    found = _signs(material, odds, cross_read(material))
    _write(folder / "risk_reader.json", material.reader(np.ones(len(material.lines), dtype=bool)).weights)
    load_reader.cache_clear()
    joins = fit_joins(found)
    for with_encoder in (True, False):
        joins = settle_thresholds(joins, found, with_encoder=with_encoder)
    _write(folder / "risk_join.json", joins)


def _signs(material: Material, odds: np.ndarray, read: Sequence[Scores | None]) -> list[Signs]:
    """Return the signs of the lines by writers the patterns had not seen; too short lines are for the patterns."""
    patterns = load_patterns()
    unseen = [name in RISK_UNSEEN or name.startswith(EVERYDAY) for name in material.writers]
    return [
        Signs(
            line,
            strengths(patterns, line.messages[0].content),
            patterns.tone(line.messages[0].content),
            scores,
            tuple(map(float, row)),  # pyright: ignore[reportArgumentType]
        )
        for line, scores, row, take in zip(material.lines, read, odds, unseen, strict=True)
        if take and scores is not None
    ]


def _write(target: Path, model: BaseModel) -> None:
    temporary = target.with_suffix(".tmp")
    text = json.dumps(model.model_dump(), ensure_ascii=False, separators=(",", ":"))
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(target)
