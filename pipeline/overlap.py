"""Whether prose repeats a corpus: runs of words that occur in both.

A bank derived from a corpus under CC BY-NC may carry its statistics, not its sentences. A skill passes when no run of
`RUN` words of it occurs in any one utterance or in neighbouring utterances of one turn.
"""

import re
from collections.abc import Iterable, Iterator

RUN = 8
"""Words in a row that count as copied."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def words(text: str) -> list[str]:
    """Return the words of `text` in lower case, curly apostrophes straightened."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def runs(text: str, length: int = RUN) -> Iterator[tuple[str, ...]]:
    """Yield every run of `length` words of `text`."""
    found = words(text)
    for i in range(len(found) - length + 1):
        yield tuple(found[i : i + length])


def corpus_runs(texts: Iterable[str], length: int = RUN) -> frozenset[int]:
    """Return the hashes of all runs of the corpus; a few million integers instead of as many tuples."""
    return frozenset(hash(run) for text in texts for run in runs(text, length))


def copied(prose: str, corpus: frozenset[int], length: int = RUN) -> list[str]:
    """Return the runs of `prose` that the corpus holds, as text."""
    return [" ".join(run) for run in runs(prose, length) if hash(run) in corpus]
