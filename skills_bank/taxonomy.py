"""The closed sets of the field, loaded once from `taxonomy.yaml`.

`Scenario`, `SeekerState`, `SupportAction` and `ResponseChange` are string enums whose values are the taxonomy ids;
the `*_INFO` mappings carry names, definitions and polarity. Counts (18, 15, 17, 14) follow Zhu et al. 2026.
"""

from enum import StrEnum
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field


def _load() -> dict[str, Any]:
    text = files("esc_skills.skills_bank").joinpath("taxonomy.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


_RAW = _load()


def _ids(section: str) -> list[tuple[str, str]]:
    return [(entry["id"].upper(), entry["id"]) for entry in _RAW[section]]


Scenario = StrEnum("Scenario", _ids("scenarios"))  # pyright: ignore[reportArgumentType]
SeekerState = StrEnum("SeekerState", _ids("seeker_states"))  # pyright: ignore[reportArgumentType]
SupportAction = StrEnum("SupportAction", _ids("support_actions"))  # pyright: ignore[reportArgumentType]
ResponseChange = StrEnum("ResponseChange", _ids("response_changes"))  # pyright: ignore[reportArgumentType]

Polarity = Literal["positive", "negative", "neutral"]
HillStage = Literal["exploration", "insight", "action", "any"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: str
    definition: str
    example: str


class ScenarioInfo(_Entry):
    """One of the 18 real-world situations a dialogue is about."""

    esconv_problem_types: tuple[str, ...] = ()


class StateInfo(_Entry):
    """One of the 15 states a seeker turn can show."""

    valence: Polarity


class ActionInfo(_Entry):
    """One of the 17 things a supporter turn can do, with the ESConv strategy it maps to."""

    esconv_strategy: str
    esconv_secondary: tuple[str, ...] = ()
    hill_stage: HillStage
    typical_risk: str


class ChangeInfo(_Entry):
    """One of the 14 response changes; `key` units are those with a salient positive or negative change."""

    polarity: Polarity
    key: bool = Field(description="Whether a unit with this change counts as a key unit.")


SCENARIO_INFO = {Scenario(e["id"]): ScenarioInfo(**e) for e in _RAW["scenarios"]}
STATE_INFO = {SeekerState(e["id"]): StateInfo(**e) for e in _RAW["seeker_states"]}
ACTION_INFO = {SupportAction(e["id"]): ActionInfo(**e) for e in _RAW["support_actions"]}
CHANGE_INFO = {ResponseChange(e["id"]): ChangeInfo(**e) for e in _RAW["response_changes"]}
ESCONV_STRATEGIES: tuple[str, ...] = tuple(_RAW["meta"]["esconv_strategies"])
TAXONOMY_VERSION: str = _RAW["meta"]["version"]


def polarity(change: ResponseChange) -> Polarity:
    """Return the polarity of a response change."""
    return CHANGE_INFO[change].polarity


def is_key(change: ResponseChange) -> bool:
    """Whether a unit with this change is a key unit (salient positive or negative change)."""
    return CHANGE_INFO[change].key
