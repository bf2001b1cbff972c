"""Lines that name nothing of anybody's life, by action: `plain_lines.yaml`."""

from functools import lru_cache
from importlib.resources import files
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ..skills_bank.taxonomy import SeekerState, SupportAction

FILE = "plain_lines.yaml"
LIGHT = frozenset({SeekerState.CALM_OR_HOPEFUL, SeekerState.SELF_AWARENESS, SeekerState.NEUTRAL_NARRATION})
"""States in which it would be presumptuous to speak of pain."""
Line = Annotated[str, Field(min_length=1, pattern=r'^[^"\d\n]+$')]


class PlainLines(BaseModel):
    """The lines of one action."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    any: tuple[Line, ...] = Field(min_length=1, description="For every state.")
    heavy: tuple[Line, ...] = Field(default=(), description="For all but `LIGHT` states.")

    def lines(self, state: SeekerState) -> tuple[str, ...]:
        """Return those for a state, the more fitting first."""
        return self.any if state in LIGHT else (*self.heavy, *self.any)


@lru_cache(maxsize=1)
def load_plain_lines() -> dict[SupportAction, PlainLines]:
    """Return the shipped lines, of the actions that have any."""
    text = files("esc_skills.evolve").joinpath(FILE).read_text(encoding="utf-8")
    return TypeAdapter(dict[SupportAction, PlainLines]).validate_python(yaml.safe_load(text))
