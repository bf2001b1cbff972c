"""The shapes that cross the borders of `evolve`: findings, proposals, candidates, trials, verdicts.

A finding says what the talks of a run show, with the talks and turns it rests on. Findings about the same thing become
a proposal. A generator makes a candidate text of a proposal. A trial holds talks with the old and the new text. A
verdict says what became of the candidate, and why.
"""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..simulator.needs import Character, HiddenNeed
from ..simulator.resample import Estimate
from ..skills_bank.taxonomy import Scenario, SeekerState, SupportAction


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cite(_Frozen):
    """Where in a run something was seen."""

    profile: str
    repeat: int = 0
    turns: tuple[int, ...] = Field(min_length=1, description="Numbers of the supporter's replies, from 1.")


class FindingKind(StrEnum):
    """What was seen."""

    HARM = "harm"
    """Replies by a skill were followed by worse than is usual in such a state."""
    GAP = "gap"
    """No skill was selected, or none fitted well, and the talk went worse than others."""
    UNSAFE = "unsafe"
    """A reply by a skill broke a rule of safety."""
    WORDS = "words"
    """The words of a step did not land: heard as something else than was meant, or as being about something else."""


class Context(_Frozen):
    """The moments a finding is about; what is None or empty is any."""

    states: tuple[SeekerState, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    character: Character | None = None
    need: HiddenNeed | None = None


class Finding(_Frozen):
    """One thing the talks show."""

    kind: FindingKind
    skill: str | None = Field(default=None, description="The skill it is about; None: one that is missing.")
    context: Context = Context()
    what: str = Field(min_length=1, description="In a sentence or two, for a person. Quotes nothing a seeker wrote.")
    cites: tuple[Cite, ...] = Field(description="Empty only where it is about a text that no talk came to.")
    turns: int = Field(ge=0, description="Replies it rests on.")
    effect: float | None = Field(default=None, description="Points of emotion a reply, beside what was expected.")
    p: float | None = Field(default=None, description="Of the effect, where it was tested.")
    avoid: tuple[SupportAction, ...] = Field(default=(), description="Actions that went badly there.")
    favour: tuple[SupportAction, ...] = Field(default=(), description="Actions that went well there.")
    reword: tuple[SupportAction, ...] = Field(default=(), description="Steps there whose words are to be written anew.")
    source: Literal["local", "llm"] = "local"


class ProposalKind(StrEnum):
    """What is proposed."""

    REFINE = "refine"
    CREATE = "create"


class Proposal(_Frozen):
    """What is to be done, with everything that speaks for it."""

    id: str = Field(description="'refine-<skill>' or 'create-<slug>'; one of each in a run.")
    kind: ProposalKind
    skill: str | None = Field(default=None, description="The skill to refine; None for a new one.")
    context: Context = Context()
    title: str
    findings: tuple[Finding, ...] = Field(min_length=1, description="Merged ones; support counts kept in each.")
    talks: int = Field(ge=0, description="Different conversations cited.")
    turns: int = Field(ge=0)
    priority: float = Field(description="Points lost in all, worst first; unsafe ones come before all others.")
    avoid: tuple[SupportAction, ...] = ()
    favour: tuple[SupportAction, ...] = ()
    reword: tuple[SupportAction, ...] = Field(
        default=(), description="All that its findings name; in which states, too."
    )


class Candidate(_Frozen):
    """A proposed text."""

    id: str = Field(description="Proposal and attempt: 'refine-meeting-hopelessness.1'.")
    proposal: str
    attempt: int = Field(ge=1)
    skill: str = Field(description="Name of the skill as it stands in the text.")
    replaces: str | None = Field(description="Skill of the parent bank that it takes the place of; None: a new one.")
    files: dict[str, str] = Field(description="Text by path inside the skill's folder; SKILL.md among them.")
    what: str = Field(description="What was changed and why, in a few lines.")
    generator: str = Field(description="Who wrote it, e.g. 'local-editor@1' or 'llm:claude-...'.")
    prompt: str | None = Field(default=None, description="What a model was asked, as sent; None without a model.")
    tokens: int = 0
    usd: float | None = None


class Feedback(_Frozen):
    """What the next attempt is told of the last one."""

    attempt: int
    reason: str
    worse_profiles: tuple[str, ...] = Field(default=(), description="Profiles that ended lower with the new text.")
    worse_actions: tuple[SupportAction, ...] = Field(
        default=(), description="Actions of the new text followed by less than the old text's replies were."
    )


class TalkPair(_Frozen):
    """The end of one talk with the old and with the new text, on the same profile and seed."""

    profile: str
    repeat: int
    old: int
    new: int


class Effect(_Frozen):
    """New minus old over some pairs; repeats of a profile are taken together."""

    profiles: int
    talks: int
    old: float = Field(description="Mean emotion at the end with the old text.")
    new: float
    difference: Estimate
    p: float = Field(description="Exact two-sided sign-flip test over profiles.")
    success: tuple[int, int] = Field(description="Talks that reached Success, old and new.")
    failure: tuple[int, int]


class Veto(_Frozen):
    """A reason that forbids a candidate whatever it gains."""

    rule: Literal["screen", "stratum", "risk", "real-data"]
    reason: str


class Check(_Frozen):
    """A check that was made, or could not be."""

    name: Literal["screen", "stratum", "risk", "real-data"]
    run: bool
    told: str = Field(description="What it found, or why it was not run.")


Ruling = Literal["accept", "reject", "indecisive"]


class Verdict(_Frozen):
    """What became of one attempt."""

    candidate: str
    ruling: Ruling
    reason: str
    strategy: Literal["paper", "paired"]
    effect: Effect | None = Field(default=None, description="None where nothing was simulated.")
    strata: dict[str, Effect] = Field(default_factory=dict, description="By 'character: negative' and the like.")
    floor: Effect | None = Field(default=None, description="The A/A run: the old text against itself on other seeds.")
    vetoes: tuple[Veto, ...] = ()
    checks: tuple[Check, ...] = ()
    pairs: tuple[TalkPair, ...] = ()
    seed: int | None = None
    feedback: Feedback | None = Field(default=None, description="For the next attempt, where there may be one.")
