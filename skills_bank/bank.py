"""One version of a bank in memory: read once, never changed.

A bank is a folder of skills, with or without a `bank.json` beside them. Its hash is taken over the files themselves, so
two banks with the same hash hold the same bytes. What serving reads is checked here (text, name, states and actions,
evidence); `validate.py` checks more, such as what other hosts refuse.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import BankError, SkillNotFound
from .files import BankFiles, SkillFiles, bank_hash, read_skill_files, replace_durably, skill_hash
from .models import Evidence, Skill
from .problems import Problem, ProblemLog
from .validate import SKILL_FILE, check_content, skill_folders

MANIFEST = "bank.json"
FORMAT = 1
_SHORT = 8


class SkillStamp(BaseModel):
    """What `bank.json` says about one skill."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    hash: str = Field(description="sha256 over the skill's files.")


class Manifest(BaseModel):
    """What `bank.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    version: str
    hash: str = Field(description="sha256 over the names and hashes of the skills.")
    parent: str | None = Field(default=None, description="The version this one was made from.")
    created: str = Field(description="ISO 8601, UTC.")
    provenance: str = Field(description="Why, and from what, this version was made.")
    skills: dict[str, SkillStamp]


@dataclass(frozen=True, eq=False)
class Bank:
    """One loaded version. `texts` are the verbatim SKILL.md texts; skills are in order of name."""

    version: str
    hash: str
    skills: Mapping[str, Skill]
    evidence: Mapping[str, Evidence]
    texts: Mapping[str, str]
    hashes: Mapping[str, str]
    contents: BankFiles
    manifest: Manifest | None = None

    def files(self, name: str) -> SkillFiles:
        """Return the files of one skill by path, SKILL.md among them.

        Raises:
            SkillNotFound: The bank has no such skill.
        """
        if name not in self.contents:
            raise SkillNotFound(name, self.contents)
        return self.contents[name]

    def support_files(self, name: str) -> SkillFiles:
        """Return the files of one skill by path, without SKILL.md."""
        return {path: content for path, content in self.files(name).items() if path != SKILL_FILE}

    @classmethod
    def load(cls, folder: Path, previous: "Bank | None" = None) -> Self:
        """Load a folder of skills; those equal to skills of `previous` are not read again from their text.

        Raises:
            BankError: The folder is missing, or something in it cannot be served; every fault is listed.
        """
        bank, problems = cls._read(folder, previous)
        if problems:
            listed = "\n".join(f"  {problem}" for problem in problems)
            raise BankError(f"The bank {folder} has {len(problems)} problem(s):\n{listed}")
        return bank

    @classmethod
    def load_lenient(cls, folder: Path, previous: "Bank | None" = None) -> tuple[Self, list[Problem]]:
        """Load what can be served, and say what cannot.

        A skill that is broken on disk keeps the text it has in `previous`; without one it is left out.

        Raises:
            BankError: The folder is missing, its `bank.json` is broken, or no skill can be served.
        """
        bank, problems = cls._read(folder, previous)
        if not bank.skills:
            listed = "\n".join(f"  {problem}" for problem in problems)
            raise BankError(f"The bank {folder} has no skill that can be served.\n{listed}".rstrip())
        return bank, problems

    @classmethod
    def _read(cls, folder: Path, previous: "Bank | None") -> tuple[Self, list[Problem]]:
        if not folder.is_dir():
            raise BankError(f"There is no bank at {folder}. Name a folder of skills, or run `esc-skills bank init`.")
        manifest = read_manifest(folder)
        builder = _Builder(previous)
        for path in skill_folders(folder):
            builder.add(path)
        total = bank_hash(builder.hashes)
        bank = cls(
            version=_version(manifest, total),
            hash=total,
            skills=MappingProxyType(builder.skills),
            evidence=MappingProxyType(builder.evidence),
            texts=MappingProxyType(builder.texts),
            hashes=MappingProxyType(builder.hashes),
            contents=MappingProxyType(builder.contents),
            manifest=manifest,
        )
        return bank, builder.problems


class _Builder:
    """Gathers the skills of a bank; what has not changed since `previous` is taken over as it is."""

    def __init__(self, previous: Bank | None) -> None:
        self._previous = previous
        self.skills: dict[str, Skill] = {}
        self.evidence: dict[str, Evidence] = {}
        self.texts: dict[str, str] = {}
        self.hashes: dict[str, str] = {}
        self.contents: dict[str, SkillFiles] = {}
        self.problems: list[Problem] = []

    def add(self, folder: Path) -> None:
        name, before = folder.name, self._previous
        log = ProblemLog(f"{name}/{SKILL_FILE}")
        try:
            files = read_skill_files(folder)
        except (BankError, OSError) as error:
            log.add("files", f"{error}", "Make the folder readable, with plain files only.")
            files = {}
        if before is not None and name in before.hashes and before.hashes[name] == skill_hash(files):
            self._take_over(before, name)
            return
        skill, evidence = check_content(name, files, log) if not log.problems else (None, None)
        self.problems += log.problems
        if skill is None or log.problems:
            if before is not None and name in before.skills:
                self._take_over(before, name)
            return
        self.skills[name] = skill
        self.texts[name] = files[SKILL_FILE].decode("utf-8")
        self.hashes[name] = skill_hash(files)
        self.contents[name] = files
        if evidence is not None:
            self.evidence[name] = evidence

    def _take_over(self, before: Bank, name: str) -> None:
        self.skills[name], self.texts[name] = before.skills[name], before.texts[name]
        self.hashes[name], self.contents[name] = before.hashes[name], before.contents[name]
        if name in before.evidence:
            self.evidence[name] = before.evidence[name]


def read_manifest(folder: Path) -> Manifest | None:
    """Return the `bank.json` of a folder, or None where there is none.

    Raises:
        BankError: It is there and cannot be used.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise BankError(
            f"{path}: {place}: {first['msg']}. Write it again with `esc-skills bank seal {folder}`, "
            "or update esc-skills if a newer one wrote it."
        ) from error


def make_manifest(bank: Bank, version: str, *, parent: str | None, provenance: str) -> Manifest:
    """Return the manifest that describes `bank` under `version`, dated now."""
    return Manifest(
        version=version,
        hash=bank.hash,
        parent=parent,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        provenance=provenance,
        skills={name: SkillStamp(version=skill.version, hash=bank.hashes[name]) for name, skill in bank.skills.items()},
    )


def seal(folder: Path, version: str, provenance: str) -> Manifest:
    """Write the `bank.json` of a folder of skills; nothing is written where it already says the same.

    Raises:
        BankError: The skills cannot be served.
    """
    bank, problems = Bank._read(folder, None)
    if problems:
        raise BankError(f"{folder} cannot be sealed: " + "; ".join(str(problem) for problem in problems))
    old = bank.manifest
    if old is not None and (old.hash, old.version, old.provenance) == (bank.hash, version, provenance):
        return old
    manifest = make_manifest(bank, version, parent=None, provenance=provenance)
    replace_durably(folder / MANIFEST, manifest_bytes(manifest))
    return manifest


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the text of a `bank.json`."""
    return (manifest.model_dump_json(indent=2) + "\n").encode()


def _version(manifest: Manifest | None, total: str) -> str:
    """Return the name of a version: the manifest's where the files are those it describes, else one by content."""
    if manifest is None:
        return f"local-{total[:_SHORT]}"
    return manifest.version if manifest.hash == total else f"{manifest.version}+{total[:_SHORT]}"
