"""The findings of a report, with the talks they cite and the commands that show those."""

from collections.abc import Iterable, Sequence
from shlex import quote

from .markup import Html, bullets, command, el, fold, table
from .models import Cite, Finding
from .whole import Whole
from .wordings import KINDS, chance, cited, counted, place, replayed

FIRST = 15
"""Findings before the fold."""


def findings(whole: Whole) -> list[Html]:
    """Return the section; empty where there is none."""
    if not whole.findings:
        return []
    replay = []
    if whole.baseline:
        intro = "Every finding cites talks of the baseline. To read one, name the run once and use the commands below."
        replay = [el("p", intro), command(f"RUN={quote(f'{whole.folder}/{whole.baseline.run}')}")]
    first, rest = whole.findings[:FIRST], whole.findings[FIRST:]
    shown = f", the first {len(first)}" if rest else ""
    parts = [*replay, _finding_table(counted(len(whole.findings), "finding") + shown, first, whole)]
    if rest:
        parts.append(fold(f"{len(rest)} more", _finding_table("The other findings", rest, whole)))
    return parts


def _finding_table(caption: str, some: Iterable[Finding], whole: Whole) -> Html:
    head = ("about", "what the talks show", "points a reply", "p", "replies", "talks to replay")
    rows = [_finding(one, whole) for one in some]
    return table(caption, head, rows, numbers=(2, 3, 4), cards=True, class_="findings")


def _finding(finding: Finding, whole: Whole) -> tuple[str | Html, ...]:
    about = [
        el("span", KINDS[finding.kind], class_=f"kind {finding.kind}"),
        el("span", finding.skill or "a missing skill", class_="skill"),
        el("span", place(finding.context), class_="where"),
    ]
    return (
        el("div", about, class_="about"),
        whole.masks.quotes(finding.what),
        "\u2013" if finding.effect is None else f"{finding.effect:+.2f}",
        "\u2013" if finding.p is None else chance(finding.p),
        f"{finding.turns:,}",
        _cites(finding.cites),
    )


def _cites(cites: Sequence[Cite]) -> Html:
    def shown(some: Iterable[Cite]) -> Html:
        return bullets(([cited(one), el("br"), el("code", replayed(one, '"$RUN"'))] for one in some), class_="cites")

    first, rest = cites[:1], cites[1:]
    more = fold(f"and {counted(len(rest), 'other talk')}", shown(rest)) if rest else None
    return el("div", shown(first), more)
