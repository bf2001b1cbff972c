"""`docs/selection.md`: the figures of selection as a page."""

from collections.abc import Mapping
from datetime import date
from importlib.resources import files

from ..skills_bank.bank import Bank
from ..skills_bank.ranking import Weights
from .lift import RESAMPLES, Lift
from .select_eval import View

_OUTCOMES = {
    "positive": "positive change",
    "negative": "negative change",
    "positive_other": "positive change other than `more_specific_expression`",
}


def render(
    views: tuple[View, View],
    abstained: Mapping[str, float],
    bank: Bank,
    encoder_version: str,
    weights: Weights,
    today: date,
) -> str:
    """Return the page; the prose around the tables stands in `selection.template.md`."""
    template = files("esc_skills.pipeline").joinpath("selection.template.md").read_text(encoding="utf-8")
    filled = {
        "date": today.isoformat(),
        "bank": f"{bank.version} ({len(bank.skills)} skills)",
        "encoder": encoder_version,
        "turns": str(views[0].turns),
        "units": str(views[0].units),
        "resamples": f"{RESAMPLES:,}",
        "hits": _hits(views),
        "lifts": "\n\n".join(_lifts(view) for view in views),
        "off_topic": f"{abstained['off topic']:.0%}",
        "on_topic": f"{abstained['seeker turns']:.1%}",
        "weights": ", ".join(f"{name} {value}" for name, value in weights.model_dump().items() if name != "format"),
    }
    for name, value in filled.items():
        template = template.replace("{{" + name + "}}", value)
    return template


def _hits(views: tuple[View, View]) -> str:
    rows = [
        "| ranking | gold hit@1 | gold hit@3 | predicted hit@1 | predicted hit@3 |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for gold, predicted in zip(views[0].hits, views[1].hits, strict=True):
        figures = [gold.at[1], gold.at[3], predicted.at[1], predicted.at[3]]
        rows.append(f"| {gold.name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
    return "\n".join(rows)


def _lifts(view: View) -> str:
    rows = [
        f"**{view.reading.capitalize()} states**",
        "",
        "| | select_skill | best action per state (rival) | difference |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, label in _OUTCOMES.items():
        ours, rival = _figure(view.ours, name), _figure(view.rival, name)
        rows.append(f"| {label} | {ours} | {rival} | {view.difference[name]} |")
    rows.append(f"| turns that did it | {view.ours.followed:.1%} | {view.rival.followed:.1%} | |")
    return "\n".join(rows)


def _figure(lift: Lift, name: str) -> str:
    return str(getattr(lift, name))
