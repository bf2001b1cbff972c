"""Our own sentences, from which `LocalWriter` composes skills: `phrases/`, one file per action and three more.

Every cell (action x state) holds how the action is done there, a moment in which it helps (seeker, line, reply), a
second line to say, and the same moment handled badly. Exchanges are stored whole rather than combined, because a reply
that answers nothing in particular reads like one. A cell may say instead why the action makes no sense there.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from ..skills_bank.errors import InputError
from ..skills_bank.taxonomy import Polarity, ResponseChange, Scenario, SeekerState, SupportAction, polarity

NEGATIVE = tuple(change for change in ResponseChange if polarity(change) == "negative")
MIN_REPLIES = 5
_VERSION_DIGITS = 6
_LOADER: type = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Every scalar is text: a seeker's bare "no" is no boolean."""
Line = Annotated[str, Field(min_length=1, pattern=r'^[^"\d\n]+$')]
"""Prose of ours: no digits, as numbers stand in Evidence only, and no straight double quotes, which frame a line."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(_Frozen):
    """One action in one state."""

    how: Line
    scenario: Scenario = Field(description="Life situation of the moment.")
    seeker: Line = Field(description="What the seeker says, answered by `say` and by `slip`.")
    say: Line
    reply: Line
    change: ResponseChange = Field(description="Positive; what `reply` shows.")
    why: Line = Field(description="Why `say` works.")
    also: Line = Field(description="A second line to say, at any such moment.")
    slip: Line = Field(description="The same action done badly, in answer to `seeker`.")
    answer: Line
    harm: ResponseChange = Field(description="Negative; what `answer` shows.")
    wrong: Line = Field(description="What is wrong with `slip`.")

    @model_validator(mode="after")
    def _polarity(self) -> Self:
        _demand("change", self.change, "positive")
        _demand("harm", self.harm, "negative")
        return self


class Never(_Frozen):
    """Why an action makes no sense in a state; it is never recommended there."""

    never: Line


def _kind(value: Any) -> str:
    return "never" if isinstance(value, Never) or (isinstance(value, dict) and "never" in value) else "cell"


AnyCell = Annotated[Annotated[Cell, Tag("cell")] | Annotated[Never, Tag("never")], Discriminator(_kind)]


class PitfallPhrases(_Frozen):
    """How an action goes wrong in one way."""

    title: Line
    what: Line
    signal: Line
    instead: Line


class ActionPhrases(_Frozen):
    """All about one action."""

    action: SupportAction
    title: Line = Field(description="Noun phrase, e.g. 'An open question'.")
    by: Line = Field(description="After 'through', e.g. 'open questions'.")
    goal: Line = Field(description="Gerund, for titles.")
    does: Line
    essence: Line
    caution: str = Field(default="", description="Said with every step of this action.")
    signs: tuple[Line, ...] = Field(min_length=3)
    unless: Line = Field(description="When not, for a skill that is about this action.")
    pitfalls: dict[ResponseChange, PitfallPhrases]
    cells: dict[SeekerState, AnyCell]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _same(f"{self.action}: pitfalls", set(self.pitfalls), set(NEGATIVE))
        _same(f"{self.action}: cells", set(self.cells), set(SeekerState))
        return self


class StageTitle(_Frozen):
    """How a skill is called and described at a stage of the talk."""

    title: Line
    does: Line


class Stage(StageTitle):
    """What a state asks for at a stage of the talk."""

    need: Line
    signs: tuple[Line, ...] = Field(min_length=4)
    lines: tuple[Line, ...] = Field(min_length=4, description="What seekers say then, in varied registers.")
    outcome: Line


class StatePhrases(_Frozen):
    """All about one state."""

    noun: Line
    shows: Line = Field(description="After 'they ...'.")
    early: Stage = Field(description="While it is still being told.")
    late: Stage = Field(description="When it has been heard.")
    mixed: StageTitle
    stuck: Line
    risk: Line


class ScenarioPhrases(_Frozen):
    """Words to speak of a scenario."""

    about: Line
    when: Line
    amid: Line


class ChangePhrases(_Frozen):
    """How a response change shows, and how it may sound."""

    looks: Line = Field(description="After 'the seeker ...'.")
    replies: tuple[Line, ...] = Field(min_length=MIN_REPLIES)


class Phrasebook(_Frozen):
    """The whole library, complete against the taxonomy."""

    version: str = Field(description="First hex digits of the SHA-256 over all files.")
    actions: dict[SupportAction, ActionPhrases]
    states: dict[SeekerState, StatePhrases]
    scenarios: dict[Scenario, ScenarioPhrases]
    changes: dict[ResponseChange, ChangePhrases]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, kind in (
            ("actions", SupportAction), ("states", SeekerState), ("scenarios", Scenario), ("changes", ResponseChange),
        ):  # fmt: skip
            _same(name, set(getattr(self, name)), set(kind))
        return self

    def cell(self, state: SeekerState, action: SupportAction) -> Cell | None:
        """Return the phrases of a cell, or None where the action makes no sense."""
        found = self.actions[action].cells[state]
        return found if isinstance(found, Cell) else None

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield every line somebody speaks, with its place."""
        yield from self._lines(("seeker", "say", "reply", "also", "slip", "answer"))

    def seeker_lines(self) -> Iterator[tuple[str, str]]:
        """Yield every line a seeker speaks, with its place: its action and state, its state, or its change."""
        yield from self._lines(("seeker", "reply", "answer"))

    def _lines(self, fields: Iterable[str]) -> Iterator[tuple[str, str]]:
        for action, phrases in self.actions.items():
            for state, cell in phrases.cells.items():
                if isinstance(cell, Cell):
                    for field in fields:
                        yield f"{action}, {state}, {field}", getattr(cell, field)
        for state, phrases in self.states.items():
            yield from ((f"{state}, lines", line) for line in (*phrases.early.lines, *phrases.late.lines))
        for change, phrases in self.changes.items():
            yield from ((f"{change}, replies", line) for line in phrases.replies)


def _demand(field: str, change: ResponseChange, wanted: Polarity) -> None:
    if polarity(change) != wanted:
        raise ValueError(f"{field} is {change}, which is {polarity(change)}; name a {wanted} change")


def _same(what: str, found: set, wanted: set) -> None:
    if missing := sorted(wanted - found):
        raise ValueError(f"{what} lack {', '.join(missing)}; write them")


def _read(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"Phrases {path} cannot be read: {error}") from error


def read_phrases(folder: Path) -> Phrasebook:
    """Read a library from its folder: `actions/*.yaml`, `states.yaml`, `scenarios.yaml`, `changes.yaml`.

    Raises:
        InputError: A file cannot be read, or something is missing or wrong in it; the message names all of it.
    """
    paths = sorted((folder / "actions").glob("*.yaml")) + [
        folder / f"{name}.yaml" for name in ("states", "scenarios", "changes")
    ]
    *actions, states, scenarios, changes = (_read(path) for path in paths)
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()
    try:
        found = {entry.action: entry for entry in map(ActionPhrases.model_validate, actions)}
        return Phrasebook.model_validate({
            "version": digest[:_VERSION_DIGITS], "actions": found, "states": states, "scenarios": scenarios,
            "changes": changes,
        })  # fmt: skip
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"Phrases in {folder} are incomplete: {faults}") from error


@lru_cache(maxsize=1)
def load_phrases() -> Phrasebook:
    """Return the shipped library."""
    return read_phrases(Path(str(files("esc_skills.pipeline").joinpath("phrases"))))
