"""From a bank on disk to something that answers: bank, encoder, index, weights and risk check put together."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from .watch import View

if TYPE_CHECKING:
    from ..skills_bank.encoder import Encoder
    from ..skills_bank.fake_encoder import FakeEncoder
    from ..skills_bank.outcome import OutcomeModel
    from ..skills_bank.place import BankPlace
    from ..skills_bank.ranking import Weights
    from ..skills_bank.risk import RiskDesk
    from ..skills_bank.settings import Settings
    from ..skills_bank.store import BankStore


class BankLoader:
    """Loads a `View` for the settings given. What does not depend on the bank is loaded once."""

    def __init__(self, settings: "Settings", encoder: "Encoder | FakeEncoder | None" = None) -> None:
        self._settings = settings
        self._encoder = encoder
        self._place: BankPlace | None = None
        self._fixed: tuple[OutcomeModel, Weights, RiskDesk] | None = None
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
        outcomes, weights, desk = self._parts()
        facets = self.facets(bank, encoder)
        selector = Selector(bank, encoder, facets, outcomes, weights, desk)
        return View(bank=bank, selector=selector, problems=refused, encoder=encoder.version)

    def encoder(self) -> "Encoder | FakeEncoder":
        """Return the encoder, loading it once."""
        if self._encoder is None:
            from ..skills_bank.encoder import Encoder

            self._encoder = Encoder.load()
        return self._encoder

    def folders(self) -> Sequence[Path]:
        """Return the folders to watch."""
        return self.place.watched()

    def store(self) -> "BankStore":
        """Return the bank's versions."""
        return self.place.store()
