"""The scores of a report: the curve over the accepted candidates, and all candidates over their noise floors."""

from .charts import Step, curve
from .markup import Html, el, table
from .models import Effect, Verdict
from .report_candidates import forest
from .whole import Whole
from .wordings import change


def scores(whole: Whole) -> list[Html | None]:
    """Return the section; empty where nothing was simulated."""
    steps = _steps(whole)
    if not steps:
        return []
    told = "; ".join(f"{s.name} {s.new:.1f}" + (f" (parent {s.old:.1f})" if s.old is not None else "") for s in steps)
    rows = [
        (
            s.label,
            s.name,
            "\u2013" if s.old is None else f"{s.old:.1f}",
            f"{s.new:.1f}",
            f"{s.low:.1f} to {s.high:.1f}",
        )
        for s in steps
    ]
    drawn = forest(whole)
    return [
        el(
            "figure",
            el("figcaption", "Mean emotion at the end of a talk, by SAGE's scale and states"),
            curve(steps, told),
            el(
                "ul",
                el("li", "new text", class_="key new"),
                el("li", "parent, same talks", class_="key old"),
                class_="keys",
            ),
        ),
        el(
            "p",
            "Each step has profiles of its own: compare the two marks of a step, not one step with the next. Whiskers: "
            "the interval of the difference, set on the parent's mean; of the baseline, that of its mean.",
        ),
        table("The steps", ("step", "", "parent", "new", "interval"), rows, numbers=(2, 3, 4)),
        el("h3", "Differences of the candidates"),
        _floor(whole),
        drawn if drawn is not None else el("p", "No candidate was simulated."),
    ]


def _floor(whole: Whole) -> Html:
    band = "The grey band is the noise floor: the parent's text against itself on other seeds (A/A)."
    if whole.floor is None:
        return el("p", band)
    return el("p", f"{band} Over the verify part: {change(whole.floor)} over {whole.floor.talks} talks.")


def _steps(whole: Whole) -> list[Step]:
    steps = []
    if whole.baseline:
        mean = whole.baseline.figures.mean
        steps.append(Step("start", "baseline, all profiles but the sealed ones", None, mean.value, mean.low, mean.high))
    accepted = [a for a in whole.all_attempts if a.verdict and a.verdict.ruling == "accept" and a.verdict.effect]
    for number, attempt in enumerate(accepted, start=1):
        steps += _step(str(number), attempt.id, attempt.verdict)
    if whole.joint and whole.joint.rounds:
        last = whole.joint.rounds[-1]
        steps += _step("joint", f"all kept ones together ({len(last.candidates)})", last.verdict)
    if whole.sealed and whole.sealed.effect:
        steps.append(_effect_step("sealed", "result on the sealed part", whole.sealed.effect))
    return steps


def _step(label: str, name: str, verdict: Verdict | None) -> list[Step]:
    return [_effect_step(label, name, verdict.effect)] if verdict and verdict.effect else []


def _effect_step(label: str, name: str, effect: Effect) -> Step:
    low, high = effect.old + effect.difference.low, effect.old + effect.difference.high
    return Step(label, name, effect.old, effect.new, low, high)
