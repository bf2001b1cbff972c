"""What followed the replies of each skill in each scenario: means with their counts, as a table of coloured cells.

A table and not a drawing: its headings are read out, it scrolls under its row names, and its text keeps its size.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from ..simulator.session import Transcript
from ..skills_bank.taxonomy import SCENARIO_INFO, Scenario
from .markup import Html, el, scroll

STEPS = (0.5, 1.0, 2.0, 3.5)
"""Means from which a colour gets deeper, in points a reply."""
LEAST = 8
"""Replies below which a cell is shown pale: its mean says little."""
NO_SKILL = "no skill followed"


class Cell(NamedTuple):
    """Replies of a skill in a scenario."""

    replies: int
    total: int
    """Sum of the changes that followed them."""

    @property
    def mean(self) -> float:
        """Mean change a reply."""
        return self.total / self.replies

    def plus(self, other: "Cell") -> "Cell":
        """Add."""
        return Cell(self.replies + other.replies, self.total + other.total)


Heat = dict[tuple[str, Scenario | None], Cell]


def heat_of(talks: Iterable[Transcript]) -> Heat:
    """Count the scored replies of each skill in each scenario."""
    cells: Heat = defaultdict(lambda: Cell(0, 0))
    for talk in talks:
        for turn in talk.turns:
            if turn.change is not None:
                place = turn.followed or NO_SKILL, talk.scenario
                cells[place] = cells[place].plus(Cell(1, turn.change))
    return dict(cells)


def heatmap(cells: Heat) -> Html:
    """Return the table: skills by how much they were followed, scenarios in the taxonomy's order, sums at the ends."""
    columns = [scenario for scenario in (*Scenario, None) if any(place[1] == scenario for place in cells)]
    sums: dict[str, Cell] = defaultdict(lambda: Cell(0, 0))
    for (skill, _), cell in cells.items():
        sums[skill] = sums[skill].plus(cell)
    names = sorted(sums, key=lambda skill: (skill == NO_SKILL, -sums[skill].replies, skill))
    head = el(
        "tr",
        el("th", "skill", scope="col"),
        el("th", el("span", "all"), scope="col", class_="tilt"),
        [el("th", el("span", _scenario(one)), scope="col", class_="tilt") for one in columns],
    )
    rows = [
        el("tr", el("th", name, scope="row"), _cell(sums[name]), [_cell(cells.get((name, one))) for one in columns])
        for name in names
    ]
    whole = _sum(sums.values())
    foot = [_cell(_sum(cell for place, cell in cells.items() if place[1] == one)) for one in columns]
    caption = "Mean change of emotion after a reply by a skill, by scenario; below it the number of replies"
    return scroll(
        caption,
        el(
            "table",
            el("caption", el("span", caption)),
            el("thead", head),
            el("tbody", rows),
            el("tfoot", el("tr", el("th", "all", scope="row"), _cell(whole), foot)),
            class_="heat",
        ),
    )


def legend() -> Html:
    """Return what the colours mean."""
    ends = [0.0, *STEPS]
    names = [f"under {-ends[4]:g}", *(f"{-ends[i + 1]:g} to {-ends[i]:g}" for i in (3, 2, 1))]
    names += [f"within {STEPS[0]:g}", *(f"{ends[i]:+g} to {ends[i + 1]:+g}" for i in (1, 2, 3)), f"over {ends[4]:+g}"]
    classes = ("n4", "n3", "n2", "n1", "z", "p1", "p2", "p3", "p4")
    chips = [el("li", el("span", name, class_=f"chip {shade}")) for name, shade in zip(names, classes, strict=True)]
    chips.append(el("li", el("span", f"pale: fewer than {LEAST} replies", class_="chip p3 few")))
    return el("ul", chips, class_="legend", aria_label="Colours: points a reply")


def _cell(cell: Cell | None) -> Html:
    if cell is None or not cell.replies:
        return el("td", el("span", "none", class_="unseen"), class_="empty")
    few = " few" if cell.replies < LEAST else ""
    return el("td", el("b", f"{cell.mean:+.1f}"), el("small", f"{cell.replies:,}"), class_=_shade(cell.mean) + few)


def _shade(mean: float) -> str:
    depth = sum(abs(mean) >= step for step in STEPS)
    return "z" if not depth else f"{'p' if mean > 0 else 'n'}{depth}"


def _sum(cells: Iterable[Cell]) -> Cell:
    whole = Cell(0, 0)
    for cell in cells:
        whole = whole.plus(cell)
    return whole


def _scenario(scenario: Scenario | None) -> str:
    return SCENARIO_INFO[scenario].name if scenario is not None else "not given"
