"""How often human supporters took each action in each state: counts on the labels of train + failed.

`data/human_actions.json` holds them, so that a simulation needs no Parquet file. It is written anew by

    python -m esc_skills.simulator.human_actions
"""

import json
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.taxonomy import SeekerState, SupportAction

if TYPE_CHECKING:
    from ..pipeline.labels import DialogueLabels

FILE = "data/human_actions.json"


class HumanActions(BaseModel):
    """`human_actions.json`: counts by state and action."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    source: str = "ESConv train + FailedESConv"
    turns: int = Field(description="Supporter turns right after a seeker turn.")
    counts: dict[SeekerState, dict[SupportAction, float]] = Field(
        description="A turn with several actions counts as much as one with one: each gets its share."
    )

    def shares(self, state: SeekerState) -> dict[SupportAction, float]:
        """Return the share of each action in a state; all states together where the state was never seen."""
        row = self.counts.get(state) or self.overall()
        total = sum(row.values())
        return {action: count / total for action, count in row.items()}

    def overall(self) -> dict[SupportAction, float]:
        """Return the counts over all states."""
        total: Counter[SupportAction] = Counter()
        for row in self.counts.values():
            total.update(row)
        return {action: total[action] for action in SupportAction if total[action]}


def count_actions(labels: "Iterable[DialogueLabels] | None" = None) -> HumanActions:
    """Count the actions of supporter turns by the state of the seeker turn before; default: train + failed."""
    from ..pipeline.labels import BUILD_SPLITS, load_labels

    found: dict[SeekerState, Counter[SupportAction]] = {state: Counter() for state in SeekerState}
    turns = 0
    for dialogue in load_labels() if labels is None else labels:
        if labels is None and dialogue.split not in BUILD_SPLITS:
            continue
        for before, turn in pairwise(dialogue.turns):
            if before.state is None or not turn.actions:
                continue
            turns += 1
            for action in turn.actions:
                found[before.state][action] += 1 / len(turn.actions)  # pyright: ignore[reportArgumentType]
    counts: dict[SeekerState, dict[SupportAction, float]] = {
        state: {action: round(row[action], 3) for action in SupportAction if row[action]}
        for state, row in found.items()
        if row
    }
    return HumanActions(turns=turns, counts=counts)


@lru_cache(maxsize=1)
def load_human_actions() -> HumanActions:
    """Return the shipped counts."""
    return HumanActions.model_validate_json(files("esc_skills.simulator").joinpath(FILE).read_text(encoding="utf-8"))


def main() -> None:
    """Write the shipped counts anew."""
    from .profiles import write_text

    path = Path(str(files("esc_skills.simulator").joinpath(FILE)))
    write_text(path, json.dumps(count_actions().model_dump(mode="json"), indent=1) + "\n")


if __name__ == "__main__":
    main()
