"""The written parts of our profiles: situations and personas, read from `parts/` and checked.

A part that breaks its schema stops the reading, with every fault named: the parts are ours, and profiles composed of
some of them would be wrong without a word. Whether there are enough of them is another question (`shortfalls`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..skills_bank.errors import InputError
from ..skills_bank.taxonomy import Scenario
from .coherence import odd_tags
from .needs import Character, HiddenNeed
from .profiles import Split
from .tags import Tag

LEAST_SITUATIONS: dict[Split, int] = {"evolution": 6, "evaluation": 2}
"""Situations each scenario needs, by split: six to learn on and two kept apart."""
LEAST_PERSONAS = 60
LEAST_EVALUATION_PERSONAS = 10


class _Written(BaseModel):
    """A part as written; folded YAML text comes with a newline at its end."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Situation(_Written):
    """What happened, told to the seeker ("You ...")."""

    id: str = Field(pattern=r"^[a-z_]+(-[a-z0-9]+)+$", description="`<scenario>-<slug>`.")
    scenario: Scenario
    split: Split
    background: str = Field(min_length=120)
    tried: str = Field(min_length=20)
    hurts_most: str = Field(min_length=20)
    high: str = Field(min_length=20)
    middling: str = Field(min_length=20)
    low: str = Field(min_length=20)
    first: dict[Character, str]
    fits_needs: tuple[HiddenNeed, ...] = Field(min_length=3)
    ages: tuple[int, int]
    needs_tags: tuple[Tag, ...] = ()
    bars_tags: tuple[Tag, ...] = ()
    risk: Literal["elevated"] | None = None

    @field_validator("fits_needs")
    @classmethod
    def _each_once(cls, needs: tuple[HiddenNeed, ...]) -> tuple[HiddenNeed, ...]:
        if len(set(needs)) < len(needs):
            raise ValueError("a need stands in it twice")
        return needs

    @field_validator("first")
    @classmethod
    def _first_of_each(cls, first: dict[Character, str]) -> dict[Character, str]:
        if missing := [character for character in Character if not first.get(character)]:
            raise ValueError(f"no opening for {', '.join(missing)}")
        return first

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.id.startswith(f"{self.scenario}-"):
            raise ValueError(f"id {self.id!r} does not begin with the scenario of its file, {self.scenario}")
        if not 10 <= self.ages[0] <= self.ages[1] <= 100:
            raise ValueError(f"ages {list(self.ages)} are no range within 10 to 100")
        if both := set(self.needs_tags) & set(self.bars_tags):
            raise ValueError(f"{', '.join(sorted(both))} needed and barred at once")
        return self

    def texts(self) -> tuple[str, ...]:
        """Return all that is written in it."""
        return (self.background, self.tried, self.hurts_most, self.high, self.middling, self.low, *self.first.values())


class Persona(_Written):
    """Who somebody is, apart from what happened."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    split: Split
    name: str = Field(min_length=1)
    age: int = Field(ge=12, le=95)
    gender: Literal["woman", "man", "nonbinary"]
    work: str = Field(min_length=3)
    speech: str = Field(min_length=20)
    habits: str = Field(min_length=20)
    traits: tuple[str, ...] = Field(min_length=3, max_length=5)
    tags: tuple[Tag, ...]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if problems := list(odd_tags(self.age, self.tags)):
            raise ValueError("; ".join(problems))
        return self


class Parts(NamedTuple):
    """All that profiles are composed of, in a fixed order."""

    situations: tuple[Situation, ...]
    personas: tuple[Persona, ...]

    def situations_of(self, split: Split, scenario: Scenario | None = None) -> tuple[Situation, ...]:
        """Return the situations of a split, or of one scenario in it."""
        return tuple(s for s in self.situations if s.split == split and scenario in {None, s.scenario})

    def personas_of(self, split: Split) -> tuple[Persona, ...]:
        """Return the personas of a split."""
        return tuple(p for p in self.personas if p.split == split)


def parts_folder() -> Traversable:
    """Return the folder of the shipped parts."""
    return files("esc_skills.simulator").joinpath("parts")


def load_parts(folder: Traversable | Path | None = None) -> Parts:
    """Read and check all situations and personas of a folder, by default the shipped ones.

    Raises:
        InputError: A file is missing or no YAML list, or parts break the schema; every fault is named.
    """
    root = parts_folder() if folder is None else folder
    problems: list[str] = []
    situations: list[Situation] = []
    where = root.joinpath("situations")
    known = {f"{scenario}.yaml": scenario for scenario in Scenario}
    for file in sorted(where.iterdir() if where.is_dir() else (), key=lambda item: item.name):
        if file.name not in known:
            problems.append(f"situations/{file.name}: no scenario of the taxonomy has that name")
            continue
        scenario = {"scenario": known[file.name]}
        situations += _checked(Situation, [{**entry, **scenario} for entry in _entries(file)], file.name, problems)
    personas = _checked(Persona, _entries(root.joinpath("personas.yaml")), "personas.yaml", problems)
    problems += _repeated(situations, personas)
    if problems:
        raise InputError(f"{len(problems)} faults in the parts of profiles:\n" + "\n".join(problems))
    return Parts(tuple(situations), tuple(personas))


def shortfalls(parts: Parts) -> list[str]:
    """Return what is missing for the shipped profiles: situations for a scenario, personas."""
    counted = Counter((situation.scenario, situation.split) for situation in parts.situations)
    found = [
        f"{scenario}: {counted[scenario, split]} of {least} {split} situations"
        for scenario in Scenario
        for split, least in LEAST_SITUATIONS.items()
        if counted[scenario, split] < least
    ]
    if len(parts.personas) < LEAST_PERSONAS:
        found.append(f"{len(parts.personas)} of {LEAST_PERSONAS} personas")
    if (apart := len(parts.personas_of("evaluation"))) < LEAST_EVALUATION_PERSONAS:
        found.append(f"{apart} of {LEAST_EVALUATION_PERSONAS} personas kept for evaluation")
    return found


def _entries(file: Traversable | Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise InputError(f"No file {file.name!r} among the parts of profiles.")
    try:
        entries = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise InputError(f"{file.name} is not YAML: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{file.name} is not a list of parts, each a mapping.")
    return entries


def _checked(kind: Any, entries: Iterable[Mapping[str, Any]], file: str, problems: list[str]) -> list[Any]:
    """Return the entries that fit `kind`; what does not fit goes into `problems`."""
    found = []
    for number, entry in enumerate(entries, start=1):
        try:
            found.append(kind.model_validate(entry))
        except ValidationError as error:
            name = entry.get("id", f"entry {number}")
            for fault in error.errors(include_url=False):
                problems.append(f"{file}, {name}: {'.'.join(map(str, fault['loc'])) or 'entry'}: {fault['msg']}")
    return found


_SPACE = re.compile(r"\s+")


def _repeated(situations: Iterable[Situation], personas: Iterable[Persona]) -> Iterator[str]:
    """Yield ids and texts that occur twice, which is also how a part would be shared between the splits."""
    ids = Counter(part.id for part in (*situations, *personas))
    yield from (f"id {name!r} stands {n} times" for name, n in ids.items() if n > 1)
    names = Counter(persona.name for persona in personas)
    yield from (f"{n} personas are named {name}" for name, n in names.items() if n > 1)
    texts: dict[str, str] = {}
    for part in (*situations, *personas):
        written = part.texts() if isinstance(part, Situation) else (part.speech, part.habits)
        for text in written:
            key = _SPACE.sub(" ", text).lower()
            if key in texts and texts[key] != part.id:
                yield f"{part.id} and {texts[key]} share a text: {text[:50]!r}"
            texts[key] = part.id
