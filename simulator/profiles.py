"""Who a simulated seeker is: one `Profile`, whatever file it came from.

Two forms are read, both JSON lines. Ours is `Profile` itself, English, composed by `compose.py`. SAGE's and RLVER's is
Chinese and keeps its text whole (`Person.text`, `Scene.text`); its fields are mapped: `main_cha` to the character,
`cha_group` to the traits, `task` to the hidden need, `first_talk` to the first line. RLVER has no first line: its
seeker opens the talk itself.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..skills_bank.errors import InputError
from ..skills_bank.taxonomy import Scenario
from .needs import NEED_INFO, Character, HiddenNeed, read_character, read_need

Split = Literal["evolution", "evaluation"]
Source = Literal["esc-skills", "sage", "rlver"]
Language = Literal["en", "zh"]
SPLITS: tuple[Split, ...] = ("evolution", "evaluation")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Person(_Frozen):
    """Who speaks. A foreign profile's portrait stands whole in `text`; ours is made of parts."""

    id: str = Field(default="", description="The persona of `parts/personas.yaml` this is; empty for foreign ones.")
    name: str = Field(min_length=1)
    age: int = Field(ge=5, le=110)
    gender: Literal["woman", "man", "nonbinary"]
    work: str = ""
    speech: str = Field(default="", description="The way of speaking.")
    habits: str = ""
    tags: tuple[str, ...] = ()
    text: str = Field(default="", description="The portrait as published, in the profile's language.")

    def described(self) -> str:
        """Return the portrait a seeker is played from."""
        if self.text:
            return self.text
        about = f"{self.name}, {self.age}, {self.gender}."
        return "\n".join(
            (about, f"Work: {self.work}", f"Way of speaking: {self.speech}", f"Habits: {self.habits}"),
        )


class Scene(_Frozen):
    """What the talk is about. A foreign profile's scene stands whole in `text` and holds the hidden need as well."""

    id: str = Field(default="", description="The situation of `parts/situations/` this is; empty for foreign ones.")
    background: str = ""
    tried: str = ""
    hurts_most: str = ""
    high: str = Field(default="", description="How the seeker talks when the mood is high.")
    middling: str = ""
    low: str = ""
    text: str = Field(default="", description="The scene as published, in the profile's language.")

    def described(self) -> str:
        """Return the scene a seeker is played from. Never for a supporter: foreign scenes name the hidden need."""
        if self.text:
            return self.text
        return "\n".join(
            (
                f"What happened: {self.background}",
                f"What you tried: {self.tried}",
                f"What hurts most: {self.hurts_most}",
                f"When your mood is high: {self.high}",
                f"When it is middling: {self.middling}",
                f"When it is low: {self.low}",
            )
        )


class Profile(_Frozen):
    """One simulated seeker: a person in a scene, with a character, traits and a need that is never said aloud."""

    id: str = Field(min_length=1)
    source: Source = "esc-skills"
    language: Language = "en"
    split: Split | None = None
    scenario: Scenario | None = Field(default=None, description="None where the source does not say.")
    character: Character
    traits: tuple[str, ...] = ()
    need: HiddenNeed
    person: Person
    scene: Scene
    first_line: str | None = Field(default=None, description="The preset opening; None: the seeker makes its own.")
    risk: Literal["elevated"] | None = Field(default=None, description="Whether a passive risk hint stands in it.")

    @property
    def wish(self) -> str:
        """The hidden need in the profile's language, for the seeker's own prompts only."""
        info = NEED_INFO[self.need]
        return info.wish if self.language == "en" else info.chinese


class Skipped(_Frozen):
    """A record that was left out, where it stands and why."""

    where: str
    reason: str


class ProfileSet(_Frozen):
    """The profiles of one file, in its order, and what was left out of it."""

    name: str
    profiles: tuple[Profile, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def digest(self) -> str:
        """A hash of the profiles that were read, for `run.json`; skipped lines do not change it."""
        return hashlib.sha256(dumped(self.profiles).encode()).hexdigest()[:16]

    def get(self, id: str) -> Profile:
        """Return one profile by id.

        Raises:
            InputError: None has that id.
        """
        for profile in self.profiles:
            if profile.id == id:
                return profile
        near = ", ".join(profile.id for profile in self.profiles[:3])
        raise InputError(f"No profile {id!r} in {self.name}; its {len(self.profiles)} ids begin with {near}.")


def dumped(profiles: Iterable[Profile]) -> str:
    """Return profiles in our own form, one JSON line each; fields that say nothing are left out."""
    return "".join(
        json.dumps(profile.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False) + "\n"
        for profile in profiles
    )


def profiles_folder() -> Path:
    """Return the folder of the shipped profiles; it can be written in a checkout only."""
    return Path(str(files("esc_skills.simulator").joinpath("profiles")))


def write_text(path: Path, text: str) -> None:
    """Write a file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def load_profiles(name: str | Path) -> ProfileSet:
    """Read profiles: `evolution` or `evaluation` for the shipped ones, or the path of a JSONL file in either form.

    Raises:
        InputError: There is no such file, or not one record of it can be used.
    """
    if str(name) in SPLITS:
        shipped = profiles_folder() / f"{name}.jsonl"
        if not shipped.is_file():
            raise InputError(f"The {name} profiles are not in the package; `esc-skills profiles compose` writes them.")
        return parse_profiles(shipped.read_text(encoding="utf-8"), str(name))
    path = Path(name)
    if not path.is_file():
        raise InputError(f"No profiles at {str(name)!r}; give {', '.join(SPLITS)} or the path of a JSONL file.")
    try:
        return parse_profiles(path.read_text(encoding="utf-8"), path.name)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; profiles are JSON lines in UTF-8.") from None


def parse_profiles(text: str, name: str) -> ProfileSet:
    """Read the lines of a file of profiles; bad ones are named and left out.

    Raises:
        InputError: Not one line can be used.
    """
    found: dict[str, Profile] = {}
    skipped: list[Skipped] = []
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: text may hold U+2028
        if not line.strip():
            continue
        try:
            profile = read_profile(line)
            if profile.id in found:
                raise InputError(f"id {profile.id!r} stands in the file twice; the first one is kept")
            found[profile.id] = profile
        except InputError as error:
            skipped.append(Skipped(where=f"{name}, line {number}", reason=str(error)))
    if not found:
        reason = f"; line by line: {skipped[0].where}: {skipped[0].reason}" if skipped else " (it is empty)"
        raise InputError(f"{name} holds no profile that can be used{reason}.")
    return ProfileSet(name=name, profiles=tuple(found.values()), skipped=tuple(skipped))


def read_profile(line: str) -> Profile:
    """Read one JSON line in either form.

    Raises:
        InputError: It is no JSON object, or no profile; the message says why and quotes no text of it.
    """
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"not JSON ({error})") from None
    if not isinstance(record, dict):
        raise InputError(f"a JSON {type(record).__name__}, not an object")
    if "player" in record or "main_cha" in record:
        return _foreign(record)
    try:
        return Profile.model_validate(record)
    except ValidationError as error:
        raise InputError(_problems(error)) from None


_LABELLED = {
    "name": re.compile(r"姓名\s*[：:]\s*(.+)"),
    "age": re.compile(r"年龄\s*[：:]\s*(\d+)"),
    "gender": re.compile(r"性别\s*[：:]\s*(\S+)"),
    "work": re.compile(r"职业\s*[：:]\s*(.+)"),
}
_GENDERS: dict[str, str] = {"女": "woman", "女性": "woman", "男": "man", "男性": "man"}
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


def _foreign(record: Mapping[str, Any]) -> Profile:
    """Map a record of SAGE or RLVER; which of the two shows in the first line, which RLVER leaves out."""
    for field in ("id", "player", "scene", "main_cha", "task"):
        if not isinstance(record.get(field), str) or not record[field].strip():
            raise InputError(f"field {field!r} is missing or empty")
    traits = record.get("cha_group", [])
    if not isinstance(traits, list) or not all(isinstance(trait, str) for trait in traits):
        raise InputError("field 'cha_group' is not a list of words")
    first = record.get("first_talk")
    if first is not None and (not isinstance(first, str) or not first.strip()):
        raise InputError("field 'first_talk' is empty; leave it out where the seeker opens the talk itself")
    player = record["player"]
    try:
        return Profile(
            id=record["id"],
            source="rlver" if first is None else "sage",
            language="zh" if _CHINESE.search(player) else "en",
            character=read_character(record["main_cha"]),
            traits=tuple(traits),
            need=read_need(record["task"]),
            person=Person(**_portrait(player), text=player),
            scene=Scene(text=record["scene"]),
            first_line=first,
        )
    except ValidationError as error:
        raise InputError(_problems(error)) from None


def _portrait(player: str) -> dict[str, Any]:
    """Return name, age, gender and work from the labelled lines of a portrait."""
    found: dict[str, Any] = {}
    for field, pattern in _LABELLED.items():
        if (match := pattern.search(player)) is None:
            raise InputError(f"no labelled {field} in field 'player'")
        found[field] = match[1].strip(" *\r")
    if found["gender"] not in _GENDERS:
        raise InputError(f"gender {found['gender']!r} in field 'player' is none of {', '.join(_GENDERS)}")
    return found | {"age": int(found["age"]), "gender": _GENDERS[found["gender"]]}


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'record'}: {e['msg']}" for e in error.errors(include_input=False)
    )
