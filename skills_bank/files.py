"""Skill folders as plain bytes: read them, hash them, write them so that they survive a crash."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from .errors import BankError
from .validate import MAX_FILE_BYTES, SKILL_FILE, is_ignored

SkillFiles = Mapping[str, bytes]
"""The files of one skill by POSIX path, SKILL.md among them."""
BankFiles = Mapping[str, SkillFiles]
"""The files of every skill by name."""


def read_skill_files(folder: Path) -> dict[str, bytes]:
    """Return the files of one skill, in order of path; hidden and editor files are left out.

    Raises:
        BankError: The folder holds a symbolic link or a file too large for a skill.
    """
    found: dict[str, bytes] = {}
    _read_into(found, str(folder), "")
    return dict(sorted(found.items()))


def _read_into(found: dict[str, bytes], folder: str, prefix: str) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if is_ignored(entry.name):
                continue
            if entry.is_symlink():
                raise BankError(f"{folder}: {path} is a symbolic link. Put the file itself there.")
            if entry.is_dir():
                _read_into(found, entry.path, path + "/")
                continue
            with open(entry.path, "rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
            if len(content) > MAX_FILE_BYTES:
                raise BankError(f"{folder}: {path} is larger than {MAX_FILE_BYTES} bytes. Keep such files elsewhere.")
            found[path] = content


def read_bank_files(folder: Path) -> dict[str, dict[str, bytes]]:
    """Return the files of every folder in `folder` that holds a SKILL.md."""
    if not folder.is_dir():
        raise BankError(f"There is no folder {folder}. Name a folder of skills.")
    names = sorted(path.name for path in folder.iterdir() if not is_ignored(path.name))
    return {name: read_skill_files(folder / name) for name in names if (folder / name / SKILL_FILE).is_file()}


def skill_hash(files: SkillFiles) -> str:
    """Return the sha256 over the paths and contents of one skill's files."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path}\0{hashlib.sha256(files[path]).hexdigest()}\n".encode())
    return digest.hexdigest()


def bank_hash(hashes: Mapping[str, str]) -> str:
    """Return the sha256 over the names and hashes of a bank's skills."""
    return hashlib.sha256("".join(f"{name}\0{hashes[name]}\n" for name in sorted(hashes)).encode()).hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    """Replace a file as a whole: a reader, or a crash, sees the old or the new content."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_durably(beside, content)
    os.replace(beside, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bank_files(folder: Path, skills: BankFiles, before_each: Callable[[str], None]) -> None:
    """Write `skills` under `folder` (which exists) and wait until all is on the disk."""
    written: list[Path] = []
    folders = {folder}
    for name, files in skills.items():
        for path, content in files.items():
            before_each("write")
            target = folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            folders |= {target.parent, folder / name}
            target.write_bytes(content)
            written.append(target)
    before_each("flush")
    sync_all([*written, *folders])


def sync_all(paths: Iterable[Path]) -> None:
    """Wait until files and folders are on the disk; after many writes this is faster than after each."""
    for path in paths:
        if path.is_dir():
            sync_folder(path)
        else:
            _sync(path)
