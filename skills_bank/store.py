"""A bank folder with versions. docs/bank.md tells the layout and what a crash leaves behind.

    <bank>/versions/<version>/{bank.json, <skill>/...}   snapshots, written once
    <bank>/current -> versions/<version>                 the active one, switched by one rename
    <bank>/history.jsonl                                 every switch: init, commit, rollback, recovered
    <bank>/working/<skill>/...                           an editable copy (see working.py)

A version is first written beside the others under a hidden name, then renamed, then made active. Until the last of
these a reader sees the old version, from then on the new one. What a dead writer left is cleaned up by the next one.
"""

import difflib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .bank import MANIFEST, Bank, Manifest, SkillStamp, make_manifest, manifest_bytes, read_manifest
from .errors import BankError, VersionNotFound
from .files import (
    BankFiles,
    bank_hash,
    read_bank_files,
    replace_durably,
    skill_hash,
    sync_folder,
    write_bank_files,
    write_durably,
)
from .frontmatter import NAME_PATTERN
from .lock import write_lock
from .problems import Problem
from .skillmd import parse_skill
from .validate import SKILL_FILE, is_ignored, problems_in_bank, problems_in_skill
from .working import base_version, merge, reset, sync

logger = logging.getLogger(__name__)

CURRENT, VERSIONS, HISTORY, WORKING = "current", "versions", "history.jsonl", "working"
_STAGED = ".new-"

Event = Literal["init", "commit", "rollback", "recovered"]


NewSkills = Path | Mapping[str, Mapping[str, bytes]] | Mapping[str, Mapping[str, str]]
"""Skills for a new version: a folder of them, or their files by skill and path."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VersionInfo(_Frozen):
    """One version in the history of a bank."""

    version: str
    hash: str
    parent: str | None
    created: str = Field(description="ISO 8601, UTC.")
    note: str = Field(description="Why it was written.")
    skills: int = Field(description="Number of skills in it.")
    active: bool


class Switch(_Frozen):
    """One line of `history.jsonl`: when which version became active, and why."""

    event: Event
    version: str
    previous: str | None
    at: str
    reason: str


class BankDiff(_Frozen):
    """What differs between two versions."""

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, str] = Field(description="Unified diff of every skill's files, by skill.")


class Adoption(_Frozen):
    """What became of the edits in the working folder."""

    version: VersionInfo | None = Field(description="The version made from them, or None where there was nothing.")
    problems: tuple[Problem, ...] = Field(description="What was held back, and why.")


class BankStore:
    """The versions in one bank folder. Reading needs no lock; writers take turns."""

    def __init__(self, root: Path, shipped: Path | None = None) -> None:
        """Take the bank's folder and, for a bank not yet written to, the folder that stands in for it till then."""
        self.root = root
        self._shipped = shipped

    # --- reading ----------------------------------------------------------------------------------------------------

    @property
    def initialised(self) -> bool:
        """Whether the folder holds versions."""
        return (self.root / CURRENT).is_symlink() or (self.root / HISTORY).is_file()

    @property
    def working(self) -> Path:
        """The folder in which a person edits skills."""
        return self.root / WORKING

    def active(self) -> str:
        """Return the active version."""
        return _label(self.active_folder())

    def active_folder(self) -> Path:
        """Return the folder of the active version: immutable, so safe to read while others write.

        Raises:
            BankError: There is none.
        """
        if self.initialised:
            folder = self._pointed()
            if folder is None:
                raise BankError(f"{self.root / CURRENT} points to nothing. Run `esc-skills bank rollback VERSION`.")
            return folder
        if self._shipped is not None:
            return self._shipped
        raise BankError(f"There is no bank in {self.root}. Run `esc-skills bank init`.")

    def folder(self, version: str) -> Path:
        """Return the folder of a version.

        Raises:
            VersionNotFound: It is not in the history.
        """
        if version not in self._versions():
            raise VersionNotFound(version, self._versions())
        return self.root / VERSIONS / version if self.initialised else self.active_folder()

    def load(self, version: str | None = None, previous: Bank | None = None) -> Bank:
        """Load a version (default: the active one); skills equal to those of `previous` are taken from there.

        Raises:
            VersionNotFound: It is not in the history.
            BankError: It is not as it was written.
        """
        folder = self.active_folder() if version is None else self.folder(version)
        bank = Bank.load(folder, previous)
        if self.initialised and (bank.manifest is None or bank.manifest.hash != bank.hash):
            raise BankError(
                f"{folder} was changed after it was written. Put your edits into {self.working}, and run "
                "`esc-skills bank rollback VERSION` with another version of `esc-skills bank history`."
            )
        return bank

    def history(self) -> list[VersionInfo]:
        """Return the versions, newest first."""
        active = self._pointed() if self.initialised else self.active_folder()
        folders = [self.folder(version) for version in self._versions()]
        return [_info(folder, active=folder == active) for folder in folders]

    def switches(self) -> list[Switch]:
        """Return every change of the active version, oldest first. A line torn by a crash is left out."""
        path = self.root / HISTORY
        found = []
        for line in path.read_text(encoding="utf-8").split("\n") if path.is_file() else ():
            try:
                found.append(Switch.model_validate_json(line))
            except ValidationError:
                continue
        return found

    def diff(self, before: str, after: str) -> BankDiff:
        """Return what differs between two versions.

        Raises:
            VersionNotFound: One of them is not in the history.
        """
        old, new = read_bank_files(self.folder(before)), read_bank_files(self.folder(after))
        changed = {
            name: _text_diff(name, old[name], new[name]) for name in old if name in new and old[name] != new[name]
        }
        added, removed = sorted(set(new) - set(old)), sorted(set(old) - set(new))
        return BankDiff(before=before, after=after, added=tuple(added), removed=tuple(removed), changed=changed)

    def export(self, target: Path, version: str | None = None) -> int:
        """Copy the skills of a version into a new or empty folder; return their number.

        Raises:
            VersionNotFound: It is not in the history.
            BankError: The folder holds something.
        """
        source = self.active_folder() if version is None else self.folder(version)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise BankError(f"{target} is not empty. Name a new folder.")
        skills = read_bank_files(source)
        target.mkdir(parents=True, exist_ok=True)
        write_bank_files(target, skills, lambda _: None)
        if (source / MANIFEST).is_file():
            shutil.copyfile(source / MANIFEST, target / MANIFEST)
        return len(skills)

    # --- writing ----------------------------------------------------------------------------------------------------

    def init_from(self, folder: Path, reason: str | None = None) -> VersionInfo:
        """Make the skills in `folder` the first version.

        Raises:
            BankError: There are versions already, or the skills have problems.
        """
        with self._writing():
            if self.initialised:
                raise BankError(f"{self.root} is a bank already. Use `esc-skills bank commit` to add a version.")
            return self._init(folder, reason or f"copied from bank {_label(folder)}")

    def commit(self, skills: NewSkills, *, reason: str, parent: str | None = None) -> VersionInfo:
        """Make `skills` (a folder, or files by skill and path) the active version.

        A bank that was never written to is first copied from the shipped one. Skills equal to the active version's
        make no new version.

        Args:
            skills: All skills of the new version.
            reason: Why, for the history.
            parent: The version the skills were made from; refused if another became active since.

        Raises:
            BankError: The skills have problems, or `parent` is no longer active.
            BankLocked: Another process is writing.
        """
        files = read_bank_files(skills) if isinstance(skills, Path) else _as_bytes(skills)
        with self._writing():
            self._ensure()
            if parent is not None and parent != self.active():
                raise BankError(
                    f"The bank moved on from {parent} to {self.active()}. Make the change from {self.active()} again."
                )
            return self._commit(files, "commit", reason)

    def rollback(self, to: str) -> VersionInfo:
        """Make an earlier (or later) version the active one again.

        Raises:
            VersionNotFound: It is not in the history.
            BankError: Its files are not as they were written.
        """
        with self._writing():
            if not self.initialised:
                raise VersionNotFound(to, self._versions())
            bank = Bank.load(self.folder(to))
            if bank.manifest is None or bank.manifest.hash != bank.hash:
                raise BankError(f"{self.folder(to)} was changed after it was written. Roll back to another version.")
            if self._pointed() != self.folder(to):
                self._switch(to, "rollback", f"rolled back to {to}")
            return _info(self.folder(to), active=True)

    def adopt_working(self, reason: str = "edited by hand", *, keep_mine: bool = False) -> Adoption:
        """Make a version of what was edited in the working folder; skills with problems are held back.

        Args:
            reason: Why, for the history.
            keep_mine: Where an edited skill was also changed by a newer version, take the edit.

        Raises:
            BankLocked: Another process is writing.
        """
        if not self.initialised or not self.working.is_dir():
            return Adoption(version=None, problems=())
        merged = merge(self, keep_mine=keep_mine)
        if not merged.changes:
            return Adoption(version=None, problems=merged.problems)  # nothing is written, not even the lock
        with self._writing():
            merged = merge(self, keep_mine=keep_mine)
            version = self._commit(merged.skills, "commit", reason)
            return Adoption(version=version, problems=merged.problems)

    def reset_working(self) -> None:
        """Throw the edits in the working folder away.

        Raises:
            BankError: The bank was never written to.
        """
        if not self.initialised:
            raise BankError(f"There is no bank in {self.root} yet. Run `esc-skills bank init`.")
        with self._writing():
            reset(self, self._step)

    # --- steps of a writer ------------------------------------------------------------------------------------------

    def _step(self, name: str) -> None:
        """Called before every step that changes the disk; the crash test overrides it to die there."""
        logger.debug("bank store: %s", name)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with write_lock(self.root):
                self._clean_up()
                yield
        except OSError as error:
            fix = "Check its permissions and the space left, or set ESC_BANK_DIR."
            raise BankError(f"The bank folder {self.root} cannot be written: {error}. {fix}") from error

    def _ensure(self) -> None:
        if self.initialised:
            return
        if self._shipped is None:
            raise BankError(f"There is no bank in {self.root}. Run `esc-skills bank init`.")
        self._init(self._shipped, f"copied from the shipped bank {_label(self._shipped)}")

    def _init(self, folder: Path, reason: str) -> VersionInfo:
        return self._commit(read_bank_files(folder), "init", reason)

    def _commit(self, skills: BankFiles, event: Event, reason: str) -> VersionInfo:
        """Write, check, name and activate one version. What the active version holds has been checked before."""
        pointed = self._pointed()
        before = _manifest(pointed) if pointed is not None else None
        known = before.skills if before is not None else {}
        hashes = {name: skill_hash(skills[name]) for name in sorted(skills)}
        total = bank_hash(hashes)
        if pointed is not None and before is not None and before.hash == total:
            return _info(pointed, active=True)
        staged = self.root / VERSIONS / f"{_STAGED}{os.getpid()}"
        staged.mkdir(parents=True)
        write_bank_files(staged, skills, self._step)
        changed = [name for name in hashes if name not in known or known[name].hash != hashes[name]]
        problems = [problem for name in changed for problem in problems_in_skill(staged / name)]
        if problems or not hashes:
            problems = problems or problems_in_bank(staged)
            shutil.rmtree(staged)
            raise BankError("The skills have problems:\n" + "\n".join(f"  {problem}" for problem in problems))
        stamps = {name: known.get(name) for name in hashes} | {
            name: SkillStamp(version=_skill_version(skills[name]), hash=hashes[name]) for name in changed
        }
        version = f"v{self._next_number():04d}-{total[:8]}"
        self._step("manifest")
        manifest = Manifest(
            version=version,
            hash=total,
            parent=before.version if before is not None else None,
            created=_now(),
            provenance=reason,
            skills={name: stamp for name, stamp in stamps.items() if stamp is not None},
        )
        write_durably(staged / MANIFEST, manifest_bytes(manifest))
        sync_folder(staged)
        self._step("rename")
        os.rename(staged, self.root / VERSIONS / version)
        sync_folder(self.root / VERSIONS)
        self._switch(version, event, reason)
        return _info(self.root / VERSIONS / version, active=True)

    def _switch(self, version: str, event: Event, reason: str) -> None:
        pointed = self._pointed()
        previous = pointed.name if pointed else None
        link = self.root / f".{CURRENT}-{os.getpid()}"
        self._step("link")
        os.symlink(os.path.join(VERSIONS, version), link)
        self._step("switch")
        os.replace(link, self.root / CURRENT)
        sync_folder(self.root)
        self._record(Switch(event=event, version=version, previous=previous, at=_now(), reason=reason))
        sync(self, self._step)

    def _record(self, switch: Switch) -> None:
        self._step("record")
        with (self.root / HISTORY).open("ab") as file:
            file.write((switch.model_dump_json() + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def _clean_up(self) -> None:
        """Take away what a writer that died left behind, and finish what it could not."""
        for leftover in (*self.root.glob(f".{CURRENT}-*"), *self.root.glob(f"{VERSIONS}/{_STAGED}*")):
            leftover.unlink() if leftover.is_symlink() else shutil.rmtree(leftover)
        path = self.root / HISTORY
        if path.is_file() and not path.read_bytes().endswith(b"\n"):
            lines = "".join(switch.model_dump_json() + "\n" for switch in self.switches())
            replace_durably(path, lines.encode())
        pointed = self._pointed()
        if pointed is None:
            return
        switches = self.switches()
        last = switches[-1].version if switches else None
        if pointed.name != last:
            reason = "the writer of this version ended before it could record it"
            self._record(Switch(event="recovered", version=pointed.name, previous=last, at=_now(), reason=reason))
        newest = max(_number(version) for version in self._versions())
        for folder in (self.root / VERSIONS).iterdir():
            if _number(folder.name) > newest:  # written in full, never made active
                shutil.rmtree(folder)
        if base_version(self) != pointed.name:
            sync(self, self._step)

    def _pointed(self) -> Path | None:
        """Return the folder that `current` points to, or None."""
        link = self.root / CURRENT
        folder = self.root / os.readlink(link) if link.is_symlink() else None
        return folder if folder is not None and folder.is_dir() else None

    def _versions(self) -> list[str]:
        """Return the versions that were ever active, newest first."""
        if not self.initialised:
            return [_label(self._shipped)] if self._shipped is not None else []
        pointed = self._pointed()
        known = {switch.version for switch in self.switches()} | ({pointed.name} if pointed else set())
        present = {folder.name for folder in (self.root / VERSIONS).iterdir()}
        return sorted(known & present, key=_number, reverse=True)

    def _next_number(self) -> int:
        return max((_number(folder.name) for folder in (self.root / VERSIONS).glob("v*")), default=0) + 1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _skill_version(files: Mapping[str, bytes]) -> str:
    return parse_skill(files[SKILL_FILE].decode()).version


def _number(version: str) -> int:
    digits = version.removeprefix("v").split("-")[0]
    return int(digits) if digits.isdigit() else 0


def _manifest(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None:
        raise BankError(f"{folder} has no {MANIFEST}. Roll back to another version.")
    return manifest


def _label(folder: Path) -> str:
    """Return the version of a snapshot, which is its name, or of a bank outside the store."""
    return folder.name if folder.parent.name == VERSIONS else Bank.load(folder).version


def _info(folder: Path, *, active: bool) -> VersionInfo:
    manifest = read_manifest(folder)
    if manifest is None or folder.parent.name != VERSIONS:
        bank = Bank.load(folder)
        made = make_manifest(bank, bank.version, parent=None, provenance="not versioned")
        manifest = (
            made if manifest is None else manifest.model_copy(update={"version": bank.version, "hash": bank.hash})
        )
    return VersionInfo(
        version=manifest.version,
        hash=manifest.hash,
        parent=manifest.parent,
        created=manifest.created,
        note=manifest.provenance,
        skills=len(manifest.skills),
        active=active,
    )


def _as_bytes(
    skills: Mapping[str, Mapping[str, bytes]] | Mapping[str, Mapping[str, str]],
) -> dict[str, dict[str, bytes]]:
    """Return the files as bytes, once every name and path is known to stay inside the bank."""
    for name, files in skills.items():
        if not NAME_PATTERN.fullmatch(name):
            raise BankError(f"{name!r} is no skill name. Use a-z, 0-9 and single hyphens.")
        for path in files:
            parts = path.split("/")
            if "\\" in path or any(part in {"", ".", ".."} or is_ignored(part) for part in parts):
                raise BankError(f"{name}: {path!r} is no path of a skill's file. Use e.g. 'references/notes.md'.")
    return {
        name: {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        for name, files in skills.items()
    }


def _text_diff(name: str, old: Mapping[str, bytes], new: Mapping[str, bytes]) -> str:
    parts = []
    for path in sorted({*old, *new}):
        before, after = old.get(path, b""), new.get(path, b"")
        if before == after:
            continue
        try:
            lines = difflib.unified_diff(
                before.decode().splitlines(),
                after.decode().splitlines(),
                f"{name}/{path}" if path in old else "/dev/null",
                f"{name}/{path}" if path in new else "/dev/null",
                lineterm="",
            )
            parts.append("\n".join(lines))
        except UnicodeDecodeError:
            parts.append(f"Binary file {name}/{path} differs")
    return "\n".join(parts)
