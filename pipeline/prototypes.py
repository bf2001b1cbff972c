"""Units → prototypes: the (state, action) cells with at least five key units, and how the seeker moved after them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from ..skills_bank.models import InterventionUnit, Proportion, Prototype
from ..skills_bank.taxonomy import SeekerState, SupportAction

MIN_KEY = 5
"""Groups with fewer key units are dropped (Zhu et al. 2026)."""
Cell = tuple[SeekerState, SupportAction]


class BaseRate(BaseModel):
    """What followed any support action in one state: the rate a prototype's lift is measured against."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: SeekerState
    n: int
    positive: Proportion
    negative: Proportion


def base_rates(units: Iterable[InterventionUnit]) -> dict[SeekerState, BaseRate]:
    """Return the positive and negative rate over all units of each state, kept and dropped cells alike."""
    tallies: dict[SeekerState, Counter[str]] = defaultdict(Counter)
    for unit in units:
        tallies[unit.state][unit.polarity] += 1
    return {
        state: BaseRate(
            state=state,
            n=tally.total(),
            positive=Proportion.wilson(tally["positive"], tally.total()),
            negative=Proportion.wilson(tally["negative"], tally.total()),
        )
        for state, tally in sorted(tallies.items(), key=lambda item: list(SeekerState).index(item[0]))
    }


def by_cell(units: Iterable[InterventionUnit]) -> dict[Cell, list[InterventionUnit]]:
    """Group units by (state, action), in the taxonomy's order."""
    groups: dict[Cell, list[InterventionUnit]] = defaultdict(list)
    for unit in units:
        groups[unit.state, unit.action].append(unit)
    return {(s, a): groups[s, a] for s in SeekerState for a in SupportAction if (s, a) in groups}


def prototype(cell: Cell, units: list[InterventionUnit], base: BaseRate) -> Prototype:
    """Return the statistics of one cell; rates count over all its units, the neutral ones included."""
    polarities = Counter(unit.polarity for unit in units)
    n = len(units)
    return Prototype(
        state=cell[0],
        action=cell[1],
        n=n,
        n_key=sum(unit.key for unit in units),
        positive=Proportion.wilson(polarities["positive"], n),
        negative=Proportion.wilson(polarities["negative"], n),
        lift_positive=round(polarities["positive"] / n - base.positive.k / base.positive.n, 4),
        lift_negative=round(polarities["negative"] / n - base.negative.k / base.negative.n, 4),
        failed_share=round(sum(unit.source == "FailedESConv" for unit in units) / n, 4),
        changes=dict(Counter(unit.change for unit in units).most_common()),
        scenarios=dict(Counter(unit.scenario for unit in units).most_common()),
    )


def prototypes(units: Iterable[InterventionUnit], min_key: int = MIN_KEY) -> list[Prototype]:
    """Return one prototype per (state, action) cell with at least `min_key` key units, in the taxonomy's order."""
    units = list(units)
    bases = base_rates(units)
    return [
        prototype(cell, group, bases[cell[0]])
        for cell, group in by_cell(units).items()
        if sum(unit.key for unit in group) >= min_key
    ]


def index(found: Iterable[Prototype]) -> Mapping[Cell, Prototype]:
    """Return prototypes by their (state, action)."""
    return {(p.state, p.action): p for p in found}
