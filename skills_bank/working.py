"""The editable copy of a bank: `<bank>/working/<skill>/...`.

`working/.base` names the version the copy was made from, so that an edit is what differs from that version. What
is an edit, and what a newer version changed, is decided from the texts of base, active version and copy alone; a crash
half-way through bringing the copy up to date therefore changes no decision. Skills are taken over as a whole.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import BankError
from .files import BankFiles, read_bank_files, read_skill_files, replace_durably, sync_all
from .problems import Problem
from .validate import SKILL_FILE, problems_in_skill, skill_folders

if TYPE_CHECKING:
    from .store import BankStore

_BASE = ".base"

_Flat = dict[tuple[str, str], bytes]


class Merge(NamedTuple):
    """The active version with the edits of the working folder over it."""

    skills: BankFiles
    changes: bool
    """Whether `skills` differs from the active version."""
    problems: tuple[Problem, ...]


def merge(store: "BankStore", *, keep_mine: bool = False) -> Merge:
    """Return the active version with the edited skills over it; one with problems keeps the active text."""
    base, active, mine = _base(store), _flat(read_bank_files(store.active_folder())), _read_working(store.working)
    skills, edited, problems = _nested(active), _nested(mine), list[Problem]()
    for name in sorted({name for name, _ in _edits(base, active, mine)}):
        found = problems_in_skill(store.working / name) if name in edited else []
        if not keep_mine and _moved_on(name, base, active):
            found.append(_clash(name, store.active()))
        if found:
            problems += found
        elif name in edited:
            skills[name] = edited[name]
        else:
            skills.pop(name, None)
    if not skills:
        problems.append(_empty())
        skills = _nested(active)
    return Merge(skills, _flat(skills) != active, tuple(problems))


def sync(store: "BankStore", step: Callable[[str], None]) -> None:
    """Bring every file that was not edited up to the active version."""
    base, active, mine = _base(store), _flat(read_bank_files(store.active_folder())), _read_working(store.working)
    edits = set(_edits(base, active, mine))
    _bring(store.working, active, mine, sorted({*base, *active, *mine} - edits), step)
    if not any(_moved_on(name, base, active) for name in {name for name, _ in edits}):
        _mark(store, step)


def reset(store: "BankStore", step: Callable[[str], None]) -> None:
    """Make the working folder equal to the active version."""
    active, mine = _flat(read_bank_files(store.active_folder())), _read_working(store.working)
    _bring(store.working, active, mine, sorted({*active, *mine}), step)
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


def _bring(folder: Path, wanted: _Flat, present: _Flat, keys: Iterable[tuple[str, str]], step: Callable[[str], None]
           ) -> None:  # fmt: skip
    """Make the files `keys` of the working folder what they are in `wanted`."""
    touched: set[Path] = set()
    for key in keys:
        if wanted.get(key) == present.get(key):
            continue
        step("working")
        path = folder / key[0] / key[1]
        if key in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{path.name}.tmp")
            beside.write_bytes(wanted[key])
            os.replace(beside, path)
            touched |= {path, path.parent, folder}
        else:
            path.unlink(missing_ok=True)
            _drop_empty(path.parent, folder)
    sync_all(path for path in touched if path.exists())


def _drop_empty(folder: Path, top: Path) -> None:
    while folder != top and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _mark(store: "BankStore", step: Callable[[str], None]) -> None:
    step("working base")
    store.working.mkdir(exist_ok=True)
    replace_durably(store.working / _BASE, f"{store.active()}\n".encode())


def _moved_on(name: str, base: _Flat, active: _Flat) -> bool:
    """Whether a newer version changed the skill."""
    return any(base.get(key) != active.get(key) for key in {*base, *active} if key[0] == name)


def _clash(name: str, active: str) -> Problem:
    return Problem(
        file=f"working/{name}",
        field="working",
        message=f"You and version {active} both changed this skill.",
        fix="Run `esc-skills bank adopt --keep-mine` to take yours, or `esc-skills bank reset` to drop your edits.",
    )


def _empty() -> Problem:
    return Problem(
        file="working", field="bank", message="No skill is left.", fix="Keep one, or run `esc-skills bank reset`."
    )


def _flat(skills: BankFiles) -> _Flat:
    return {(name, path): content for name, files in skills.items() for path, content in files.items()}


def _nested(flat: _Flat) -> dict[str, dict[str, bytes]]:
    nested: dict[str, dict[str, bytes]] = {}
    for (name, path), content in flat.items():
        nested.setdefault(name, {})[path] = content
    return nested
