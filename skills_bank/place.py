"""Where the bank that is served lies: in the package, in a plain folder of skills, or in a store with versions."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path, user_data_path

from .bank import Bank
from .errors import BankError
from .problems import Problem
from .settings import Settings, Shipped
from .store import Adoption, BankStore, NewSkills, VersionInfo
from .validate import SKILL_FILE, is_ignored

APP = "esc-skills"
Kind = Literal["shipped", "plain", "store"]
_FOLDERS: dict[Shipped, str] = {"S0": "skills", "S1": "skills_s1"}


class PlainFolder(BankStore):
    """A folder of skills without versions: served as it is, edits are live in place, nothing can be rolled back."""

    @property
    def initialised(self) -> bool:
        """Always False: there are no versions."""
        return False

    @property
    def working(self) -> Path:
        """The folder itself."""
        return self.root

    def active_folder(self) -> Path:
        """Return the folder itself."""
        return self.root

    def adopt_working(self, reason: str = "edited by hand", *, keep_mine: bool = False) -> Adoption:
        """Do nothing: edits are live in place."""
        return Adoption(version=None, problems=())

    def rollback(self, to: str) -> VersionInfo:
        """Refuse: there are no versions."""
        raise self._unversioned()

    def commit(self, skills: NewSkills, *, reason: str, parent: str | None = None) -> VersionInfo:
        """Refuse: the folder is the user's own."""
        raise self._unversioned()

    def init_from(self, folder: Path, reason: str | None = None) -> VersionInfo:
        """Refuse: the folder is the user's own."""
        raise self._unversioned()

    def reset_working(self) -> None:
        """Refuse: there is nothing to go back to."""
        raise self._unversioned()

    def _unversioned(self) -> BankError:
        return BankError(
            f"{self.root} is a plain folder of skills without versions. For versions set ESC_BANK_DIR to a new folder "
            f"and run `esc-skills bank init --from {self.root}`."
        )


@dataclass(frozen=True)
class BankPlace:
    """One bank on disk. `root` is the folder a writer would write to, `shipped` the package's read-only bank."""

    kind: Kind
    root: Path
    shipped: Path

    def store(self) -> BankStore:
        """Return the bank's versions; a plain folder answers too, and refuses what needs versions."""
        if self.kind == "plain":
            return PlainFolder(self.root, shipped=self.root)
        return BankStore(self.root, shipped=self.shipped)

    def read(self, previous: Bank | None = None) -> tuple[Bank, list[Problem]]:
        """Return what can be served now, and the problems of what cannot.

        In a store the edits of the working folder first become a version; edits with problems are held back.

        Raises:
            BankError: Nothing can be served.
        """
        if self.kind != "store" and not self._became_store():
            return Bank.load_lenient(self.shipped if self.kind == "shipped" else self.root, previous)
        store = self.store()
        try:
            problems = list(store.adopt_working().problems)
        except BankError as error:
            fix = "Free the folder; the edits are taken over at the next change."
            problems = [Problem(file="working", field="bank", message=str(error), fix=fix)]
        if previous is not None and previous.version == store.active():
            return previous, problems
        return store.load(previous=previous), problems

    def watched(self) -> list[Path]:
        """Return the folders whose changes matter, all of which exist.

        Where the shipped bank is served the user's folder is made, empty, so that its first version is noticed.
        """
        if self.kind == "shipped":
            with suppress(OSError):
                self.root.mkdir(parents=True, exist_ok=True)
            return [path for path in (self.shipped, self.root) if path.is_dir()]
        return [self.root]

    def index_folder(self) -> Path:
        """Return where the index lies: beside a store, else in the user's cache."""
        if self.kind == "store" or self._became_store():
            return self.root / "index"
        home = self.shipped if self.kind == "shipped" else self.root
        return user_cache_path(APP) / "index" / hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]

    def _became_store(self) -> bool:
        """Whether the first write has happened since this place was found."""
        return self.kind == "shipped" and BankStore(self.root).initialised


def shipped_bank(name: Shipped = "S0") -> Path:
    """Return a bank in the package: S0, induced from labelled dialogues, or S1, which evolved from it."""
    return Path(str(files("esc_skills.skills_bank").joinpath(_FOLDERS[name])))


def default_bank_dir() -> Path:
    """Return the user's bank folder."""
    return user_data_path(APP) / "bank"


def find_bank(bank_dir: Path | None = None, shipped: Path | None = None) -> BankPlace:
    """Return the bank to serve.

    Args:
        bank_dir: `ESC_BANK_DIR`; default the user's data folder. A store or a folder of skills is used as it is; where
            nothing is yet, the shipped bank is served, and copied there by the first write.
        shipped: The read-only bank; default the one in the package that `ESC_SHIPPED_BANK` names.

    Raises:
        BankError: The folder holds something else.
    """
    root = (bank_dir or default_bank_dir()).expanduser().absolute()
    shipped = shipped or shipped_bank(Settings().shipped_bank)
    if BankStore(root).initialised:
        return BankPlace("store", root, shipped)
    if root.exists() and not root.is_dir():
        raise BankError(f"ESC_BANK_DIR: {root} is a file. Name a folder.")
    present = [path for path in root.iterdir() if not is_ignored(path.name)] if root.is_dir() else []
    if any((path / SKILL_FILE).is_file() for path in present):
        return BankPlace("plain", root, shipped)
    if present and {path.name for path in present} - {"versions", "working", "index"}:
        raise BankError(
            f"ESC_BANK_DIR: {root} holds neither skills nor a bank. Name a folder of skills or an empty one."
        )
    return BankPlace("shipped", root, shipped)
