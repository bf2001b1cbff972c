"""Where an agent gets skills from: the bank in this process, or (`agent_mcp.py`) the tools of a server."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from ..skills_bank.bank import Bank
from ..skills_bank.errors import BankError, SkillNotFound
from ..skills_bank.models import Message
from ..skills_bank.results import Selection

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.select import Selector
    from .reader import Reader

PREBUILT = Path("model") / "vectors.npz"
"""Vectors of the shipped bank, beside the encoder that made them."""
SKILLS = 3
"""Skills asked for at each turn; the most that one reply can use."""


class SkillSource(Protocol):
    """Answers as the server's `select_skill` and `read_skill` do."""

    async def select(self, talk: Sequence[Message]) -> Selection:
        """Return risk, states and the skills that fit the talk now."""
        ...

    async def text(self, name: str) -> str:
        """Return the SKILL.md of a skill."""
        ...


class BankSource:
    """A `SkillSource` over a bank that is loaded in this process."""

    def __init__(self, selector: "Selector", *, in_thread: bool = False) -> None:
        """Take the selector; `in_thread` keeps the event loop free for other talks while a turn is read."""
        self._selector, self._in_thread = selector, in_thread

    async def select(self, talk: Sequence[Message]) -> Selection:
        """Return risk, states and the skills that fit the talk now."""
        if self._in_thread:
            return await asyncio.to_thread(self._selector.select, talk, SKILLS)
        return self._selector.select(talk, SKILLS)

    async def text(self, name: str) -> str:
        """Return the SKILL.md of a skill."""
        texts = self._selector.bank.texts
        if name not in texts:
            raise SkillNotFound(name, texts)
        return texts[name]


class BankRef(NamedTuple):
    """A bank that does not change while it is simulated: its folder, its vectors, and what it is called."""

    folder: Path
    index: Path
    version: str
    hash: str


def settle_bank(bank_dir: Path | None = None, version: str | None = None) -> BankRef:
    """Find the bank to simulate, as the server would, and pin it to one version.

    Args:
        bank_dir: `ESC_BANK_DIR`; default the user's folder, else the shipped bank.
        version: A version of that bank's history; default the active one.

    Raises:
        BankError: Nothing can be served, or there is no such version.
    """
    from ..skills_bank.place import find_bank

    place = find_bank(bank_dir)
    if version is None:
        place.read()  # hand edits become a version first, as they would when served
    elif place.kind == "plain":
        raise BankError(f"{place.root} is a plain folder of skills and has no version {version!r}.")
    store = place.store()
    folder = store.active_folder() if version is None else store.folder(version)
    bank = Bank.load(folder)
    return BankRef(folder, place.index_folder(), bank.version, bank.hash)


def load_selector(ref: BankRef, reader: "Reader", region: str | None = None) -> "Selector":
    """Return the selector over a bank: the parts that the server puts together in `server/loader.py`.

    Raises:
        BankError: The bank is no longer what it was when it was settled.
    """
    from ..skills_bank.index import FacetIndex
    from ..skills_bank.outcome import OutcomeModel
    from ..skills_bank.place import shipped_bank
    from ..skills_bank.ranking import Weights
    from ..skills_bank.risk import RiskDesk
    from ..skills_bank.select import Selector
    from .reader import quick_desk

    bank = Bank.load(ref.folder)
    if bank.hash != ref.hash:
        raise BankError(
            f"The bank {ref.folder} has hash {bank.hash[:12]}, the run began with {ref.hash[:12]}. "
            "Start another run, or put that version back."
        )
    facets = FacetIndex.open(ref.index, reader, prebuilt=shipped_bank().parent / PREBUILT).matrix(bank)
    desk = quick_desk(RiskDesk.load(region))
    return Selector(bank, cast("Encoder", reader), facets, OutcomeModel.load(), Weights.load(), desk)
