"""The shapes that cross module borders: units, prototypes, skills, evidence, messages."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from .taxonomy import Polarity, ResponseChange, Scenario, SeekerState, SupportAction, is_key, polarity


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(_Frozen):
    """One turn of a conversation, newest last in any list of them."""

    role: Literal["seeker", "supporter"]
    content: str


class InterventionUnit(_Frozen):
    """(seeker state → support action → response change), one per action of a supporter turn between two seeker turns.

    Defined in Zhu et al. 2026; `dialogue` and `turn` (1-based turn number of the supporter turn) point into the corpus.
    """

    dialogue: str
    turn: int
    source: Literal["ESConv", "FailedESConv", "other"]
    split: str
    scenario: Scenario = Field(description="Primary scenario of the dialogue.")
    state: SeekerState = Field(description="State of the seeker turn before.")
    action: SupportAction
    position: int = Field(ge=0, description="Place of the action among the actions of its turn, from 0.")
    change: ResponseChange
    state_after: SeekerState

    @property
    def polarity(self) -> Polarity:
        """Polarity of the response change."""
        return polarity(self.change)

    @property
    def key(self) -> bool:
        """Whether the change is salient (positive or negative)."""
        return is_key(self.change)


class Proportion(_Frozen):
    """A share `k / n` with its 95% Wilson interval."""

    k: int = Field(ge=0)
    n: int = Field(ge=0)
    rate: float
    low: float
    high: float

    @classmethod
    def wilson(cls, k: int, n: int, z: float = 1.959963984540054) -> Self:
        """Return the Wilson score interval (Wilson 1927) of `k` successes in `n` trials; n = 0 gives 0 in [0, 1]."""
        if n == 0:
            return cls(k=0, n=0, rate=0.0, low=0.0, high=1.0)
        p = k / n
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * ((p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5) / (1 + z * z / n)
        return cls(
            k=k, n=n, rate=round(p, 4), low=round(max(0.0, centre - half), 4), high=round(min(1.0, centre + half), 4)
        )


class Prototype(_Frozen):
    """All units of one (state, action) cell; kept when at least five of them are key.

    Rates count over all units of the cell, neutral ones included; `n_key` is the number of key units.
    """

    state: SeekerState
    action: SupportAction
    n: int
    n_key: int
    positive: Proportion
    negative: Proportion
    lift_positive: float = Field(description="Positive rate minus the positive rate of all units in this state.")
    lift_negative: float = Field(description="Negative rate minus the negative rate of all units in this state.")
    failed_share: float = Field(description="Share of the cell's units that come from FailedESConv.")
    changes: dict[ResponseChange, int]
    scenarios: dict[Scenario, int]


class Evidence(_Frozen):
    """What `references/evidence.json` of a skill holds: the prototypes behind it, recomputable from the labels."""

    format: Literal[1] = 1
    skill: str
    source: str = Field(description="Where the labels came from, e.g. 'ESConv train + FailedESConv'.")
    n: int
    n_key: int
    positive: Proportion
    negative: Proportion
    lift_positive: float = Field(description="Mean over the skill's units of the lift over their state's base rate.")
    lift_negative: float
    failed_share: float
    prototypes: tuple[Prototype, ...]


class ActionStep(_Frozen):
    """One recommended action: what to do and a line that shows how it may sound."""

    action: SupportAction
    how: str = Field(min_length=1)
    say: str | None = Field(default=None, description="A composed example line.")


class StatePlan(_Frozen):
    """Recommended actions for one seeker state, in order."""

    state: SeekerState
    steps: tuple[ActionStep, ...] = Field(min_length=1)


class Pitfall(_Frozen):
    """What went wrong in negative units and the signal by which to notice it."""

    title: str
    action: SupportAction | None = None
    text: str
    signal: str


class Example(_Frozen):
    """A composed seeker–supporter exchange."""

    kind: Literal["good", "bad"]
    title: str
    lines: tuple[Message, ...] = Field(min_length=2)
    comment: str = Field(description="Why it works, or what went wrong.")


class Skill(_Frozen):
    """One SKILL.md, checked where it enters the program and trusted afterwards."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)
    description: str = Field(min_length=1, max_length=1024, description="What the skill does and when to use it.")
    license: str = "CC-BY-NC-4.0"
    compatibility: str | None = Field(default=None, max_length=500)
    version: str = "1"
    parent: str | None = Field(default=None, description="Name or version of the skill this one was refined from.")
    written_by: str = Field(default="unknown", description="How the text came to be, e.g. 'author+dossier'.")
    states: tuple[SeekerState, ...] = Field(min_length=1)
    actions: tuple[SupportAction, ...] = Field(min_length=1)
    scenarios: tuple[Scenario, ...] = Field(default=(), description="Scenarios it leans to; empty means any.")
    extra_metadata: dict[str, str] = Field(default_factory=dict, description="Other frontmatter metadata, kept.")

    title: str
    overview: str
    when: tuple[str, ...] = Field(min_length=1, description="Activation conditions.")
    when_not: tuple[str, ...] = ()
    plans: tuple[StatePlan, ...] = Field(min_length=1)
    pitfalls: tuple[Pitfall, ...] = Field(min_length=1)
    examples: tuple[Example, ...] = ()
    expected_outcome: str
    risks: str
    evidence: str = Field(default="", description="Rendered from evidence.json; numbers live here and nowhere else.")
    extra_sections: tuple[tuple[str, str], ...] = Field(default=(), description="Unknown `##` sections, kept in order.")

    def plan_for(self, state: SeekerState) -> StatePlan | None:
        """Return the plan written for `state`, or None."""
        return next((plan for plan in self.plans if plan.state == state), None)
