"""From labels to situations within a build: vectors of the seeker lines, how many situations, and which.

The shipped clusters stand on the frozen all-MiniLM-L6-v2 (`frozen.py`), which needs torch. A build uses the shipped
encoder instead, so that it needs no more than serving does; the clustering says which encoder that was.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ..skills_bank.errors import CorpusError, InputError
from ..skills_bank.files import replace_durably
from ..skills_bank.index import TextEncoder
from ..skills_bank.models import InterventionUnit
from ..skills_bank.taxonomy import ACTION_INFO, STATE_INFO, SeekerState, SupportAction
from .clusters import MAX_SIZE, Clustering, cluster, ward
from .corpus import Dialogue
from .features import Features, Place, positions
from .labels import DialogueLabels
from .prototypes import MIN_KEY, prototypes

CHUNK = 256
"""Lines embedded at once and kept as one file: what a killed build loses at most. Fixed, because a vector's last digit
depends on what it is embedded with."""
_MOST = 60
"""No automatic choice beyond this many situations: a person has to be able to look through a bank."""


class Line(NamedTuple):
    """The seeker turn before a labelled supporter turn."""

    place: Place
    text: str


class BuildFeatures(Features):
    """`Features` whose definitions are embedded by the encoder that embedded the lines."""

    def __init__(self, lines: Mapping[Place, np.ndarray], where: Mapping[Place, float], encoder: TextEncoder) -> None:
        """Take the vectors of the lines, the positions of the turns, and the encoder; nothing of `frozen.py` runs."""
        self._lines = lines
        self._where = where
        states = [f"{info.name}. {info.definition} {info.example}" for info in STATE_INFO.values()]
        actions = [f"{info.name}. {info.definition} {info.example}" for info in ACTION_INFO.values()]
        self._states = dict(zip(SeekerState, encoder.embed(states), strict=True))
        self._actions = dict(zip(SupportAction, encoder.embed(actions), strict=True))


def lines_of(labels: Mapping[str, DialogueLabels], dialogues: Iterable[Dialogue]) -> Iterator[Line]:
    """Yield the seeker turn before each supporter turn that yields units, in the order of the corpus."""
    for dialogue in dialogues:
        if (labelled := labels.get(dialogue.id)) is None:
            continue
        for before, turn in zip(labelled.turns, labelled.turns[1:], strict=False):
            if turn.change is not None:
                yield Line((labelled.id, turn.turn), dialogue.text(before.utterances))


def embed_lines(
    lines: Iterator[Line], encoder: TextEncoder, folder: Path, progress: Callable[[int], None]
) -> Iterator[tuple[Place, np.ndarray]]:
    """Yield the vector of each line, a chunk at a time; chunks that `folder` holds are read from there."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, chunk in enumerate(_chunks(lines)):
        path = folder / f"{number:05d}.npy"
        if path.is_file():
            vectors = np.load(path)
        else:
            vectors = encoder.embed([line.text for line in chunk])
            buffer = BytesIO()
            np.save(buffer, vectors)
            replace_durably(path, buffer.getvalue())
        progress(len(chunk))
        yield from zip((line.place for line in chunk), vectors, strict=True)


def _chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while chunk := list(islice(lines, CHUNK)):
        yield chunk


def labels_hash(labels: Iterable[DialogueLabels]) -> str:
    """Return the sha256 over labels: what everything after annotation depends on."""
    digest = hashlib.sha256()
    for labelled in labels:
        digest.update(labelled.model_dump_json().encode() + b"\n")
    return digest.hexdigest()


def silhouette(points: np.ndarray, groups: np.ndarray) -> float:
    """Return the mean silhouette (Rousseeuw 1987) of a grouping; a point alone in its group counts 0."""
    distances = np.sqrt(np.maximum(((points[:, None] - points[None]) ** 2).sum(axis=-1), 0))
    member = groups[:, None] == np.unique(groups)[None]
    sizes = member.sum(axis=0)
    sums = distances @ member
    own = member.argmax(axis=1)
    rows = np.arange(len(points))
    alone = sizes[own] == 1
    inside = sums[rows, own] / np.maximum(sizes[own] - 1, 1)
    others = np.where(member, np.inf, sums / sizes).min(axis=1)
    scores = (others - inside) / np.maximum(np.maximum(others, inside), 1e-12)
    return float(np.where(alone, 0.0, scores).mean())


class Choice(NamedTuple):
    """How many situations were made, and what a person should know of it."""

    n: int
    note: str = ""


def choose(points: np.ndarray, wanted: int | Literal["auto"]) -> Choice:
    """Return how many situations to make of the prototypes at `points`.

    `auto` takes the number with the best mean silhouette, the smaller one of equals, out of those that leave every
    situation two prototypes on average; a situation has at most `MAX_SIZE`, which sets the least number. A number that
    cannot be made is replaced: by `auto`'s where there are fewer prototypes than that, else by the least possible.
    """
    count = len(points)
    if wanted == "auto":
        return Choice(_best(points))
    if wanted > count:
        n = _best(points)
        return Choice(
            n,
            f"{wanted} skills were asked for, but the corpus gives only {count} prototypes (pairs of state and action "
            f"with {MIN_KEY} or more key units); {n} skills were made, the number with the best silhouette. More "
            "dialogues give more.",
        )
    n = next(n for n in range(wanted, count + 1) if _possible(points, n))
    if n == wanted:
        return Choice(n)
    return Choice(n, f"{wanted} skills were asked for; {count} prototypes, at most {MAX_SIZE} a skill, need {n}.")


def _best(points: np.ndarray) -> int:
    count = len(points)
    if count < 4:
        return 1
    least = max(2, -(-count // MAX_SIZE))
    scores = {
        n: silhouette(points, ward(points, n))
        for n in range(least, max(least, min(_MOST, count // 2)) + 1)
        if _possible(points, n)
    }
    if not scores:  # the ceiling left no merge anywhere in the range
        return next(n for n in range(least, count + 1) if _possible(points, n))
    return max(scores, key=lambda n: (round(scores[n], 6), -n))


def _possible(points: np.ndarray, n: int) -> bool:
    try:
        ward(points, n)
    except InputError:
        return False
    return True


def group(
    units: Sequence[InterventionUnit],
    labels: Sequence[DialogueLabels],
    vectors: Mapping[Place, np.ndarray],
    encoder: TextEncoder,
    wanted: int | Literal["auto"],
    digest: str,
) -> tuple[Clustering, str]:
    """Return the situations of a corpus, and a note where their number is not what was asked for.

    Raises:
        CorpusError: There is no prototype to make a situation of.
    """
    kept = prototypes(units)
    if not kept:
        key = sum(unit.key for unit in units)
        raise CorpusError(
            f"{len(labels)} dialogues gave {len(units)} units, {key} of them with a clear change, and no pair of state "
            f"and action has {MIN_KEY} of those. A bank needs more dialogues; some hundred are a good beginning."
        )
    features = BuildFeatures(vectors, positions(labels), encoder)
    n, note = choose(features.matrix(units, kept), wanted)
    clustering = cluster(units, features, digest, n)
    return clustering.model_copy(update={"encoder": f"esc-skills encoder {encoder.version}"}), note
