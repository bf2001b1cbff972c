"""What the tools answer: the shapes that hosts rely on."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .risk import Risk
from .taxonomy import Scenario, SeekerState, SupportAction


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StateProbability(_Answer):
    """A seeker state with its calibrated probability."""

    state: SeekerState
    probability: float = Field(ge=0, le=1)


class ScenarioProbability(_Answer):
    """A scenario with its calibrated probability."""

    scenario: Scenario
    probability: float = Field(ge=0, le=1)


class Classification(_Answer):
    """Answer of `classify_seeker_state`: risk first, then states, scenarios and the phrases that drove the state."""

    risk: Risk
    states: tuple[StateProbability, ...] = Field(description="The three most likely states of the last seeker turn.")
    scenarios: tuple[ScenarioProbability, ...] = Field(description="The most likely situations of the whole talk.")
    evidence: tuple[str, ...] = Field(description="Phrases of the seeker's text that drove the state.")
    language: str = Field(description="'en', another script or language name, or 'unknown'.")
    note: str = Field(
        description="What the caller should know: low confidence, windowing, degraded modes; may be empty."
    )
    bank_version: str


class NextAction(_Answer):
    """One recommended support action for the next reply."""

    action: SupportAction
    how: str = Field(description="How to do it for this seeker, from the skill.")


class SkillChoice(_Answer):
    """One ranked skill."""

    name: str
    score: float = Field(description="Fit between 0 and 1.")
    why: str = Field(description="Matched state, matched facet and the evidence, in one line.")
    next_actions: tuple[NextAction, ...]
    pitfall: str = Field(description="One thing that went wrong in such moments, and its signal.")
    uri: str = Field(description="Resource with the full text, also readable by `read_skill`.")


class Selection(_Answer):
    """Answer of `select_skill`: risk first; at high risk or on abstention `skills` is empty, `note` says what to do."""

    risk: Risk
    states: tuple[StateProbability, ...]
    states_source: Literal["encoder", "caller"] = "encoder"
    skills: tuple[SkillChoice, ...]
    note: str
    bank_version: str
