"""The editable copy of a bank: `<bank>/working/<skill>/...`.

`working/.base` names the version the copy was made from, so that an edit is what differs from that version. Every file
is in one of four cases (edited or not, changed by a newer version or not), decided from the three texts alone; a crash
half-way through bringing the copy up to date therefore changes no decision.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import BankError
from .files import BankFiles, read_bank_files, read_skill_files, replace_durably
from .problems import Problem
from .validate import SKILL_FILE, problems_in_skill, skill_folders

if TYPE_CHECKING:
    from .store import BankStore

_BASE = ".base"

_Flat = dict[tuple[str, str], bytes]


class Merge(NamedTuple):
    """The active version with the edits of the working folder over it."""

    skills: BankFiles
    edited: bool
    """Whether the working folder differs from its base in anything the active version does not already have."""
    changes: bool
    """Whether `skills` differs from the active version."""
    problems: tuple[Problem, ...]


def merge(store: "BankStore", *, keep_mine: bool = False) -> Merge:
    """Return the active version with the edits over it; an edited skill with problems keeps the active text."""
    base, active, mine = _base(store), _flat(read_bank_files(store.active_folder())), _read_working(store.working)
    merged, problems = dict(active), []
    edited: dict[str, list[tuple[str, str]]] = {}
    for key in _edits(base, active, mine):
        edited.setdefault(key[0], []).append(key)
    for name, keys in edited.items():
        clash = [path for path in keys if base.get(path) != active.get(path)]
        gone = not (store.working / name).exists()
        found = [] if gone else problems_in_skill(store.working / name)
        if clash and not keep_mine:
            found.append(_clash(name, clash[0][1], store.active()))
        if found:
            problems += found
            continue
        for key in keys:
            if key in mine:
                merged[key] = mine[key]
            else:
                merged.pop(key, None)
    return Merge(_nested(merged), bool(edited), merged != active, tuple(problems))


def sync(store: "BankStore", step: Callable[[str], None]) -> None:
    """Bring every file that was not edited up to the active version."""
    base, active, mine = _base(store), _flat(read_bank_files(store.active_folder())), _read_working(store.working)
    edits = set(_edits(base, active, mine))
    for key in sorted({*base, *active, *mine} - edits):
        _set(store.working, key, active.get(key), mine.get(key), step)
    if all(base.get(key) == active.get(key) for key in edits):
        _mark(store, step)


def reset(store: "BankStore", step: Callable[[str], None]) -> None:
    """Make the working folder equal to the active version."""
    active, mine = _flat(read_bank_files(store.active_folder())), _read_working(store.working)
    for key in sorted({*active, *mine}):
        _set(store.working, key, active.get(key), mine.get(key), step)
    _mark(store, step)


def _edits(base: _Flat, active: _Flat, mine: _Flat) -> Iterator[tuple[str, str]]:
    """Yield the files that a person changed and that the active version does not have in that form."""
    for key in sorted({*base, *active, *mine}):
        if mine.get(key) not in {base.get(key), active.get(key)}:
            yield key


def base_version(store: "BankStore") -> str | None:
    """Return the version that the working folder was made from."""
    path = store.working / _BASE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _base(store: "BankStore") -> _Flat:
    version = base_version(store)
    folder = store.root / "versions" / version if version else None
    return _flat(read_bank_files(folder)) if folder is not None and folder.is_dir() else {}


def _read_working(folder: Path) -> _Flat:
    flat: _Flat = {}
    for path in skill_folders(folder):
        try:
            flat |= {(path.name, file): content for file, content in read_skill_files(path).items()}
        except BankError:  # a link or a huge file: `problems_in_skill` names it, here it only has to count as an edit
            flat[path.name, SKILL_FILE] = b""
    return flat


def _set(folder: Path, key: tuple[str, str], wanted: bytes | None, present: bytes | None, step: Callable[[str], None]
         ) -> None:  # fmt: skip
    if wanted == present:
        return
    step("working")
    path = folder / key[0] / key[1]
    if wanted is None:
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == folder or any(parent.iterdir()):
                break
            parent.rmdir()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(path, wanted)


def _mark(store: "BankStore", step: Callable[[str], None]) -> None:
    step("working base")
    store.working.mkdir(exist_ok=True)
    replace_durably(store.working / _BASE, f"{store.active()}\n".encode())


def _clash(name: str, path: str, active: str) -> Problem:
    return Problem(
        file=f"working/{name}/{path}",
        field="working",
        message=f"You and version {active} both changed this file.",
        fix="Run `esc-skills bank adopt --keep-mine` to take yours, or `esc-skills bank reset` to drop your edits.",
    )


def _flat(skills: BankFiles) -> _Flat:
    return {(name, path): content for name, files in skills.items() for path, content in files.items()}


def _nested(flat: _Flat) -> dict[str, dict[str, bytes]]:
    nested: dict[str, dict[str, bytes]] = {}
    for (name, path), content in flat.items():
        nested.setdefault(name, {})[path] = content
    return nested
