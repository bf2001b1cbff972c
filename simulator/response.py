"""How seekers move: P(change | state, actions) and P(next state | state, change), counted from the labelled units.

Hierarchical smoothing with back-off: the counts of a cell are drawn towards the distribution of the level above it, as
if that had been seen `strength` times more (the Dirichlet prior of MacKay & Peto 1995, "A hierarchical Dirichlet
language model"). Levels of the change: state and action -> action -> all; of the next state: state and change ->
change -> all. The two strengths are those of least log loss in cross-validation over dialogues.

Saying the same kind of thing again and again wears out: where an action stood in more than a quarter of a talk's
earlier replies, the odds of positive changes fall and those of negative ones rise. By how much (`wear`) is fitted to
the labels by maximum likelihood.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Literal, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..pipeline.labels import DialogueLabels
from ..pipeline.units import units_of
from ..skills_bank.errors import ModelError
from ..skills_bank.models import InterventionUnit
from ..skills_bank.taxonomy import ResponseChange, SeekerState, SupportAction, polarity

Floats = NDArray[np.float64]
STATES, ACTIONS, CHANGES = list(SeekerState), list(SupportAction), list(ResponseChange)
RESPONSE_FILE = "response.json"
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""What is tried."""
FOLDS = 5
SIGNS = np.array([{"positive": 1.0, "neutral": 0.0, "negative": -1.0}[polarity(change)] for change in CHANGES])
EARLIER = 3
"""Earlier replies from which sameness is told."""
USUAL = 0.25
"""Share of earlier replies that held the action, up to which nothing wears out; most human turns stay below."""


class ResponseModel(BaseModel):
    """The counts and how strongly they are smoothed; lists follow the order of the taxonomy's enums."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, ignored_types=(cached_property,)
    )

    format: Literal[1] = 1
    source: str
    units: int
    turns: int
    change_strength: float
    next_strength: float
    wear: float = Field(le=0, description="Change of the logits where every earlier reply did the same.")
    wear_error: float = Field(description="Standard error of `wear`.")
    changes: dict[SeekerState, dict[SupportAction, tuple[int, ...]]]
    """State -> action -> how often each of the 14 changes followed; cells never seen are left out."""
    nexts: dict[SeekerState, dict[ResponseChange, tuple[int, ...]]]
    """State -> change -> how often each of the 15 states came next, one count a turn."""
    first_states: tuple[int, ...]
    """How often each state was that of a dialogue's first seeker turn."""

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        rows = [(row, len(CHANGES)) for cell in self.changes.values() for row in cell.values()]
        rows += [(row, len(STATES)) for cell in self.nexts.values() for row in cell.values()]
        rows.append((self.first_states, len(STATES)))
        if any(len(row) != size for row, size in rows):
            raise ValueError("a row of counts has another length than the taxonomy's list")
        return self

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read the fitted model, by default the shipped one.

        Raises:
            ModelError: The file is missing, or is no such model.
        """
        path = path or data_folder() / RESPONSE_FILE
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ModelError(f"No {path}. Reinstall esc-skills, or run `esc-skills simulator fit`.") from error
        except ValidationError as error:
            raise ModelError(
                f"{path} is no response model of format 1 ({error.error_count()} problems); run `esc-skills simulator "
                "fit`."
            ) from error

    @cached_property
    def answers(self) -> frozenset[tuple[SeekerState, ResponseChange]]:
        """The pairs of a change and the state it led to that were ever seen."""
        return frozenset(
            (STATES[place], change)
            for cells in self.nexts.values()
            for change, row in cells.items()
            for place, count in enumerate(row)
            if count
        )

    @cached_property
    def change_table(self) -> Floats:
        """P(change | state, action), shape (15, 17, 14)."""
        counts = np.zeros((len(STATES), len(ACTIONS), len(CHANGES)))
        for state, cells in self.changes.items():
            for action, row in cells.items():
                counts[STATES.index(state), ACTIONS.index(action)] = row
        return smoothed(counts, self.change_strength)

    @cached_property
    def next_table(self) -> Floats:
        """P(next state | state, change), shape (15, 14, 15)."""
        counts = np.zeros((len(STATES), len(CHANGES), len(STATES)))
        for state, cells in self.nexts.items():
            for change, row in cells.items():
                counts[STATES.index(state), CHANGES.index(change)] = row
        return smoothed(counts, self.next_strength)

    def change_chances(self, state: SeekerState, heard: Mapping[SupportAction, float], same: float = 0.0) -> Floats:
        """Return P(change) after a turn in which these actions were heard, each with its weight.

        `same` is how much the turn is like the replies before it; see `sameness`.

        A turn that does several things is taken as the mixture of them. Nothing heard: the mixture of all actions
        alike, which an empty reply deserves no less than any other before the penalties.
        """
        table = self.change_table[STATES.index(state)]
        if not heard:
            return table.mean(axis=0)
        weights = np.array([heard.get(action, 0.0) for action in ACTIONS])
        return tilted((weights @ table / weights.sum())[None], np.array([self.wear * same]))[0]

    def next_chances(self, state: SeekerState, change: ResponseChange) -> Floats:
        """Return P(next state | state, change)."""
        return self.next_table[STATES.index(state), CHANGES.index(change)]


def tilted(chances: Floats, by: Floats) -> Floats:
    """Return distributions (n, 14) with the odds of positive changes times e^by, of negative ones by e^-by."""
    weights = chances * np.exp(SIGNS * by[:, None])
    return weights / weights.sum(axis=1, keepdims=True)


def sameness(actions: Iterable[SupportAction], earlier: Sequence[Collection[SupportAction]]) -> float:
    """Return how much a reply is like those before it, 0 to 1.

    The mean, over its actions, of the share of earlier replies that held the action, as far as it is above `USUAL`.
    """
    some = list(actions)
    if len(earlier) < EARLIER or not some:
        return 0.0
    share = sum(action in reply for action in some for reply in earlier) / (len(some) * len(earlier))
    return max(0.0, share - USUAL) / (1 - USUAL)


def turn_sameness(dialogue: DialogueLabels) -> dict[int, float]:
    """Return the sameness of each supporter turn of a dialogue, by place."""
    found: dict[int, float] = {}
    earlier: list[tuple[SupportAction, ...]] = []
    for place, turn in enumerate(dialogue.turns):
        if turn.actions:
            found[place] = sameness(turn.actions, earlier)
            earlier.append(turn.actions)
    return found


def smoothed(counts: Floats, strength: float) -> Floats:
    """Return the distributions over the last axis of (a, b, outcome) counts, backed off to b, then to all.

    The top level has one pseudo-count spread evenly, so that nothing is impossible.
    """
    total = counts.sum(axis=(0, 1))
    root = (total + 1 / total.size) / (total.sum() + 1)
    middle = _drawn(counts.sum(axis=0), root, strength)
    return _drawn(counts, middle[None], strength)


def _drawn(counts: Floats, prior: Floats, strength: float) -> Floats:
    return (counts + strength * prior) / (counts.sum(axis=-1, keepdims=True) + strength)


def fit_response(labels: Iterable[DialogueLabels], source: str) -> ResponseModel:
    """Count the units of `labels` and choose both strengths by cross-validation.

    Raises:
        ValueError: No unit is in them.
    """
    dialogues = list(labels)
    units = [unit for dialogue in dialogues for unit in units_of(dialogue)]
    if not units:
        raise ValueError("No intervention unit to fit the response model on.")
    turns = [unit for unit in units if unit.position == 0]
    of_change = _codes(units, lambda u: (STATES.index(u.state), ACTIONS.index(u.action), CHANGES.index(u.change)))
    of_next = _codes(turns, lambda u: (STATES.index(u.state), CHANGES.index(u.change), STATES.index(u.state_after)))
    change_shape = (len(STATES), len(ACTIONS), len(CHANGES))
    next_shape = (len(STATES), len(CHANGES), len(STATES))
    first = [next((t.state for t in d.turns if t.state is not None), None) for d in dialogues]
    model = ResponseModel(
        source=source,
        units=len(units),
        turns=len(turns),
        change_strength=_best(of_change, [u.dialogue for u in units], change_shape),
        next_strength=_best(of_next, [u.dialogue for u in turns], next_shape),
        changes=_cells(_counted(of_change, change_shape), ACTIONS),
        nexts=_cells(_counted(of_next, next_shape), CHANGES),
        wear=0.0,
        wear_error=0.0,
        first_states=tuple(first.count(state) for state in STATES),
    )
    wear, error = fit_wear(model, dialogues)
    return model.model_copy(update={"wear": wear, "wear_error": error})


def fit_wear(model: ResponseModel, dialogues: Iterable[DialogueLabels]) -> tuple[float, float]:
    """Return the wear of greatest likelihood given the model's chances, at most 0, and its standard error (Newton).

    How far the corpora differ altogether is fitted beside it: supporters of FailedESConv repeat themselves more and
    fare worse whether or not they do, and without that a quarter of the talks would pass for wear.
    """
    rows: list[tuple[Floats, float, tuple[float, float, float]]] = []
    for dialogue in dialogues:
        same, failed = turn_sameness(dialogue), float(dialogue.source == "FailedESConv")
        for place in list(same)[EARLIER:]:
            if not 0 < place < len(dialogue.turns) - 1:
                continue
            before, turn = dialogue.turns[place - 1], dialogue.turns[place]
            if turn.change is not None and before.state is not None:
                chances = model.change_chances(before.state, dict.fromkeys(turn.actions, 1.0))
                rows.append((chances, SIGNS[CHANGES.index(turn.change)], (1.0, failed, same[place])))
    if not any(row[2][2] for row in rows):
        return 0.0, 0.0
    chances, side = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    about = np.array([row[2] for row in rows])
    about = about[:, [about[:, 1].std() > 0 or column != 1 for column in range(3)]]
    slopes, information = np.zeros(about.shape[1]), np.eye(about.shape[1])
    for _ in range(30):
        now = tilted(chances, about @ slopes)
        mean = now @ SIGNS
        information = (about.T * (now @ SIGNS**2 - mean**2)) @ about
        slopes += np.linalg.solve(information, about.T @ (side - mean))
    return round(min(float(slopes[-1]), 0.0), 4), round(float(np.linalg.inv(information)[-1, -1] ** 0.5), 4)


def _codes(units: Sequence[InterventionUnit], code) -> NDArray[np.int64]:
    return np.array([code(unit) for unit in units], dtype=np.int64).reshape(-1, 3)


def _counted(codes: NDArray[np.int64], shape: tuple[int, int, int]) -> Floats:
    counts = np.zeros(shape)
    np.add.at(counts, tuple(codes.T), 1)
    return counts


def _best(codes: NDArray[np.int64], dialogues: Sequence[str], shape: tuple[int, int, int]) -> float:
    """Return the strength of least log loss; whole dialogues are held out, told apart by a hash of their id."""
    fold = np.array([fold_of(dialogue) for dialogue in dialogues])
    losses = dict.fromkeys(STRENGTHS, 0.0)
    for held in range(FOLDS):
        rest, out = codes[fold != held], codes[fold == held]
        counts = _counted(rest, shape)
        for strength in STRENGTHS:
            losses[strength] -= float(np.log(smoothed(counts, strength)[tuple(out.T)]).sum())
    return min(losses, key=lambda strength: losses[strength])


def fold_of(dialogue: str) -> int:
    """Return in which of `FOLDS` parts a dialogue is held out; the same on every machine."""
    return crc32(dialogue.encode()) % FOLDS


def _cells(counts: Floats, columns: Sequence) -> dict:
    return {
        state: {
            column: tuple(int(n) for n in counts[i, j]) for j, column in enumerate(columns) if counts[i, j].any()
        }
        for i, state in enumerate(STATES)
        if counts[i].any()
    }  # fmt: skip


def data_folder() -> Path:
    """Return where the fitted files of the simulator ship."""
    return Path(str(files("esc_skills.simulator").joinpath("data")))
