"""`docs/simulator.md` from the fitted parameters, the calibration and the measured validity."""

from datetime import date
from importlib.resources import files
from string import Template

from ..skills_bank.taxonomy import CHANGE_INFO
from .calibrate import Fit, RunCheck
from .emotion import EmotionState
from .judgement import Interval, SeekerParams
from .recorded import MOMENT_NAMES
from .response import ResponseModel
from .validity import Figure, Group, Row, Validity, Words


def render(params: SeekerParams, fit: Fit, found: Validity, day: date, model: ResponseModel | None = None) -> str:
    """Return the page; `model` is the shipped one unless given."""
    model = model or ResponseModel.load()
    template = files("esc_skills.simulator").joinpath("data/simulator.template.md").read_text(encoding="utf-8")
    by = {row.scorer: row for row in found.rows}
    order = [g.name for g in sorted(found.groups, key=lambda g: -g.final)]
    real = [g.name for g in sorted(found.groups, key=lambda g: -(g.real_points.value if g.real_points else 0.0))]
    told = [g for g in found.groups if g.share_and_drop]
    share = [g.name for g in sorted(told, key=lambda g: -g.share_and_drop.value if g.share_and_drop else 0.0)]
    ranked = sorted(found.words, key=lambda w: -w.final)
    return Template(template).substitute(
        day=day.isoformat(),
        encoder=found.encoder,
        units=f"{model.units:,}",
        change_strength=f"{model.change_strength:g}",
        next_strength=f"{model.next_strength:g}",
        wear=f"{model.wear:+.2f}",
        wear_error=f"{model.wear_error:.2f}",
        runs=len(fit.runs),
        parameters="\n".join(_parameters(params)),
        moments="\n".join(
            f"| {MOMENT_NAMES[name]} | {m.recorded.value:.2f} | {_between(m.recorded)} | {m.simulated:.2f} |"
            for name, m in fit.moments.items()
        ),
        noise=f"{params.noise:g}",
        empty=f"{params.empty:+g}",
        repeated=f"{params.repeated:+g}",
        off_topic=f"{params.off_topic:+g}",
        zero=f"{fit.recorded['zero']:.2%} recorded, {fit.simulated['zero']:.2%} simulated",
        goodbye_s=f"{params.goodbyes[EmotionState.S]:.0%}",
        goodbye_f=f"{params.goodbyes[EmotionState.F]:.0%}",
        surveys=fit.survey_dialogues,
        ridge=f"{fit.survey_ridge:g}",
        values="\n".join(
            f"| {CHANGE_INFO[change].name} | {value.value:+.2f} | {_between(value)} |"
            for change, value in params.values.items()
        ),
        checks="\n".join(map(_check, fit.runs)),
        surveyed=found.surveys,
        ups=found.ups,
        downs=found.downs,
        successes=found.successes,
        failures=found.failures,
        rows="\n".join(map(_row, found.rows)),
        cv_train=found.cross_validated_dialogues[0],
        cv_failed=found.cross_validated_dialogues[1],
        cv=_figure(found.cross_validated),
        reading=_reading(by),
        turns=f"{found.context['turns']:.0f}",
        short=f"{found.context['short']:.3f}",
        whole=f"{found.context['whole']:.3f}",
        off=f"{found.context['off_topic']:.1%}",
        off_swapped=f"{found.context['off_topic_swapped']:.1%}",
        all_surveyed=f"{found.all_surveys:,}",
        groups="\n".join(map(_group, found.groups)),
        order=", ".join(order),
        real_order=", ".join(real),
        share_order=", ".join(share),
        order_verdict=(
            "They are the same; the intervals of the real points overlap, so the real data alone would not prove it."
            if order == real
            else "They differ."
        ),
        words_order=", ".join(w.agent for w in ranked) or "not run",
        words_verdict=_words_verdict(ranked, order),
        words="\n".join(map(_words, found.words)) or "| not run | | | | | | | |",
    )


def _parameters(params: SeekerParams) -> list[str]:
    named = {"need": params.need, "mood": params.mood, "carry": params.carry, "disposition": params.disposition}
    named |= {f"character: {character}": value for character, value in params.characters.items()}
    return [f"| {name} | {value.value:+.2f} | {_between(value)} |" for name, value in named.items()]


def _between(value: Interval | Figure) -> str:
    return f"{value.low:+.2f} to {value.high:+.2f}"


def _figure(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.value:.3f} ({figure.low:.2f} to {figure.high:.2f})"


def _row(row: Row) -> str:
    return f"| {row.scorer} | {_figure(row.survey)} | {_figure(row.ratings)} | {_figure(row.failed)} |"


def _check(check: RunCheck) -> str:
    def both(key: str, form: str) -> str:
        return f"{check.recorded[key]:{form}} / {check.simulated[key]:{form}}"

    cells = [both("change", "+.2f"), both("negative", ".0%"), both("zero", ".1%"), both("spread", ".1f")]
    cells += [both("final", ".1f"), both("final_sd", ".1f"), both("success", ".0%"), both("failure", ".0%")]
    return f"| {check.run} | {check.quality:+.2f} | {' | '.join(cells)} |"


def _group(group: Group) -> str:
    points = "–" if group.real_points is None else f"{group.real_points.value:+.2f} ({_between(group.real_points)})"
    return (
        f"| {group.name} | {group.change:+.2f} | {group.final:.1f} | {group.success:.0%} | {group.failure:.0%} "
        f"| {group.real_turns} | {points} | {_figure(group.share_and_drop)} |"
    )


def _words(words: Words) -> str:
    return (
        f"| {words.agent} | {words.talks} | {words.change:+.2f} | {words.final:.1f} | {words.error:.1f} "
        f"| {words.understood:.0%} | {words.success / words.talks:.0%} | {words.failure / words.talks:.0%} |"
    )


_SAME = {"only advises": "only-advice", "only asks": "only-questions", "only reassures": "only-reassurance"}
"""A known group by labels -> the agent that speaks for it."""


def _words_verdict(ranked: list[Words], order: list[str]) -> str:
    if not ranked:
        return ""
    by_label = [_SAME[name] for name in order if name in _SAME]
    by_words = [words.agent for words in ranked if words.agent in by_label]
    if by_words == by_label:
        return "The three known groups stand in the order they have as labels."
    return (
        "The three known groups stand in another order than as labels. Their errors allow for either order; what "
        "is heard in composed lines is also often not what was meant, so wording moves these figures too."
    )


def _reading(by: dict[str, Row]) -> str:
    """Say in words what the table shows, from its own figures."""
    reply, answer = by["reply, our labels"], by["answer, our labels"]
    end = by["sentiment of the last third"]
    told: list[str] = []
    for name, row in (("what the reply does", reply), ("how the seeker answered", answer)):
        survey = "tells something of" if row.survey.low > 0 else "does not reliably tell"
        ratings = "tells" if row.ratings and row.ratings.low > 0.5 else "does not reliably tell"
        failed = "separates" if row.failed.low > 0.5 else "does not separate"
        told.append(f"{name} {survey} the drop, {ratings} rising from falling ratings and {failed} the corpora")
    beaten = [n for n, a, b in _against(answer, end) if a < b]
    baseline = f" The lexicon of our own beats the latter on {' and '.join(beaten)}." if beaten else ""
    return f"{told[0]};\n{told[1]}.{baseline}"


def _against(row: Row, other: Row) -> list[tuple[str, float, float]]:
    return [("surveys", row.survey.value, other.survey.value), ("the corpora", row.failed.value, other.failed.value)]
