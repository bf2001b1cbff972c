"""A support action in words of ours: lines of the phrase library, none of them twice in a talk, nor nearly so."""

import random
from collections.abc import Collection, Iterator

from ..pipeline.phrasebook import Phrasebook, load_phrases
from ..skills_bank.taxonomy import SeekerState, SupportAction
from .hearing import ALIKE, alike


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
        """Return a line that does `action`, the one written for `state` first; a fresh one while there is one.

        When every line was said, the one that is least like what was said.
        """
        lines = list(self._lines(action, state, rng))
        found = next((line for line in lines if fresh(line, said)), None)
        return found or min(lines, key=lambda line: likeness(line, said))

    def _lines(self, action: SupportAction, state: SeekerState, rng: random.Random) -> Iterator[str]:
        """Yield the lines for the state, then those that were written for other states, in an order of chance."""
        others = [other for other in SeekerState if other != state]
        rng.shuffle(others)
        for each in (state, *others):
            if (cell := self._book.cell(each, action)) is not None:
                yield cell.also


def likeness(text: str, said: Collection[str]) -> float:
    """Return how far a text repeats the one of `said` that it is most like, as a seeker hears it."""
    return max((alike(text, earlier) for earlier in said), default=0.0)


def fresh(text: str, said: Collection[str]) -> bool:
    """Whether a seeker that heard `said` would not hear the text as a repetition."""
    return likeness(text, said) < ALIKE
