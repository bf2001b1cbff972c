"""Fits what the labels cannot give: to the moments of the recorded SAGE runs, and to ESConv's survey scores.

What a change is worth comes from the surveys: over dialogues, how much the reported intensity drops with each
change's share of the turns, by ridge regression towards the taxonomy's polarity. Need, mood, carry, disposition and
character come from the runs by the method of simulated moments (McFadden 1989): the rules of `judgement` are run on the
profiles of the runs with an agent that follows the human supporters' action frequencies, until the moments match. The
level is a convention: that agent is taken to score as the five recorded agents together, since SAGE recorded no human.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..pipeline.labels import DialogueLabels
from ..skills_bank.errors import ModelError
from .change_values import fit_values, interval_of
from .judgement import Interval, Rules, SeekerParams
from .playing import PARAMETERS, Settings, World, human_agent, play, simulated_moments, world
from .recorded import (
    CHARACTERS,
    LOWEST_FIRST,
    MOMENTS,
    Floats,
    Runs,
    figures,
    goodbye_chances,
    ladder_of,
    moments,
    resampled,
)
from .response import (
    CHANGES,
    ResponseModel,
    data_folder,
)

CALIBRATION_FILE = "calibration.json"
NOISE = 0.3
STEPS = 15
STRIDE = 0.1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


STARTS = ((1.0, 1.0, 0.5, 0.3, -0.4, 0.1), (2.2, 0.2, 1.3, 0.15, -0.35, 0.1))
"""Where the search begins; the moments are a valley, so it begins on both of its slopes."""


class RunCheck(_Frozen):
    """One recorded run beside the simulation, shifted by one number to the run's mean change."""

    run: str
    quality: float
    recorded: dict[str, float]
    simulated: dict[str, float]


class MomentFit(_Frozen):
    """A recorded moment with its interval, and what the simulation gives."""

    recorded: Interval
    simulated: float


class Fit(_Frozen):
    """`data/calibration.json`: how well the parameters fit."""

    format: Literal[1] = 1
    moments: dict[str, MomentFit]
    recorded: dict[str, float] = Field(description="Figures of the runs together.")
    simulated: dict[str, float]
    runs: tuple[RunCheck, ...]
    survey_dialogues: int
    survey_ridge: float


class Calibration(Fit):
    """The parameters with their fit."""

    params: SeekerParams


def load_calibration(path: Path | None = None) -> Fit:
    """Read how well the shipped parameters fit.

    Raises:
        ModelError: The file is missing or is none of ours.
    """
    path = path or data_folder() / CALIBRATION_FILE
    try:
        return Fit.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        raise ModelError(f"{path} is missing or of another form; run `esc-skills simulator calibrate`.") from None


def calibrate(
    recorded: tuple[Sequence[str], Runs],
    labels: Sequence[DialogueLabels],
    model: ResponseModel,
    drops: Mapping[str, float],
    say: Callable[[str], None] = lambda _: None,
) -> Calibration:
    """Fit everything.

    Args:
        recorded: Names and talks of the recorded runs.
        labels: Labelled dialogues to learn the worth of changes and the human supporters' actions from.
        model: The response model.
        drops: Dialogue -> how much the seeker's reported intensity fell.
        say: Is told how it goes.
    """
    names, runs = recorded
    values, ridge, dialogues = fit_values(labels, drops)
    goodbyes = goodbye_chances(runs)
    agent = human_agent(labels, model)
    at = world(runs.needs, runs.characters, agent, model, np.array([goodbyes[s] for s in LOWEST_FIRST]))
    rungs, shares = ladder_of(runs)
    row = np.array([values[change].value for change in CHANGES])
    start = np.quantile(np.random.default_rng(1).standard_normal(10_000), np.cumsum(shares)[:-1])
    rules = Rules(need=0, mood=0, carry=0, values=row, noise=NOISE, ladder=rungs, cuts=start)
    target = moments(runs)
    draws = resampled(runs)
    draws += target - draws.mean(axis=0)  # resampled groups differ more than the groups do
    fits = [_fit(at, rules, shares, target, draws.std(axis=0), start, say) for start in STARTS]
    theta, slopes, rules, _ = min(fits, key=lambda one: one[3])
    found, rules, played = simulated_moments(at, theta, rules, shares)
    weights = 1 / draws.std(axis=0)
    # One Gauss-Newton step from the fit to each resample's moments: what a refit would give, to first order.
    back = np.linalg.pinv(slopes * weights[:, None]) * weights[None, :]
    scattered = theta + (draws - target) @ back.T
    settings = Settings.of(theta)
    spread = np.array([Settings.of(t).characters for t in scattered])
    params = SeekerParams(
        source=f"{len(names)} recorded SAGE runs of {len(runs.needs)} profiles; {dialogues} surveys of train + failed",
        need=interval_of(settings.need, scattered[:, 0]),
        mood=interval_of(settings.mood, scattered[:, 1]),
        carry=interval_of(settings.carry, scattered[:, 2]),
        disposition=interval_of(settings.disposition, np.maximum(scattered[:, 3], 0)),
        characters={c: interval_of(settings.characters[i], spread[:, i]) for i, c in enumerate(CHARACTERS)},
        values=values,
        noise=NOISE,
        ladder=tuple(int(rung) for rung in rungs),
        cuts=tuple(round(float(cut), 5) for cut in rules.cuts),
        goodbyes=goodbyes,
    )
    return Calibration(
        params=params,
        moments={
            name: MomentFit(recorded=interval_of(target[i], draws[:, i]), simulated=round(float(found[i]), 4))
            for i, name in enumerate(MOMENTS)
        },
        recorded=_pooled(runs),
        simulated=figures(played.runs.changes, played.runs.finals),
        runs=tuple(_check(name, i, runs, at, settings, rules) for i, name in enumerate(names)),
        survey_dialogues=dialogues,
        survey_ridge=ridge,
    )


def _fit(
    at: World,
    rules: Rules,
    shares: Floats,
    target: Floats,
    errors: Floats,
    start: Sequence[float],
    say: Callable[[str], None],
) -> tuple[Floats, Floats, Rules, float]:
    """Levenberg and Marquardt's method on the moments, in units of their standard error, on the same chance."""
    theta, ones, damping = np.array(start), np.eye(len(PARAMETERS)), 0.1
    here, rules, _ = simulated_moments(at, theta, rules, shares)
    slopes = np.zeros((len(MOMENTS), len(PARAMETERS)))
    loss = _loss(here, target, errors)
    for step in range(STEPS):
        told = ", ".join(f"{name} {x:.2f}" for name, x in zip(PARAMETERS, theta, strict=True))
        say(f"step {step}: loss {loss:.2f} at {told}")
        nearby = [simulated_moments(at, theta + STRIDE * one, rules, shares)[0] for one in ones]
        slopes = np.stack([(moved - here) / STRIDE for moved in nearby], axis=1)
        scaled, before = slopes / errors[:, None], loss
        while damping < 1000:
            square = scaled.T @ scaled
            move = np.linalg.solve(square + damping * np.diag(np.diag(square)), scaled.T @ ((target - here) / errors))
            tried: Floats = (theta + np.clip(move, -0.6, 0.6)).astype(np.float64)
            tried[:4] = np.maximum(tried[:4], 0.0)
            after, laid, _ = simulated_moments(at, tried, rules, shares)
            if (less := _loss(after, target, errors)) < loss:
                theta, here, rules, loss, damping = tried, after, laid, less, damping / 3
                break
            damping *= 4
        if before - loss < 0.02:
            break
    return theta, slopes, rules, loss


def _loss(here: Floats, target: Floats, errors: Floats) -> float:
    return float((((target - here) / errors) ** 2).sum())


def _pooled(runs: Runs) -> dict[str, float]:
    each = [figures(changes, finals) for changes, finals in zip(runs.changes, runs.finals, strict=True)]
    return {key: float(np.mean([one[key] for one in each])) for key in each[0]}


def _check(name: str, place: int, runs: Runs, at: World, settings: Settings, rules: Rules) -> RunCheck:
    """Shift the simulated agent to the run's mean change by bisection, and look at everything else."""
    recorded = figures(runs.changes[place], runs.finals[place])
    low, high = -4.0, 4.0
    for _ in range(14):
        middle = (low + high) / 2
        mean = float(np.nanmean(play(at, settings, rules, middle).runs.changes))
        low, high = (middle, high) if mean < recorded["change"] else (low, middle)
    played = play(at, settings, rules, (low + high) / 2)
    simulated = figures(played.runs.changes, played.runs.finals)
    return RunCheck(run=name, quality=round((low + high) / 2, 3), recorded=recorded, simulated=simulated)
