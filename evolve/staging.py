"""A bank with candidates in it, as a plain folder that can be simulated before anything is committed.

The folder appears at once, with the vectors of what it has in common with its parent beside it, hidden. Equal content
is written once only.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..simulator.sources import BankRef
from ..skills_bank.bank import Bank
from ..skills_bank.errors import BankError
from ..skills_bank.files import bank_hash, skill_hash, sync_folder, write_bank_files
from ..skills_bank.frontmatter import NAME_PATTERN
from ..skills_bank.validate import SKILL_FILE, is_ignored, problems_in_bank
from .models import Candidate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..skills_bank.index import Facets, TextEncoder

INDEX = ".index"


def stage(parent: BankRef, candidates: Sequence[Candidate], folder: Path, *, without: Sequence[str] = ()) -> BankRef:
    """Write all skills of `parent`, with the candidates' files in place, to `folder`.

    Args:
        parent: The bank they are made from.
        candidates: Texts that take the place of skills, or come beside them. Their files are the whole skill.
        folder: Where; made at once. One that holds the same bank already is left as it is.
        without: Skills to leave out.

    Raises:
        BankError: The parent is no longer what it was, a candidate does not fit, the result has problems, or the folder
            holds something else.
    """
    skills = _skills(parent, candidates, without)
    total = bank_hash({name: skill_hash(files) for name, files in skills.items()})
    if not folder.exists():
        _write(folder, skills, parent.index)
    bank = Bank.load(folder)
    if bank.hash != total:
        raise BankError(f"{folder} holds another bank. Name a new folder.")
    return BankRef(folder, folder / INDEX, bank.version, bank.hash)


def warm(ref: BankRef) -> None:
    """Bring the vectors of a bank's facets up to it, once, before several processes read them."""
    facets_in(ref)


def facets_in(ref: BankRef) -> "Facets":
    """Return the facets of a bank with their vectors, and keep those that are new.

    Each text is embedded by itself: the quantised encoder rounds over all texts of a run, and a vector must not depend
    on what else was changed in the same candidate.
    """
    from ..simulator.casting import shared_reader
    from ..simulator.sources import PREBUILT
    from ..skills_bank.index import FacetIndex
    from ..skills_bank.place import shipped_bank

    prebuilt = shipped_bank().parent / PREBUILT
    return FacetIndex.open(ref.index, _OneByOne(shared_reader()), prebuilt=prebuilt).matrix(Bank.load(ref.folder))


class _OneByOne:
    """A text encoder that looks at one text at a time."""

    def __init__(self, encoder: "TextEncoder") -> None:
        self._encoder = encoder
        self.version = encoder.version

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        return np.concatenate([self._encoder.embed([text]) for text in texts])


def _skills(parent: BankRef, candidates: Sequence[Candidate], without: Sequence[str]) -> dict[str, dict[str, bytes]]:
    bank = Bank.load(parent.folder)
    if bank.hash != parent.hash:
        raise BankError(f"The bank {parent.folder} was changed since the run began. Start another run.")
    skills = {name: dict(files) for name, files in bank.contents.items()}
    for name in [*without, *(candidate.replaces for candidate in candidates if candidate.replaces)]:
        if skills.pop(name, None) is None:
            raise BankError(f"There is no skill {name!r} to leave out or replace, or it is replaced twice.")
    for candidate in candidates:
        if candidate.skill in skills:
            raise BankError(f"{candidate.id}: the bank has a skill {candidate.skill!r} already. Give it another name.")
        skills[candidate.skill] = _files(candidate)
    return dict(sorted(skills.items()))


def _files(candidate: Candidate) -> dict[str, bytes]:
    if not NAME_PATTERN.fullmatch(candidate.skill):
        raise BankError(f"{candidate.id}: {candidate.skill!r} is no skill name. Use a-z, 0-9 and single hyphens.")
    if SKILL_FILE not in candidate.files:
        raise BankError(f"{candidate.id}: it has no {SKILL_FILE}.")
    for path in candidate.files:
        if "\\" in path or any(part in {"", ".", ".."} or is_ignored(part) for part in path.split("/")):
            raise BankError(f"{candidate.id}: {path!r} is no path of a skill's file. Use e.g. 'references/notes.md'.")
    return {path: text.encode() for path, text in sorted(candidate.files.items())}


def _write(folder: Path, skills: dict[str, dict[str, bytes]], index: Path) -> None:
    from ..skills_bank.index import VECTORS

    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*.new"):  # by a writer that was killed
        shutil.rmtree(left)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    beside.mkdir()
    write_bank_files(beside, skills, lambda _: None)
    if problems := problems_in_bank(beside):
        shutil.rmtree(beside)
        raise BankError("The skills have problems:\n" + "\n".join(f"  {problem}" for problem in problems))
    if (index / VECTORS).is_file():
        (beside / INDEX).mkdir()
        shutil.copyfile(index / VECTORS, beside / INDEX / VECTORS)
    os.rename(beside, folder)
    sync_folder(folder.parent)
