"""`docs/annotators.md`, and what the local annotator says of itself, from measured figures."""

from datetime import date
from importlib.resources import files
from string import Template

from .agreement import Agreement
from .annotator_eval import AnnotatorReport, LocalFigures, PipelineFigures

# From reference/esc.md: a second, independent pass over 64 dialogues with the same guidelines.
TWO_ANNOTATORS: dict[str, tuple[str, str, str]] = {
    "state": ("Seeker state", "0.89", "0.87"),
    "first_action": ("First action", "0.86", "0.84"),
    "change": ("Response change", "0.81", "0.76"),
    "polarity": ("Polarity of the change", "0.88", "0.77"),
    "scenario": ("Primary scenario", "0.91", "–"),
}
"""Kind → its name, and accuracy and kappa of two annotators."""


def about(report: AnnotatorReport) -> str:
    """Return the lines the annotator puts into the report of a build."""
    v = report.valid
    return (
        f"Labelled by {report.annotator}, which calls no model. On {v.dialogues} dialogues it has not seen it agrees "
        f"with our own labels on {v.state.accuracy:.0%} of the seeker states (two annotators: 89%), "
        f"{v.first_action.accuracy:.0%} of the first actions (86%; any action in common {v.actions.shared:.0%}, 96%), "
        f"{v.change.accuracy:.0%} of the response changes (81%), {v.polarity.accuracy:.0%} of their polarities (88%; "
        f"F1 of negative changes {v.negative_f1:.2f}) and {v.scenario.accuracy:.0%} of the primary scenarios (91%). "
        "English talks of the kind of ESConv; elsewhere expect less."
    )


def render(report: AnnotatorReport, day: date) -> str:
    """Return the page."""
    template = files("esc_skills.pipeline").joinpath("annotators.template.md").read_text(encoding="utf-8")
    v = report.valid
    if v.ratings is None:
        raise ValueError("valid holds no ratings that go up and down; is it ESConv's own?")
    r = v.ratings
    return Template(template).substitute(
        day=day.isoformat(),
        annotator=report.annotator,
        dialogues=v.dialogues,
        agreement=_agreement(v),
        agreement_failed=_agreement(report.failed),
        shared=f"{v.actions.shared:.3f}",
        action_macro=f"{v.actions.macro_f1:.3f}",
        action_micro=f"{v.actions.micro_f1:.3f}",
        scenario_micro=f"{v.scenarios.micro_f1:.3f}",
        polarity_macro=f"{v.polarity.macro_f1:.3f}",
        polarity_verdict=_verdict(v.polarity.macro_f1, 0.72),
        negative=f"{v.negative_f1:.3f}",
        negative_verdict=_verdict(v.negative_f1, 0.35),
        flags="\n".join(
            f"| `{flag}` | {f.gold} | {f.found} | {f.both} | {report.failed.flags[flag].gold} "
            f"| {report.failed.flags[flag].found} | {report.failed.flags[flag].both} |"
            for flag, f in v.flags.items()
        ),
        auc=f"{r.auc:.3f}",
        auc_interval=f"{r.low:.2f} to {r.high:.2f}",
        auc_labels=f"{r.auc_of_labels:.3f}",
        up=r.up,
        down=r.down,
        pipeline="\n".join(map(_pipeline, report.pipeline)),
    )


def _verdict(value: float, published: float) -> str:
    return f"above the published {published}" if value > published else f"short of the published {published}"


def _agreement(figures: LocalFigures) -> str:
    lines: list[str] = []
    for kind, (name, accuracy, kappa) in TWO_ANNOTATORS.items():
        found: Agreement = getattr(figures, kind)
        lines.append(
            f"| {name} | {found.n:,} | {found.accuracy:.3f} | {accuracy} | {found.kappa:.3f} | {kappa} "
            f"| {found.macro_f1:.3f} |"
        )
    return "\n".join(lines)


def _pipeline(p: PipelineFigures) -> str:
    return (
        f"| {p.name} | {p.units[0]:,} / {p.units[1]:,} | {p.prototypes[0]} / {p.prototypes[1]} | {p.shared} "
        f"({p.shared / p.prototypes[0]:.0%} of the first) | {p.outcome:.2f} | {p.lift_positive:.2f} "
        f"| {p.lift_negative:.2f} |"
    )
