"""The closed sets of the field, loaded once from `taxonomy.yaml`.

`Scenario`, `SeekerState`, `SupportAction` and `ResponseChange` are string enums whose values are the taxonomy ids, in
the file's order; the `*_INFO` mappings carry names, definitions and polarity. Counts (18, 15, 17, 14) as in Zhu et
al. 2026.
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


class Scenario(StrEnum):
    """The real-world situation a dialogue is about."""

    DEPRESSED_MOOD = "depressed_mood"
    ANXIETY_AND_PANIC = "anxiety_and_panic"
    ROMANTIC_BREAKUP = "romantic_breakup"
    RELATIONSHIP_CONFLICT = "relationship_conflict"
    FAMILY_CONFLICT = "family_conflict"
    PARENTING_AND_CAREGIVING = "parenting_and_caregiving"
    FRIENDSHIP_PROBLEMS = "friendship_problems"
    LONELINESS = "loneliness"
    LOSS_AND_GRIEF = "loss_and_grief"
    JOB_LOSS_AND_CAREER_CRISIS = "job_loss_and_career_crisis"
    WORKPLACE_STRESS = "workplace_stress"
    ACADEMIC_PRESSURE = "academic_pressure"
    FINANCIAL_HARDSHIP = "financial_hardship"
    ILLNESS_AND_HEALTH_WORRIES = "illness_and_health_worries"
    SLEEP_PROBLEMS = "sleep_problems"
    SELF_WORTH_AND_BODY_IMAGE = "self_worth_and_body_image"
    BULLYING_ABUSE_AND_TRAUMA = "bullying_abuse_and_trauma"
    HABITS_AND_SUBSTANCE_USE = "habits_and_substance_use"


class SeekerState(StrEnum):
    """What a seeker turn shows most."""

    EMOTIONAL_DISTRESS = "emotional_distress"
    ANXIETY_AND_FEAR = "anxiety_and_fear"
    SADNESS_AND_GRIEF = "sadness_and_grief"
    ANGER_AND_FRUSTRATION = "anger_and_frustration"
    HOPELESSNESS = "hopelessness"
    SELF_BLAME = "self_blame"
    SELF_DOUBT = "self_doubt"
    LONELINESS_AND_DISCONNECTION = "loneliness_and_disconnection"
    CONFUSION_AND_AMBIVALENCE = "confusion_and_ambivalence"
    RESISTANCE = "resistance"
    WITHDRAWAL = "withdrawal"
    HELP_SEEKING = "help_seeking"
    SELF_AWARENESS = "self_awareness"
    CALM_OR_HOPEFUL = "calm_or_hopeful"
    NEUTRAL_NARRATION = "neutral_narration"


class SupportAction(StrEnum):
    """What a supporter turn does."""

    OPEN_EXPLORATION = "open_exploration"
    CLARIFYING_QUESTION = "clarifying_question"
    REFLECTIVE_QUESTIONING = "reflective_questioning"
    RESTATEMENT = "restatement"
    SUMMARIZING = "summarizing"
    FEELING_REFLECTION = "feeling_reflection"
    EMOTIONAL_VALIDATION = "emotional_validation"
    NORMALIZATION = "normalization"
    REASSURANCE_AND_ENCOURAGEMENT = "reassurance_and_encouragement"
    STRENGTH_AFFIRMATION = "strength_affirmation"
    SELF_DISCLOSURE = "self_disclosure"
    COGNITIVE_REFRAMING = "cognitive_reframing"
    PRACTICAL_SUGGESTION = "practical_suggestion"
    COLLABORATIVE_PLANNING = "collaborative_planning"
    INFORMATION_GIVING = "information_giving"
    SAFETY_CHECK_AND_REFERRAL = "safety_check_and_referral"
    RAPPORT_AND_CLOSING = "rapport_and_closing"


class ResponseChange(StrEnum):
    """How the seeker turn after an intervention differs from the one before."""

    EMOTIONAL_RELIEF = "emotional_relief"
    MORE_SPECIFIC_EXPRESSION = "more_specific_expression"
    INCREASED_OPENNESS = "increased_openness"
    INCREASED_SELF_AWARENESS = "increased_self_awareness"
    INCREASED_HOPE = "increased_hope"
    READINESS_TO_ACT = "readiness_to_act"
    INCREASED_EMOTIONAL_AGITATION = "increased_emotional_agitation"
    INCREASED_WITHDRAWAL = "increased_withdrawal"
    INCREASED_CONFUSION = "increased_confusion"
    INCREASED_RESISTANCE = "increased_resistance"
    DEEPENED_HOPELESSNESS = "deepened_hopelessness"
    TOPIC_SHIFT = "topic_shift"
    CONTINUED_RUMINATION = "continued_rumination"
    NO_OBSERVABLE_CHANGE = "no_observable_change"


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


def _check() -> None:
    """The names are written out for readers and type checkers; the file stays the authority on what they mean."""
    for kind, info in ((Scenario, SCENARIO_INFO), (SeekerState, STATE_INFO), (SupportAction, ACTION_INFO),
                       (ResponseChange, CHANGE_INFO)):  # fmt: skip
        if list(kind) != list(info):
            raise ValueError(f"taxonomy.yaml and {kind.__name__} name different ids, or in another order.")


_check()


def polarity(change: ResponseChange) -> Polarity:
    """Return the polarity of a response change."""
    return CHANGE_INFO[change].polarity


def is_key(change: ResponseChange) -> bool:
    """Whether a unit with this change is a key unit (salient positive or negative change)."""
    return CHANGE_INFO[change].key
