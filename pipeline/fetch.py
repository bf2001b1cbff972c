"""Download ESConv from its public source. Nothing else in the project downloads anything."""

import hashlib
import os
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from pydantic import BaseModel, ConfigDict

from ..skills_bank.errors import CorpusError, InputError
from .corpus import Corpus, read_corpus

BASE_URL = "https://raw.githubusercontent.com/thu-coai/Emotional-Support-Conversation/main"
FILES = ("ESConv.json", "FailedESConv.json")
LICENCE = "ESConv is CC BY-NC 4.0 (Liu et al. 2021): keep it out of repositories and products, and name its source."
LARGEST = 64 * 2**20
"""ESConv.json is about 11 MB; more than this is another file."""
_CHUNK = 1 << 16
_SECONDS = 60.0


class Fetched(BaseModel):
    """One downloaded file that was read as a corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    sha256: str
    size: int
    dialogues: int
    skipped: int


def fetch(out: Path, base_url: str = BASE_URL, progress: Callable[[int], None] | None = None) -> list[Fetched]:
    """Download the corpus files into `out`; each appears whole and readable, or not at all.

    Args:
        out: Folder to write to; made if absent.
        base_url: Where the files lie.
        progress: Called with the number of bytes just read.

    Raises:
        InputError: `base_url` is no http or https address.
        CorpusError: A file could not be fetched, or is no dialogue corpus; what was there before is still there.
    """
    if urlsplit(base_url).scheme not in {"http", "https"}:
        raise InputError(f"{base_url!r} is no http or https address; pass one to --base-url.")
    out.mkdir(parents=True, exist_ok=True)
    return [_fetch_one(f"{base_url.rstrip('/')}/{name}", out / name, progress) for name in FILES]


def _fetch_one(url: str, target: Path, progress: Callable[[int], None] | None) -> Fetched:
    # The name is kept behind the random part: the reader tells ESConv from FailedESConv by it.
    with NamedTemporaryFile(dir=target.parent, suffix=f".{target.name}", delete=False) as file:
        part = Path(file.name)
        try:
            digest, size = _download(url, file, progress)
            file.flush()
            corpus = _read(url, part)
            os.chmod(part, 0o644)
            os.replace(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return Fetched(path=target, sha256=digest, size=size, dialogues=len(corpus.dialogues), skipped=len(corpus.skipped))


def _download(url: str, file, progress: Callable[[int], None] | None) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    try:
        with urlopen(Request(url, headers={"User-Agent": "esc-skills"}), timeout=_SECONDS) as reply:
            expected = reply.headers.get("Content-Length")
            while chunk := reply.read(_CHUNK):
                size += len(chunk)
                if size > LARGEST:
                    raise CorpusError(f"{url} is larger than {LARGEST >> 20} MiB; that is not ESConv.")
                digest.update(chunk)
                file.write(chunk)
                if progress:
                    progress(len(chunk))
    except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
        raise CorpusError(f"{url} could not be fetched: {error}. Check the network or pass --base-url.") from error
    if expected is not None and int(expected) != size:
        raise CorpusError(f"{url} broke off after {size} of {expected} bytes. Try again.")
    return digest.hexdigest(), size


def _read(url: str, path: Path) -> Corpus:
    try:
        return read_corpus(path)
    except CorpusError as error:
        raise CorpusError(f"What {url} sent is no dialogue corpus: {error}") from error
