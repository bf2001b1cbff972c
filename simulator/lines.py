"""The words of a local seeker: lines by state and change, chosen for the talk and filled with the profile's facts.

A line stands in `parts/lines/<state>.yaml` under the state its words show. It may be meant for some scenarios or
characters only, and may have slots: `{hurts}` and `{tried}` for noun phrases, `{other}` for the other person of the
story. Facts stand in `parts/facts.yaml` by situation; a line whose slots a profile cannot fill does not fit it.

A talk carries its own memory: a seeker's last message is looked up among its lines, so that a local seeker needs to
keep nothing between turns.
"""

import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ..skills_bank.errors import InputError
from ..skills_bank.models import Message
from ..skills_bank.taxonomy import ResponseChange, Scenario, SeekerState, polarity
from .emotion import says_goodbye
from .needs import Character
from .parts import parts_folder
from .profiles import Profile

LEAST_LINES = 1200
LEAST_A_CELL = 3
SLOTS = frozenset({"hurts", "tried", "other"})
_SLOT = re.compile(r"\{([^{}]*)\}")
Mood = Literal["content", "given_up"]


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Slotted(_Written):
    """Words that may have slots, with the state they show and the characters they are meant for; none: for all."""

    state: SeekerState
    characters: tuple[Character, ...] = ()
    text: str = Field(min_length=1, max_length=600)

    @cached_property
    def slots(self) -> frozenset[str]:
        """The slots that stand in it."""
        return frozenset(_SLOT.findall(self.text))

    @model_validator(mode="after")
    def _known_slots(self) -> Self:
        if odd := self.slots - SLOTS:
            raise ValueError(f"unknown slots {', '.join(sorted(odd))}; there are {', '.join(sorted(SLOTS))}")
        return self


class Line(Slotted):
    """One line as written, with the state of its file."""

    change: ResponseChange
    scenarios: tuple[Scenario, ...] = ()

    @cached_property
    def leaves(self) -> bool:
        """Whether it takes leave; such a line is said by a seeker that goes, and by no other."""
        return says_goodbye(self.text)


class Farewell(_Written):
    """A line with which a seeker leaves."""

    text: str = Field(min_length=2)
    characters: tuple[Character, ...] = ()

    @model_validator(mode="after")
    def _leaves(self) -> Self:
        if not says_goodbye(self.text):
            raise ValueError("it does not take leave")
        return self


class Facts(_Written):
    """What fills the slots for one situation, in the seeker's own words; a slot may be left empty."""

    hurts: str = ""
    tried: str = ""
    other: str = ""


class Told(NamedTuple):
    """A line as a profile says it."""

    line: Line
    text: str


class Repertoire(NamedTuple):
    """What one scene can say."""

    cells: dict[tuple[SeekerState, ResponseChange], list[Told]]
    texts: dict[str, Told]
    leaving: tuple[Told, ...]


class LineBank:
    """All lines, checked. Holds no state of any talk."""

    def __init__(
        self,
        lines: Sequence[Line],
        farewells: Mapping[Mood, Sequence[Farewell]],
        openings: Mapping[SeekerState, Sequence[str]],
        facts: Mapping[str, Facts],
    ) -> None:
        """Take checked parts."""
        self.lines, self.farewells, self.openings, self.facts = tuple(lines), farewells, openings, facts
        self._told = lru_cache(maxsize=256)(self._tell)

    @classmethod
    def load(cls, folder: Traversable | Path | None = None) -> Self:
        """Read and check the lines, farewells, openings and facts of a folder, by default the shipped ones.

        Raises:
            InputError: Something breaks its schema or stands twice; every fault is named.
        """
        root = parts_folder() if folder is None else folder
        problems: list[str] = []
        lines = list(_lines(root.joinpath("lines"), problems))
        problems += said_twice(line.text for line in lines)
        farewells = read_part(root, "farewells.yaml", dict[Mood, tuple[Farewell, ...]], problems)
        openings = read_part(root, "openings.yaml", dict[SeekerState, tuple[str, ...]], problems)
        facts = read_part(root, "facts.yaml", dict[str, Facts], problems)
        problems += [f"openings.yaml: none for {state}" for state in SeekerState if not openings.get(state)]
        for mood in ("content", "given_up"):
            if not any(not farewell.characters for farewell in farewells.get(mood, ())):
                problems.append(f"farewells.yaml: none for everybody under {mood}")
        if problems:
            raise InputError(f"{len(problems)} faults in the lines of seekers:\n" + "\n".join(problems))
        return cls(lines, farewells, openings, facts)

    def shortfalls(self, occurring: Collection[tuple[SeekerState, ResponseChange]]) -> list[str]:
        """Return what is missing: cells that occur with too few lines without slots, lines in all."""
        cells = Counter((line.state, line.change) for line in self.lines if not line.slots and not line.leaves)
        found = [
            f"{state}, {change}: {cells[state, change]} of {LEAST_A_CELL} lines without slots"
            for state in SeekerState
            for change in ResponseChange
            if cells[state, change] < LEAST_A_CELL and (state, change) in occurring
        ]
        return found if len(self.lines) >= LEAST_LINES else [f"{len(self.lines)} of {LEAST_LINES} lines", *found]

    def find(self, profile: Profile, text: str) -> Line | None:
        """Return the line that a message of this profile is; None where it is none."""
        told = self._told(profile.scene.id).texts.get(text)
        return told.line if told else None

    def choose(
        self,
        profile: Profile,
        state: SeekerState,
        change: ResponseChange,
        talk: Sequence[Message],
        rng: random.Random,
    ) -> Told:
        """Return a line for a state and change that this talk has not heard while there is one.

        First those of the cell that fit scenario and character, the more closely the likelier; then the cell's lines
        for everybody; then those of the same change in another state; then any line of the change; and only then one
        that was said before.
        """
        said = {message.content for message in talk if message.role == "seeker"}
        by_cell = self._told(profile.scene.id).cells
        cell = [told for told in by_cell.get((state, change), ()) if fits(told.line, profile)]
        others = [t for (_, c), all_ in by_cell.items() if c == change for t in all_ if fits(t.line, profile)]
        anybody = [t for (_, c), all_ in by_cell.items() if c == change for t in all_]
        for some in (cell, others, anybody):
            fresh = [told for told in some if told.text not in said]
            if fresh:
                return rng.choices(fresh, [_closeness(told.line) for told in fresh])[0]
        if not anybody:
            raise InputError(f"The lines of seekers hold none for {change} that {profile.id} could say.")
        return rng.choice(cell or others or anybody)

    def farewell(self, profile: Profile, mood: Mood, rng: random.Random) -> str:
        """Return a line to leave with: a farewell, or a line of the bank that takes leave in that mood."""
        fitting = [f for f in self.farewells[mood] if not f.characters or profile.character in f.characters]
        choice = [(farewell.text, 3 if farewell.characters else 1) for farewell in fitting]
        side = "positive" if mood == "content" else "negative"
        choice += [
            (told.text, _closeness(told.line))
            for told in self._told(profile.scene.id).leaving
            if polarity(told.line.change) == side and fits(told.line, profile)
        ]
        return rng.choices([text for text, _ in choice], [weight for _, weight in choice])[0]

    def _tell(self, scene: str) -> Repertoire:
        facts = self.facts.get(scene, Facts()).model_dump()
        cells: dict[tuple[SeekerState, ResponseChange], list[Told]] = {}
        texts: dict[str, Told] = {}
        leaving: list[Told] = []
        for line in self.lines:
            if all(facts[slot] for slot in line.slots):
                told = Told(line, filled(line.text, facts) if line.slots else line.text)
                texts[told.text] = told
                (leaving if line.leaves else cells.setdefault((line.state, line.change), [])).append(told)
        return Repertoire(cells, texts, tuple(leaving))


def fits(line: Line, profile: Profile) -> bool:
    """Whether a line is meant for a profile's scenario and character; where the scenario is not known, for any."""
    if line.scenarios and profile.scenario not in line.scenarios:
        return False
    return not line.characters or profile.character in line.characters


def filled(text: str, facts: Mapping[str, str]) -> str:
    """Return a line with its slots filled; a fact that begins the line or a sentence gets a capital."""

    def fill(match: re.Match[str]) -> str:
        fact = facts[match[1]]
        before = text[: match.start()].rstrip(" \"'(")
        return fact[:1].upper() + fact[1:] if not before or before[-1] in ".!?" else fact

    return _SLOT.sub(fill, text)


def _closeness(line: Line) -> int:
    return 1 + 2 * bool(line.scenarios) + 2 * bool(line.characters)


def said_twice(texts: Iterable[str]) -> list[str]:
    """Name the texts that stand twice, whatever their case and stops."""
    counts = Counter(re.sub(r"\W+", " ", text.lower()).strip() for text in texts)
    return [f"{n} lines say the same: {text[:60]!r}" for text, n in counts.items() if n > 1]


def _lines(folder: Traversable | Path, problems: list[str]) -> Iterator[Line]:
    known = {f"{state}.yaml": state for state in SeekerState}
    for file in sorted(folder.iterdir() if folder.is_dir() else (), key=lambda item: item.name):
        if file.name not in known:
            problems.append(f"lines/{file.name}: no state of the taxonomy has that name")
            continue
        for number, entry in enumerate(_yaml(file, list, problems) or (), start=1):
            try:
                yield Line.model_validate({**entry, "state": known[file.name]})
            except (ValidationError, TypeError) as error:
                problems.append(f"lines/{file.name}, line {number}: {_fault(error)}")


def read_part(root: Traversable | Path, name: str, kind: Any, problems: list[str]) -> Any:
    """Return a file of parts as `kind`; where it is none, an empty mapping, with the fault added to `problems`."""
    content = _yaml(root.joinpath(name), dict, problems) or {}
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        problems.append(f"{name}: {_fault(error)}")
        return {}


def _yaml(file: Traversable | Path, kind: type, problems: list[str]) -> Any:
    if not file.is_file():
        problems.append(f"{file.name} is missing")
        return None
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        problems.append(f"{file.name} is not YAML: {error}")
        return None
    if not isinstance(content, kind):
        problems.append(f"{file.name} holds no {kind.__name__}")
        return None
    return content


def _fault(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return "it is no mapping"
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'entry'}: {first['msg']}"
