"""From a bank on disk to something that answers: bank, encoder, index, weights and risk check put together."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from .watch import View

VERSIONS = "versions"
PREBUILT = Path("model") / "vectors.npz"
"""Vectors of the shipped bank, beside the encoder that made them: the first start embeds nothing."""

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.index import FacetIndex
    from ..skills_bank.outcome import OutcomeModel
    from ..skills_bank.place import BankPlace
    from ..skills_bank.ranking import Weights
    from ..skills_bank.risk import RiskDesk
    from ..skills_bank.settings import Settings
    from ..skills_bank.store import BankStore


class BankLoader:
    """Loads a `View` for the settings given. What does not depend on the bank is loaded once."""

    def __init__(self, settings: "Settings", encoder: "Encoder | None" = None, *, write_table: bool = False) -> None:
        """Take the settings; an encoder to use in place of the shipped one; and whether to keep LanceDB's table."""
        self._settings = settings
        self._write_table = write_table
        self._encoder = encoder
        self._place: BankPlace | None = None
        self._parts: tuple[OutcomeModel, Weights, RiskDesk] | None = None
        self._lock = Lock()  # a reload and a rollback must not write the index at the same time

    @property
    def place(self) -> "BankPlace":
        """Where the bank lies."""
        if self._place is None:
            from ..skills_bank.place import find_bank

            self._place = find_bank(self._settings.bank_dir)
        return self._place

    def load(self, previous: View | None) -> View:
        """Read the bank, bring the index up to date, and return both as a view; see `watch.Loader`."""
        with self._lock:
            return self._load(previous)

    def _load(self, previous: View | None) -> View:
        from ..skills_bank.select import Selector

        bank, problems = self.place.read(previous.bank if previous else None)
        refused = tuple(str(problem) for problem in problems)
        if previous is not None and previous.bank.version == bank.version:
            return View(bank=previous.bank, selector=previous.selector, problems=refused, encoder=previous.encoder)
        encoder = self.encoder()
        facets = self._index(encoder).matrix(bank)
        selector = Selector(bank, encoder, facets, *self._fixed_parts())
        return View(bank=bank, selector=selector, problems=refused, encoder=encoder.version)

    def _index(self, encoder: "Encoder") -> "FacetIndex":
        from ..skills_bank.index import FacetIndex

        return FacetIndex.open(self.place.index_folder(), encoder, prebuilt=self.place.shipped.parent / PREBUILT)

    def _fixed_parts(self) -> "tuple[OutcomeModel, Weights, RiskDesk]":
        if self._parts is None:
            from ..skills_bank.outcome import OutcomeModel
            from ..skills_bank.ranking import Weights
            from ..skills_bank.risk import RiskDesk

            weights = Weights.load()
            if self._settings.min_score is not None:
                weights = weights.model_copy(update={"min_score": self._settings.min_score})
            self._parts = OutcomeModel.load(), weights, RiskDesk.load(self._settings.region, self._settings.helplines)
        return self._parts

    def settle(self, view: View) -> None:
        """Write the LanceDB table in a process of its own, if it is behind."""
        if self._write_table:
            self._index(self.encoder()).sync_later(view.bank)

    def encoder(self) -> "Encoder":
        """Return the encoder, loading it once."""
        if self._encoder is None:
            from ..skills_bank.encoder import Encoder

            self._encoder = Encoder.load(threads=self._settings.threads)
        return self._encoder

    def folders(self) -> Sequence[Path]:
        """Return the folders to watch."""
        return self.place.watched()

    def ignored(self) -> Sequence[Path]:
        """Return what the server itself writes there, and versions, which never change."""
        place = self.place
        return [place.index_folder(), place.root / VERSIONS] if place.store().initialised else [place.index_folder()]

    def store(self) -> "BankStore":
        """Return the bank's versions."""
        return self.place.store()
