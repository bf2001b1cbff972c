"""How well support actions serve hidden needs: the table of `data/service.yaml`, read, checked and centred.

The table says for whom an action is right, the labels how good it is in general. So that the judgement of the one does
not creep into the other, each action's mean over the needs is taken off.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..skills_bank.errors import InputError
from ..skills_bank.taxonomy import SupportAction
from .needs import HiddenNeed

NEEDS, ACTIONS = list(HiddenNeed), list(SupportAction)


class Judged(BaseModel):
    """Some actions that serve a need equally well, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(ge=-1, le=1)
    actions: tuple[SupportAction, ...] = Field(min_length=1)
    why: str = Field(min_length=1)


Table = dict[HiddenNeed, tuple[Judged, ...]]


def parse_service(text: str) -> Table:
    """Read the table.

    Raises:
        InputError: It is no such table, or leaves an action out, or names one twice; the need is named.
    """
    try:
        table = TypeAdapter(Table).validate_python(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise InputError(f"The table of needs and actions cannot be read: {error}") from None
    for need in NEEDS:
        named = [action for group in table.get(need, ()) for action in group.actions]
        if sorted(named) != sorted(ACTIONS):
            missing = sorted(set(ACTIONS) - set(named)) or sorted({a for a in named if named.count(a) > 1})
            raise InputError(f"Need {need} must judge each action once; look at {', '.join(missing)}.")
    return table


@lru_cache(maxsize=1)
def service_table() -> NDArray[np.float64]:
    """Return the shipped table, shape (8, 17), in the order of the enums, each action's values adding up to 0."""
    text = files("esc_skills.simulator").joinpath("data/service.yaml").read_text(encoding="utf-8")
    values = np.zeros((len(NEEDS), len(ACTIONS)))
    for need, groups in parse_service(text).items():
        for group in groups:
            for action in group.actions:
                values[NEEDS.index(need), ACTIONS.index(action)] = group.value
    values -= values.mean(axis=0)
    values.flags.writeable = False
    return values


def service(need: HiddenNeed, heard: Mapping[SupportAction, float]) -> float:
    """Return how well a reply serves a need beside the other needs: the mean over what is heard in it, by weight."""
    if not heard:
        return 0.0
    row = service_table()[NEEDS.index(need)]
    total = sum(row[ACTIONS.index(action)] * weight for action, weight in heard.items())
    return float(total / sum(heard.values()))
