"""How a local seeker takes a reply: from the chances of each response change to the one that comes, and to points.

A drive, in logits, says how ready the seeker is to be moved by this reply: how well it serves the hidden need, the
mood so far and the turn before, the character, the seeker's own disposition, and faults of the reply. It tilts the
chances that the labels give (an exponential tilt: the odds of positive changes up, those of negative ones down by as
much), and the drawn change, the drive and some noise together are worth a number of points by cut points: an ordered
logit (McCullagh 1980). The ladder of points is the one SAGE's recorded scorers use. Everything here works on arrays, so
that calibration runs the very rules that a conversation runs.
"""

import hashlib
from pathlib import Path
from statistics import NormalDist
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..skills_bank.errors import ModelError
from ..skills_bank.taxonomy import ResponseChange
from .emotion import SAGE, EmotionState
from .needs import Character
from .response import CHANGES, data_folder, tilted

Floats = NDArray[np.float64]
PARAMS_FILE = "seeker.json"
_MOOD_SPAN = 60.0
"""From SAGE's start to content, in points: the mood is 0 at the start and 1 at 100."""
_FULL = 10.0


class Interval(BaseModel):
    """A fitted number with its 95% bootstrap interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float


class SeekerParams(BaseModel):
    """`data/seeker.json`: what the labels alone cannot give, written by `esc-skills simulator calibrate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    source: str
    need: Interval = Field(description="Drive of a reply that serves the need perfectly (logits).")
    mood: Interval = Field(description="Drive of a mood of 100 points against that of 40.")
    carry: Interval = Field(description="Drive left by a change of 10 points on the turn before.")
    disposition: Interval = Field(description="Standard deviation of the drive between seekers.")
    characters: dict[Character, Interval] = Field(description="Drive of each character; they add up to 0.")
    values: dict[ResponseChange, Interval] = Field(description="What each change is worth, in standard deviations.")
    noise: float = Field(gt=0, description="Scale of the logistic noise in the points, in the unit of `values`.")
    ladder: tuple[int, ...] = Field(min_length=2, description="The changes in points that occur, ascending.")
    cuts: tuple[float, ...] = Field(description="Where one rung ends and the next begins.")
    goodbyes: dict[EmotionState, float] = Field(description="Chance a turn of leaving, by the state after the turn.")
    empty: float = Field(default=-3.0, description="Drive of a reply without words.")
    repeated: float = Field(default=-1.5, description="Drive of a reply that says again what was said before.")
    off_topic: float = Field(default=-1.5, description="Drive of a reply that seems to be about something else.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(self.cuts) != len(self.ladder) - 1 or sorted(self.cuts) != list(self.cuts):
            raise ValueError(f"{len(self.ladder)} rungs need {len(self.ladder) - 1} ascending cuts")
        if sorted(set(self.ladder)) != list(self.ladder) or max(map(abs, self.ladder)) > (SAGE.clip or 0):
            raise ValueError(f"the ladder must ascend within {SAGE.clip} points either way")
        for field, kind in (("characters", Character), ("values", ResponseChange), ("goodbyes", EmotionState)):
            if missing := set(kind) - set(getattr(self, field)):
                raise ValueError(f"{field} lacks {', '.join(sorted(missing))}")
        return self

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read the calibrated parameters, by default the shipped ones.

        Raises:
            ModelError: The file is missing, or holds no such parameters.
        """
        path = path or data_folder() / PARAMS_FILE
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ModelError(f"No {path}. Reinstall esc-skills, or run `esc-skills simulator calibrate`.") from error
        except ValidationError as error:
            raise ModelError(
                f"{path} holds no parameters of a seeker ({error.error_count()} problems); run `esc-skills simulator "
                "calibrate`."
            ) from error

    def value_row(self) -> Floats:
        """Return the values in the order of the enum."""
        return np.array([self.values[change].value for change in CHANGES])


class Rules(NamedTuple):
    """The numbers of `SeekerParams` that a judgement needs, as plain ones."""

    need: float
    mood: float
    carry: float
    values: Floats
    noise: float
    ladder: NDArray[np.int64]
    cuts: Floats

    @classmethod
    def of(cls, params: SeekerParams) -> Self:
        """Take them from the parameters."""
        return cls(
            need=params.need.value,
            mood=params.mood.value,
            carry=params.carry.value,
            values=params.value_row(),
            noise=params.noise,
            ladder=np.array(params.ladder),
            cuts=np.array(params.cuts),
        )


class Judged(NamedTuple):
    """What n replies came to."""

    change: NDArray[np.int64]
    """Places in `ResponseChange`."""
    worth: Floats
    """What the cut points are laid on."""
    points: NDArray[np.int64]


def drive(rules: Rules, service: Floats, points: Floats, last: Floats, lasting: Floats) -> Floats:
    """Return how ready seekers are to be moved.

    Args:
        rules: The parameters.
        service: How well each reply serves the need, -1 to 1.
        points: The emotion before the reply.
        last: The change of the turn before, 0 on the first.
        lasting: All else: character, disposition, faults.
    """
    mood = rules.mood * (points - SAGE.start) / _MOOD_SPAN
    return rules.need * service + mood + rules.carry * last / _FULL + lasting


def judge(rules: Rules, chances: Floats, by: Floats, draws: Floats) -> Judged:
    """Draw the change and what it is worth.

    Args:
        rules: The parameters.
        chances: (n, 14), of each change before the drive.
        by: (n,) drives.
        draws: (n, 2) uniform numbers in (0, 1): all the chance there is.
    """
    change = drawn(tilted(chances, by), draws[:, 0])
    worth = rules.values[change] + by + rules.noise * np.log(draws[:, 1] / (1 - draws[:, 1]))
    return Judged(change, worth, rules.ladder[np.searchsorted(rules.cuts, worth)])


def expected_points(rules: Rules, chances: Floats, by: Floats) -> Floats:
    """Return the mean change in points over all that may be drawn."""
    centre = rules.values[None, :] + by[:, None]
    return (tilted(chances, by) * _points_at(rules, centre)).sum(axis=1)


def points_of_change(rules: Rules, change: NDArray[np.int64], by: Floats) -> Floats:
    """Return the mean change in points where the response change is known."""
    return _points_at(rules, rules.values[change] + by)


def _points_at(rules: Rules, centre: Floats) -> Floats:
    """Return the mean points of a worth that scatters about `centre`: a sum over the ladder's steps."""
    steps = np.diff(rules.ladder)
    above = 1 / (1 + np.exp(-(centre[..., None] - rules.cuts) / rules.noise))
    return rules.ladder[0] + (above * steps).sum(axis=-1)


def drawn(chances: Floats, draws: Floats) -> NDArray[np.int64]:
    """Return for each row the place its uniform number falls on."""
    return np.minimum((np.cumsum(chances, axis=1) < draws[:, None]).sum(axis=1), chances.shape[1] - 1)


def disposition(profile: str) -> float:
    """Return how easily a profile is moved, as a standard normal number of its own: of its id, and of nothing else."""
    code = int.from_bytes(hashlib.sha256(f"disposition of {profile}".encode()).digest()[:8], "big")
    return NormalDist().inv_cdf((code + 0.5) / 2**64)
