"""Labels → intervention units: one per action of every supporter turn that stands between two seeker turns."""

from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import pairwise

from ..skills_bank.models import InterventionUnit
from .labels import BUILD_SPLITS, DialogueLabels, load_labels


def units(
    labels: Iterable[DialogueLabels] | None = None, splits: Collection[str] = BUILD_SPLITS
) -> list[InterventionUnit]:
    """Return the intervention units of `labels` (default: the shipped ones) in the chosen splits, in corpus order.

    A supporter turn with no seeker turn before or after it, or with no labelled change, yields none (Zhu et al. 2026
    define the change by the two seeker turns around it).
    """
    if labels is None:
        return list(_shipped(tuple(splits)))
    return [unit for dialogue in labels if dialogue.split in splits for unit in units_of(dialogue)]


@lru_cache(maxsize=4)
def _shipped(splits: tuple[str, ...]) -> tuple[InterventionUnit, ...]:
    return tuple(units(load_labels(), splits))


def clear_units() -> None:
    """Forget the units of the shipped labels; call it after the labels file was written anew."""
    _shipped.cache_clear()


def units_of(dialogue: DialogueLabels) -> list[InterventionUnit]:
    """Return the units of one dialogue."""
    found: list[InterventionUnit] = []
    for (before, turn), (_, after) in pairwise(pairwise(dialogue.turns)):
        if turn.change is None or before.state is None or after.state is None:
            continue
        found += [
            InterventionUnit(
                dialogue=dialogue.id,
                turn=turn.turn,
                source=dialogue.source,
                split=dialogue.split,
                scenario=dialogue.scenarios[0],
                state=before.state,
                action=action,
                position=position,
                change=turn.change,
                state_after=after.state,
            )
            for position, action in enumerate(turn.actions)
        ]
    return found
