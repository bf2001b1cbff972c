"""Facets of skills as vectors: what a seeker's words are compared with.

A facet is one text of a skill (its description, an activation condition, an example's seeker line, a pitfall's signal).
Its key is the sha256 of the encoder's version and the text, so an edit re-embeds only what changed. Two files hold the
vectors, both beside the bank and both rebuilt when lost (docs/bank.md gives the figures behind this):

- `facets.lance`, the LanceDB table, one row a facet with skill, kind, text, key, vector and bank version;
- `vectors.npz`, the same rows as a plain array, read at start-up. Importing lancedb takes two seconds and over 100 MB,
  which a server that only compares a few thousand vectors need not pay: it writes the table from a process of its own.
"""

import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, Protocol
from zipfile import BadZipFile

from .errors import BankError
from .files import replace_durably
from .lock import write_lock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .bank import Bank
    from .models import Skill

    Floats = NDArray[np.float32]

logger = logging.getLogger(__name__)

TABLE, VECTORS, STATE = "facets", "vectors.npz", "table.json"
SIZE = 384


class FacetKind(StrEnum):
    """Where in a skill a facet comes from."""

    DESCRIPTION = "description"
    CONDITION = "condition"
    EXAMPLE = "example"
    PITFALL = "pitfall"


class Facet(NamedTuple):
    """One text by which a skill can be found."""

    skill: str
    kind: FacetKind
    text: str


class TextEncoder(Protocol):
    """What the index needs of an encoder."""

    @property
    def version(self) -> str:
        """Changes whenever the vectors do."""
        ...

    def embed(self, texts: Sequence[str]) -> "Floats":
        """Return one normalised vector a text, (n, 384)."""
        ...


@dataclass(frozen=True, eq=False)
class Facets:
    """All facets of one bank version, in memory; row i of each field belongs to facet i."""

    vectors: "Floats"
    skills: tuple[str, ...]
    kinds: tuple[FacetKind, ...]
    texts: tuple[str, ...]

    def owners(self, names: Sequence[str]) -> "NDArray[np.int64]":
        """Return for each facet the place of its skill in `names`."""
        import numpy as np

        places = {name: place for place, name in enumerate(names)}
        return np.array([places[skill] for skill in self.skills], dtype=np.int64)


def facets_of(skill: "Skill") -> Iterator[Facet]:
    """Yield the facets of a skill: description, conditions, example seeker lines, pitfall signals."""
    yield Facet(skill.name, FacetKind.DESCRIPTION, skill.description)
    for condition in skill.when:
        yield Facet(skill.name, FacetKind.CONDITION, condition)
    for example in skill.examples:
        for message in example.lines:
            if message.role == "seeker":
                yield Facet(skill.name, FacetKind.EXAMPLE, message.content)
    for pitfall in skill.pitfalls:
        yield Facet(skill.name, FacetKind.PITFALL, pitfall.signal)


class FacetIndex:
    """The vectors of one bank's facets, kept in `folder`."""

    def __init__(self, folder: Path, encoder: TextEncoder, prebuilt: Path | None = None) -> None:
        """Take the index folder, the encoder, and a `vectors.npz` to read vectors from where the folder has none."""
        self.folder = folder
        self._encoder = encoder
        self._prebuilt = prebuilt

    @classmethod
    def open(cls, path: Path, encoder: TextEncoder, prebuilt: Path | None = None) -> "FacetIndex":
        """Return the index in `path`; nothing is read or written yet."""
        return cls(path, encoder, prebuilt)

    def matrix(self, bank: "Bank") -> Facets:
        """Return the facets of `bank` with their vectors, embedding only texts not seen before; lancedb stays out."""
        return self._build(bank)[0]

    def sync(self, bank: "Bank") -> int:
        """Bring vectors and table up to `bank`: add what is new, drop what is gone. Return how many were embedded."""
        facets, embedded = self._build(bank)
        if self._state(facets, bank.version) != self._written_state():
            if not (self.folder / VECTORS).is_file():  # matrix came from the prebuilt file and wrote nothing
                self._save(facets, bank.version)
            write_table(self.folder)
        return embedded

    def sync_later(self, bank: "Bank") -> bool:
        """Write the table from a process of its own, if it is not up to date; return whether one was started."""
        facets, _ = self._build(bank)
        if self._state(facets, bank.version) == self._written_state():
            return False
        self._save(facets, bank.version)
        command = [sys.executable, "-m", "esc_skills.skills_bank.index", str(self.folder)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        threading.Thread(target=process.wait, name="esc-skills-index", daemon=True).start()
        return True

    def _build(self, bank: "Bank") -> tuple[Facets, int]:
        import numpy as np

        found = [facet for skill in bank.skills.values() for facet in facets_of(skill)]
        keys = self._keys([facet.text for facet in found])
        stored = self._stored()
        if stored is not None and np.array_equal(stored[0], keys):
            facets = _facets(found, stored[1])
            if self._has_table and not (self.folder / VECTORS).is_file():
                self._save(facets, bank.version)
            return facets, 0
        known = {} if stored is None else dict(zip(map(bytes, stored[0]), stored[1], strict=True))
        texts = {bytes(key): facet.text for key, facet in zip(keys, found, strict=True)}
        missing = [key for key in texts if key not in known]
        if missing:
            known |= zip(missing, self._encoder.embed([texts[key] for key in missing]), strict=True)
        vectors = np.array([known[bytes(key)] for key in keys], dtype=np.float32).reshape(len(found), SIZE)
        facets = _facets(found, vectors)
        self._save(facets, bank.version)
        return facets, len(missing)

    @property
    def _has_table(self) -> bool:
        return (self.folder / f"{TABLE}.lance").is_dir()

    def _keys(self, texts: Sequence[str]) -> "NDArray[np.uint8]":
        import numpy as np

        begin = hashlib.sha256(f"{self._encoder.version}\0".encode())
        joined = bytearray()
        for text in texts:
            digest = begin.copy()
            digest.update(text.encode())
            joined += digest.digest()
        return np.frombuffer(bytes(joined), dtype=np.uint8).reshape(len(texts), 32)

    def _stored(self) -> "tuple[NDArray[np.uint8], Floats] | None":
        """Return keys and vectors from the first source that has them: the array, the table, the prebuilt array."""
        stored = _read_vectors(self.folder / VECTORS)
        if stored is None and self._has_table:
            stored = _read_table(self.folder)
        if stored is None and self._prebuilt is not None:
            stored = _read_vectors(self._prebuilt)
        return stored

    def _save(self, facets: Facets, bank_version: str) -> None:
        import numpy as np

        rows = {
            "bank_version": bank_version,
            "state": self._state(facets, bank_version),
            "skills": facets.skills,
            "kinds": facets.kinds,
            "texts": facets.texts,
        }
        buffer = BytesIO()
        np.savez(
            buffer,
            keys=self._keys(facets.texts),
            vectors=facets.vectors,
            rows=np.frombuffer(json.dumps(rows).encode(), dtype=np.uint8),
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_durably(self.folder / VECTORS, buffer.getvalue())
        except OSError as error:  # the vectors are in memory; only the next start pays for it
            logger.warning("the index %s cannot be written: %s", self.folder, error)

    def _state(self, facets: Facets, bank_version: str) -> str:
        """Return a fingerprint of what the table should hold."""
        digest = hashlib.sha256(f"{bank_version}\0{self._encoder.version}\0".encode())
        for row in zip(facets.skills, facets.kinds, facets.texts, strict=True):
            digest.update("\0".join(row).encode() + b"\n")
        return digest.hexdigest()

    def _written_state(self) -> str | None:
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))["state"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return state if self._has_table else None


def write_prebuilt(banks: "Sequence[Bank]", encoder: TextEncoder, target: Path) -> int:
    """Write the vectors of `banks` to a file that `FacetIndex` takes as `prebuilt`; return the number of facets.

    A text that stands in several banks is embedded and written once.
    """
    skills = {f"{number}/{name}": skill for number, bank in enumerate(banks) for name, skill in _new(banks, number)}
    with TemporaryDirectory() as folder:
        facets = FacetIndex.open(Path(folder), encoder).matrix(replace(banks[0], skills=skills))
        replace_durably(target, (Path(folder) / VECTORS).read_bytes())
    return len(facets.texts)


def _new(banks: "Sequence[Bank]", number: int) -> "list[tuple[str, Skill]]":
    """Return the skills of a bank that do not stand in an earlier one."""
    earlier = [bank.skills for bank in banks[:number]]
    return [(name, s) for name, s in banks[number].skills.items() if all(one.get(name) != s for one in earlier)]


def _facets(found: Sequence[Facet], vectors: "Floats") -> Facets:
    return Facets(
        vectors=vectors,
        skills=tuple(facet.skill for facet in found),
        kinds=tuple(facet.kind for facet in found),
        texts=tuple(facet.text for facet in found),
    )


def _read_vectors(path: Path) -> "tuple[NDArray[np.uint8], Floats] | None":
    """Return keys and vectors; None where the file is absent, or broken: then it is made anew."""
    import numpy as np

    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file) as data:
            keys, vectors = data["keys"], data["vectors"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        logger.warning("%s cannot be read (%s) and is made anew", path, type(error).__name__)
        return None
    fits = keys.shape == (len(vectors), 32) and vectors.shape[1:] == (SIZE,) and vectors.dtype == np.float32
    return (keys, vectors) if fits else None


def _read_table(folder: Path) -> "tuple[NDArray[np.uint8], Floats]":
    import lancedb
    import numpy as np

    data = lancedb.connect(folder).open_table(TABLE).to_arrow().combine_chunks()
    keys = b"".join(bytes.fromhex(key) for key in data["hash"].to_pylist())
    flat = data["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.frombuffer(keys, np.uint8).reshape(-1, 32), flat.astype(np.float32).reshape(-1, SIZE)


def write_table(folder: Path) -> int:
    """Make the LanceDB table equal to `vectors.npz`; return the number of rows.

    Raises:
        BankError: There are no vectors, or another process does not finish writing.
    """
    from datetime import timedelta

    import lancedb
    import numpy as np
    import pyarrow as pa

    if not (folder / VECTORS).is_file():
        raise BankError(f"{folder} has no {VECTORS}. Start the server, or run `esc-skills bank index`.")
    with write_lock(folder, wait=60):
        with np.load(folder / VECTORS) as data:
            keys, vectors = data["keys"], data["vectors"]
            rows = json.loads(bytes(data["rows"]))
        columns = {
            "skill": pa.array(rows["skills"], pa.string()),
            "kind": pa.array(rows["kinds"], pa.string()),
            "text": pa.array(rows["texts"], pa.string()),
            "hash": pa.array([bytes(key).hex() for key in keys], pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), SIZE),
            "bank_version": pa.array([rows["bank_version"]] * len(keys), pa.string()),
        }
        table = lancedb.connect(folder).create_table(TABLE, pa.table(columns), mode="overwrite")
        table.optimize(cleanup_older_than=timedelta(minutes=10))
        replace_durably(folder / STATE, json.dumps({"state": rows["state"]}).encode())
    return len(keys)


if __name__ == "__main__":
    os.nice(10)  # serving goes first
    write_table(Path(sys.argv[1]))
