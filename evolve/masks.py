"""Masking of what seekers said: the prompt of a candidate quotes talks, a report quotes none."""

import re
from collections.abc import Iterable

from ..simulator.session import Transcript

MASK = "\u2588\u2588\u2588"
LEAST = 12
"""Letters from which words are looked for wherever they stand; a shorter line ("Yes.") could be anyone's."""
_SPOKEN = re.compile(r"^([^\w\n]*(?:seeker|user|thoughts?)[^\w\n]*:)[^\n]+$", re.IGNORECASE | re.MULTILINE)
"""A seeker's line in a talk that is written out. In a skill's text it is a composed example; it is masked as well."""


class Masks:
    """Knows what the seekers of some talks said and thought."""

    def __init__(self, talks: Iterable[Transcript]) -> None:
        found: set[str] = set()
        for talk in talks:
            found.add(talk.opening)
            for turn in talk.turns:
                found.add(turn.seeker or "")
                if turn.appraisal is not None:
                    found.update((turn.appraisal.inner, turn.appraisal.feeling))
        forms = {form for line in found for form in (line.strip(), " ".join(line.split())) if len(form) >= LEAST}
        # The longest first, so that a line that holds another one is masked whole.
        self._lines = sorted(forms, key=lambda one: (-len(one), one))

    def quotes(self, text: str) -> str:
        """Return a text without what was said in those talks."""
        for line in self._lines:
            if line in text:
                text = text.replace(line, MASK)
        return text

    def prompt(self, text: str) -> str:
        """Return a prompt without what was said in those talks, nor in any talk that it holds written out."""
        return _SPOKEN.sub(rf"\1 {MASK}", self.quotes(text))
