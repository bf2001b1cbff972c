"""A support action in words of ours: lines of the phrase library, none of them twice in a talk."""

import random
from collections.abc import Collection, Iterator

from ..pipeline.phrasebook import Phrasebook, load_phrases
from ..skills_bank.taxonomy import SeekerState, SupportAction


class Wording:
    """Words a state and an action from the library."""

    def __init__(self, book: Phrasebook | None = None) -> None:
        """Take the library; default the shipped one."""
        self._book = book or load_phrases()

    @property
    def version(self) -> str:
        """Changes whenever the lines do."""
        return self._book.version

    def line(self, action: SupportAction, state: SeekerState, said: Collection[str], rng: random.Random) -> str:
        """Return a line that does `action`, the one written for `state` first; any but those in `said` if possible."""
        lines = list(self._lines(action, state, rng))
        return next((line for line in lines if line not in said), lines[0])

    def _lines(self, action: SupportAction, state: SeekerState, rng: random.Random) -> Iterator[str]:
        """Yield the lines for the state, then those that were written for other states, in an order of chance."""
        others = [other for other in SeekerState if other != state]
        rng.shuffle(others)
        for each in (state, *others):
            if (cell := self._book.cell(each, action)) is not None:
                yield cell.also
