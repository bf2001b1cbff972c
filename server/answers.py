"""What the bank tools answer (the answers about a seeker are in `skills_bank/results.py`)."""

from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.taxonomy import Scenario, SeekerState, SupportAction


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SkillSummary(_Answer):
    """One line of `list_skills`."""

    name: str
    description: str
    states: tuple[SeekerState, ...] = Field(description="Seeker states in which the skill applies.")
    actions: tuple[SupportAction, ...] = Field(description="Support actions it recommends.")
    scenarios: tuple[Scenario, ...] = Field(description="Situations it leans to; empty means any.")
    version: str
    uri: str = Field(description="Resource with the full text, also readable by `read_skill`.")


class SkillList(_Answer):
    """Answer of `list_skills`: one page, in the order of names."""

    skills: tuple[SkillSummary, ...]
    total: int = Field(description="Skills that match, on all pages.")
    next_offset: int | None = Field(description="Pass it as `offset` for the next page; null on the last one.")
    bank_version: str


class SkillText(_Answer):
    """Answer of `read_skill`."""

    name: str
    section: str | None = Field(description="Heading of the section, or null for the whole skill.")
    text: str = Field(description="Markdown.")
    sections: tuple[str, ...] = Field(description="Headings that `section` accepts.")
    truncated: bool = Field(description="Whether the text was cut; then read it section by section.")
    uri: str
    bank_version: str


class BankVersion(_Answer):
    """One version of the bank."""

    version: str
    parent: str | None
    created: str = Field(description="When it was written, ISO 8601.")
    note: str = Field(description="Why it was written.")
    skills: int = Field(description="Number of skills in it.")
    active: bool


class BankHistory(_Answer):
    """Answer of `bank_history`, newest first."""

    versions: tuple[BankVersion, ...]
    total: int
    bank_version: str


class Rollback(_Answer):
    """Answer of `rollback_bank`."""

    previous_version: str
    bank_version: str = Field(description="Version that answers from now on.")
    added: tuple[str, ...] = Field(description="Skills that came back.")
    removed: tuple[str, ...] = Field(description="Skills that went away.")
    changed: tuple[str, ...] = Field(description="Skills whose text differs.")
