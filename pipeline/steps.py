"""What a cluster's statistics recommend: which cells become steps and in which order, which become pitfalls."""

from collections.abc import Collection, Iterable, Sequence

from ..skills_bank.evidence import PRIOR, expected_outcome
from ..skills_bank.models import Prototype
from ..skills_bank.moment import ACKNOWLEDGEMENT
from ..skills_bank.taxonomy import ResponseChange, SeekerState, SupportAction, polarity
from .dossiers import SEEN_RARELY
from .prototypes import Cell

NEAR = 0.7
"""A cell whose negative rate reaches this share of its positive rate becomes a pitfall and no step."""
RISKY = 0.4
"""From this share on a step says that it needs care."""
MOST_STEPS = 7
_SAFETY, _DISCLOSURE = SupportAction.SAFETY_CHECK_AND_REFERRAL, SupportAction.SELF_DISCLOSURE
_IDEA, _PLAN = SupportAction.PRACTICAL_SUGGESTION, SupportAction.COLLABORATIVE_PLANNING
_NEEDS_GROUND = frozenset({SupportAction.COGNITIVE_REFRAMING, _IDEA, _PLAN})


def harmful(prototype: Prototype) -> bool:
    """Whether the cell went wrong about as often as well. Asking about safety is asked to know, not to soothe."""
    return prototype.action != _SAFETY and prototype.negative.rate >= NEAR * prototype.positive.rate


def risky(prototype: Prototype) -> bool:
    """Whether the cell went wrong often enough to say so."""
    return prototype.negative.rate >= RISKY * prototype.positive.rate


def weak(prototype: Prototype) -> bool:
    """Whether too little was seen of the cell to lean on it."""
    return prototype.n < SEEN_RARELY


def by_outcome(prototypes: Iterable[Prototype]) -> list[Prototype]:
    """Return prototypes best first; equal ones in the taxonomy's order."""
    states, actions = list(SeekerState), list(SupportAction)
    return sorted(prototypes, key=lambda p: (-expected_outcome(p), states.index(p.state), actions.index(p.action)))


def ordered(prototypes: Iterable[Prototype]) -> list[Prototype]:
    """Return the steps of one state in the order of a talk.

    Best supported first, with three exceptions of the field's own: a question about safety leads; a new view, an idea
    or a plan waits until a feeling was acknowledged, where that is among the steps, and a plan follows the idea it is
    made of; a word about oneself comes last, because most hosts are programs and hold it back
    (`skills_bank/advice.py`).
    """
    ranked = by_outcome(prototypes)
    lead = [p for p in ranked if p.action == _SAFETY]
    last = [p for p in ranked if p.action == _DISCLOSURE]
    middle = [p for p in ranked if p.action not in (_SAFETY, _DISCLOSURE)]
    ground = next((i for i, p in enumerate(middle) if p.action in ACKNOWLEDGEMENT), None)
    if ground is not None:
        early, rest = middle[: ground + 1], middle[ground + 1 :]
        waiting = [p for p in early if p.action in _NEEDS_GROUND]
        middle = [p for p in early if p.action not in _NEEDS_GROUND] + by_outcome(waiting + rest)
    return lead + _plan_after_idea(middle) + last


def _plan_after_idea(ranked: list[Prototype]) -> list[Prototype]:
    actions = [p.action for p in ranked]
    if _PLAN not in actions or _IDEA not in actions or actions.index(_IDEA) < actions.index(_PLAN):
        return ranked
    plan = ranked[actions.index(_PLAN)]
    rest = [p for p in ranked if p is not plan]
    after = actions.index(_IDEA)  # the plan stood before it, so this is the place behind it
    return [*rest[:after], plan, *rest[after:]]


def steps(prototypes: Sequence[Prototype], senseless: Collection[Cell]) -> dict[SeekerState, list[Prototype]]:
    """Return the cells to recommend per state, in order; a state in which nothing can be recommended is left out.

    When nothing at all can be recommended, the best cell of all is, as the cluster has to say something.
    """
    usable = [p for p in prototypes if (p.state, p.action) not in senseless]
    fit = [p for p in usable if not harmful(p)] or by_outcome(usable)[:1]
    return {
        state: ordered(by_outcome(p for p in fit if p.state == state)[:MOST_STEPS])
        for state in dict.fromkeys(p.state for p in prototypes)
        if any(p.state == state for p in fit)
    }


def harms(prototypes: Iterable[Prototype]) -> list[tuple[Prototype, ResponseChange]]:
    """Return what went wrong, (cell, negative change), worst first: harmful cells, then by share.

    The share is drawn towards zero by `PRIOR` units, so that one bad turn out of six does not lead the list.
    """
    found = [
        (harmful(p), n / (p.n + PRIOR), p, change)
        for p in prototypes
        for change, n in p.changes.items()
        if polarity(change) == "negative"
    ]
    states, actions, changes = list(SeekerState), list(SupportAction), list(ResponseChange)
    found.sort(key=lambda x: (-x[0], -x[1], states.index(x[2].state), actions.index(x[2].action), changes.index(x[3])))
    return [(p, change) for _, _, p, change in found]
