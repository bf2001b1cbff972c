"""What stands behind a skill in numbers: from prototypes to `Evidence`, and from `Evidence` to its SKILL.md section."""

from collections.abc import Iterable, Sequence

from .errors import InputError
from .models import Evidence, Proportion, Prototype
from .taxonomy import ACTION_INFO, STATE_INFO, SeekerState

PRIOR = 10.0
"""Units' worth of the state's base rate behind every cell: strength of the prior in `expected_outcome`."""
_SHOWN = 3


def expected_outcome(prototype: Prototype, prior: float = PRIOR) -> float:
    """Return the posterior mean of (positive share - negative share) after this action in this state.

    The shares (positive, negative, neutral) have a Dirichlet prior whose mean is the state's base rate and whose
    strength is `prior` units, so that a cell of six units is drawn towards its state (Gelman et al., BDA3, ch. 5).
    """
    base = (prototype.positive.rate - prototype.lift_positive) - (prototype.negative.rate - prototype.lift_negative)
    return (prototype.positive.k - prototype.negative.k + prior * base) / (prototype.n + prior)


def evidence_from(skill: str, prototypes: Iterable[Prototype], source: str) -> Evidence:
    """Sum the prototypes behind a skill into one `Evidence`.

    Each prototype counts by its number of units; the lift is the units' mean lift over the base rate of their state.

    Raises:
        InputError: No prototype is given.
    """
    found = tuple(prototypes)
    if not found:
        raise InputError(f"Skill {skill!r} has no prototypes, so it has no evidence. Name its states and actions.")
    n = sum(p.n for p in found)

    def mean(values: Sequence[float]) -> float:
        return round(sum(p.n * value for p, value in zip(found, values, strict=True)) / n, 4)

    return Evidence(
        skill=skill,
        source=source,
        n=n,
        n_key=sum(p.n_key for p in found),
        positive=Proportion.wilson(sum(p.positive.k for p in found), n),
        negative=Proportion.wilson(sum(p.negative.k for p in found), n),
        lift_positive=mean([p.lift_positive for p in found]),
        lift_negative=mean([p.lift_negative for p in found]),
        failed_share=mean([p.failed_share for p in found]),
        prototypes=found,
    )


def _percent(share: Proportion) -> str:
    return f"{share.rate:.0%} ({share.low:.0%} to {share.high:.0%})"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _row(prototype: Prototype) -> str:
    return (
        f"| {STATE_INFO[prototype.state].name} | {ACTION_INFO[prototype.action].name} | {prototype.n} "
        f"| {_percent(prototype.positive)} | {_percent(prototype.negative)} | {_points(prototype.lift_positive)} "
        f"| {_points(prototype.lift_negative)} |"
    )


def _extremes(prototypes: Sequence[Prototype]) -> list[Prototype]:
    """Return the strongest and the weakest cells of one state by expected outcome, best first, each once."""
    ranked = sorted(prototypes, key=expected_outcome, reverse=True)
    return ranked if len(ranked) <= 2 * _SHOWN else ranked[:_SHOWN] + ranked[-_SHOWN:]


def render_evidence(evidence: Evidence) -> str:
    """Return the Evidence section of a SKILL.md as markdown, without its heading."""
    states = [state for state in SeekerState if any(p.state == state for p in evidence.prototypes)]
    lines = [
        f"Counted from {evidence.source}: {evidence.n} units of this situation, {evidence.n_key} of them with a clear "
        f"change in the seeker. An association seen in labelled dialogues, not proof of effect.",
        "",
        f"- Positive change: {_percent(evidence.positive)}, {_points(evidence.lift_positive)} points against what "
        "follows any action in the same states.",
        f"- Negative change: {_percent(evidence.negative)}, {_points(evidence.lift_negative)} points.",
        f"- From FailedESConv: {evidence.failed_share:.0%} of the units.",
        "",
        "Strongest and weakest actions per state, best first (shares of units with 95% Wilson interval; lift in points "
        "over the state's base rate):",
        "",
        "| State | Action | n | Positive | Negative | Lift positive | Lift negative |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for state in states:
        lines += [_row(p) for p in _extremes([p for p in evidence.prototypes if p.state == state])]
    lines += ["", "Every cell: [references/evidence.json](references/evidence.json)."]
    return "\n".join(lines)
