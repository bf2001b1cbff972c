"""Helplines by region: a reviewed YAML file, checked where it is read; a user's own file may replace regions."""

from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import InputError

RiskKind = Literal["self_harm", "harm_to_others", "abuse"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Helpline(_Frozen):
    """One line a person can reach, as its operator publishes it."""

    name: str = Field(min_length=1)
    contact: str = Field(min_length=1, description="How to reach it, e.g. 'call or text 988'.")
    hours: str = Field(min_length=1)
    kinds: tuple[RiskKind, ...] = Field(min_length=1, exclude=True)
    source: str = Field(pattern=r"^https?://", description="The operator's own page.")


class Region(_Frozen):
    """The lines of one country or area."""

    name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    emergency: str = Field(min_length=1, description="The emergency number, as to be said to a person.")
    lines: tuple[Helpline, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _covers_every_kind(self) -> Self:
        missing = [kind for kind in ("self_harm", "harm_to_others", "abuse") if not self.lines_for(kind)]
        if missing:
            raise ValueError(f"region {self.name!r} has no line for {', '.join(missing)}; add one or widen its `kinds`")
        return self

    def lines_for(self, kind: RiskKind) -> tuple[Helpline, ...]:
        """Return the lines meant for this kind of risk, in the file's order."""
        return tuple(line for line in self.lines if kind in line.kinds)


class Helplines(_Frozen):
    """A whole file of helplines."""

    format: Literal[1]
    checked: date = Field(description="When the numbers were last compared with their sources.")
    how: str = Field(min_length=1, description="How they were compared.")
    default: str
    regions: dict[str, Region] = Field(min_length=1)

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default not in self.regions:
            raise ValueError(f"default region {self.default!r} is not among the regions")
        return self

    def region(self, code: str | None = None) -> Region:
        """Return a region by its code (any case, aliases such as UK included); None means the default.

        Raises:
            InputError: No such region; the message lists the known codes.
        """
        wanted = (code or self.default).strip().upper()
        for known, region in self.regions.items():
            if wanted == known or wanted in region.aliases:
                return region
        raise InputError(
            f"Unknown helpline region {code!r}. Known regions: {', '.join(sorted(self.regions))}. "
            "Use one of them or add yours in a helplines file of your own."
        )


@cache
def load_helplines(override: Path | None = None) -> Helplines:
    """Return the shipped helplines; regions of the `override` file replace shipped regions of the same code.

    Raises:
        InputError: The file cannot be read or does not have the form of `helplines.yaml`.
    """
    shipped = _parse(files("esc_skills.skills_bank").joinpath("helplines.yaml").read_text(encoding="utf-8"), "shipped")
    if override is None:
        return shipped
    try:
        text = override.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Helplines file {override}: cannot be read ({error}). Give a readable YAML file.") from error
    own = _parse(text, str(override))
    return own.model_copy(update={"regions": {**shipped.regions, **own.regions}})


def _parse(text: str, where: str) -> Helplines:
    try:
        raw: Any = yaml.safe_load(text)
        return Helplines.model_validate(raw)
    except yaml.YAMLError as error:
        raise InputError(f"Helplines file {where}: not valid YAML ({error}). Quote numbers such as '112'.") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise InputError(f"Helplines file {where}: {faults}. Follow the form of skills_bank/helplines.yaml.") from error
