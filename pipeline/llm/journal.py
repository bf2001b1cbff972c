"""What was asked and answered, on disk: a call that stands here is not sent, or paid for, again."""

import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...skills_bank.errors import InputError
from .budget import Spent
from .call import Call
from .tokens import Tokens

_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL,
    root TEXT NOT NULL,
    run TEXT NOT NULL,
    role TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('answered', 'failed')),
    reason TEXT NOT NULL DEFAULT '',
    paid INTEGER NOT NULL,
    stop TEXT NOT NULL DEFAULT '',
    answer TEXT NOT NULL DEFAULT '',
    input INTEGER NOT NULL DEFAULT 0,
    output INTEGER NOT NULL DEFAULT 0,
    cache_read INTEGER NOT NULL DEFAULT 0,
    cache_write INTEGER NOT NULL DEFAULT 0,
    usd REAL,
    latency REAL NOT NULL DEFAULT 0,
    batch INTEGER NOT NULL DEFAULT 0,
    at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS calls_by_hash ON calls (hash) WHERE state = 'answered';
CREATE INDEX IF NOT EXISTS calls_by_root ON calls (root);
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL DEFAULT '',
    run TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS batched (
    hash TEXT PRIMARY KEY,
    batch INTEGER NOT NULL REFERENCES batches,
    role TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    subject TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    usd REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batched_by_batch ON batched (batch);
"""


@dataclass(frozen=True)
class Reply:
    """An answer as it came, unchecked."""

    text: str
    stop: str
    tokens: Tokens
    latency: float = 0.0
    id: int = 0
    """Its line in the journal; 0 while it has none."""


class Line(NamedTuple):
    """What a line of the journal says of a call, beside its answer."""

    hash: str
    root: str
    role: str
    model: str
    prompt: str
    subject: str

    @classmethod
    def of(cls, call: Call) -> "Line":
        """Return the line of `call`."""
        request = call.request
        return cls(call.hash, call.root, request.role, request.model, request.prompt, request.subject)


class Failure(NamedTuple):
    """A call that gave no usable answer."""

    role: str
    prompt: str
    subject: str
    reason: str


class Total(NamedTuple):
    """What the calls of one role to one model took."""

    role: str
    model: str
    calls: int
    failed: int
    tokens: Tokens
    usd: float | None
    """`None` where a price was unknown."""
    seconds: float
    """Mean seconds to an answer."""


@dataclass(frozen=True)
class Batch:
    """A message batch that is under way."""

    id: int
    name: str
    """Its id on the server; empty where the run was killed before the server's answer was read."""
    size: int
    at: float
    worst: Spent


class Journal:
    """SQLite in WAL mode. A line is committed before its answer is handed on; it survives `kill -9`.

    With `synchronous=NORMAL` a power cut may lose the last lines, never the file. The key and the text of a prompt are
    not stored; a request is known by its hash. Answers are stored, so the file is readable by its owner alone.
    """

    def __init__(self, path: Path, run: str = "") -> None:
        self.path = path
        self.run = run
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._set_up()
        except (OSError, sqlite3.DatabaseError) as error:
            raise InputError(f"The journal {path} cannot be used: {error}. Name another file.") from None

    def _set_up(self) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _VERSION):
            raise InputError(f"The journal {self.path} is of version {found}, not {_VERSION}: name another file.")
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", f"user_version = {_VERSION}"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def find(self, hash_: str) -> Reply | None:
        """Return the answer to a request that was answered before, in any run."""
        row = self._db.execute(
            "SELECT answer, stop, input, output, cache_read, cache_write, latency, id FROM calls "
            "WHERE hash = ? AND state = 'answered' ORDER BY id DESC LIMIT 1",
            (hash_,),
        ).fetchone()
        return None if row is None else Reply(row[0], row[1], Tokens(*row[2:6]), row[6], row[7])

    def took(self, root: str) -> tuple[Tokens, float | None]:
        """Return what a call took, its second attempt included, in whichever run it was paid.

        The cost is `None` where no price was known.
        """
        row = self._db.execute(
            "SELECT coalesce(sum(input), 0), coalesce(sum(output), 0), coalesce(sum(cache_read), 0), "
            "coalesce(sum(cache_write), 0), CASE WHEN sum(usd IS NULL) THEN NULL ELSE sum(usd) END "
            "FROM calls WHERE root = ? AND paid",
            (root,),
        ).fetchone()
        return Tokens(*row[:4]), row[4]

    def answered(self, call: Line, reply: Reply, usd: float | None, *, batch: bool = False) -> int:
        """Keep an answer; returns its line."""
        return self._insert(call, "answered", "", reply, usd, batch)

    def failed(self, call: Line, reason: str, *, batch: bool = False) -> None:
        """Keep that a call got no answer, and why; it is sent again when it is asked again."""
        self._insert(call, "failed", reason, None, None, batch)

    def spoil(self, ids: Iterable[int], reason: str) -> None:
        """Mark answers that turned out unusable: they stay paid, and the call is sent again when it is asked again."""
        self._run(
            "UPDATE calls SET state = 'failed', reason = ? WHERE id = ?",
            [(reason, id_) for id_ in ids],
        )

    def spent(self) -> Spent:
        """Return what this run has paid for so far."""
        row = self._db.execute(
            "SELECT count(*), coalesce(sum(input + output + cache_read + cache_write), 0), coalesce(sum(usd), 0.0) "
            "FROM calls WHERE run = ? AND paid",
            (self.run,),
        ).fetchone()
        return Spent(*row)

    def failures(self) -> list[Failure]:
        """Return this run's calls that failed and were not answered since."""
        rows = self._db.execute(
            "SELECT role, prompt, subject, reason FROM calls WHERE state = 'failed' AND id IN (SELECT max(id) "
            "FROM calls WHERE root IN (SELECT root FROM calls WHERE run = ?) GROUP BY root) ORDER BY id",
            (self.run,),
        )
        return [Failure(*row) for row in rows]

    def totals(self) -> list[Total]:
        """Return what this run's calls took, by role and model."""
        rows = self._db.execute(
            "SELECT role, model, sum(paid), sum(state = 'failed'), sum(input), sum(output), sum(cache_read), "
            "sum(cache_write), CASE WHEN sum(paid AND usd IS NULL) THEN NULL ELSE coalesce(sum(usd), 0.0) END, "
            "coalesce(avg(CASE WHEN paid AND NOT batch THEN latency END), 0.0) "
            "FROM calls WHERE run = ? GROUP BY role, model ORDER BY role, model",
            (self.run,),
        )
        return [Total(r[0], r[1], r[2], r[3], Tokens(*r[4:8]), r[8], r[9]) for r in rows]

    def open_batch(self, calls: Iterable[tuple[Line, Spent]]) -> int:
        """Note what is about to be sent as one batch, before it is sent; returns the batch's line."""
        with self._transaction():
            cursor = self._db.execute("INSERT INTO batches (run, at) VALUES (?, ?)", (self.run, time.time()))
            batch = cursor.lastrowid or 0
            self._db.executemany(
                "INSERT INTO batched (hash, batch, role, model, prompt, subject, tokens, usd) VALUES (?,?,?,?,?,?,?,?)",
                [(c.hash, batch, c.role, c.model, c.prompt, c.subject, w.tokens, w.usd) for c, w in calls],
            )
        return batch

    def name_batch(self, batch: int, name: str) -> None:
        """Note the server's id of a batch."""
        self._run("UPDATE batches SET name = ? WHERE id = ?", [(name, batch)])

    def drop_batch(self, batch: int) -> None:
        """Forget a batch that the server never took."""
        with self._transaction():
            self._forget(batch)

    def batches(self) -> list[Batch]:
        """Return this run's batches that are not collected yet."""
        rows = self._db.execute(
            "SELECT b.id, b.name, count(*), b.at, coalesce(sum(d.tokens), 0), coalesce(sum(d.usd), 0.0) "
            "FROM batches AS b JOIN batched AS d ON d.batch = b.id WHERE b.run = ? GROUP BY b.id ORDER BY b.id",
            (self.run,),
        )
        return [Batch(r[0], r[1], r[2], r[3], Spent(r[2], r[4], r[5])) for r in rows]

    def is_batched(self, hash_: str) -> bool:
        """Say whether a call waits in a batch."""
        return self._db.execute("SELECT 1 FROM batched WHERE hash = ?", (hash_,)).fetchone() is not None

    def batched(self, batch: int) -> dict[str, Line]:
        """Return the calls of a batch by their hash."""
        rows = self._db.execute(
            "SELECT hash, hash, role, model, prompt, subject FROM batched WHERE batch = ?", (batch,)
        )
        return {row[0]: Line(*row) for row in rows}

    def collect(
        self, batch: int, answers: Iterable[tuple[Line, Reply, float | None]], failures: Iterable[tuple[Line, str]]
    ) -> None:
        """Keep what a batch gave, and forget the batch, in one step."""
        with self._transaction():
            for call, reply, usd in answers:
                self._insert(call, "answered", "", reply, usd, True)
            for call, reason in failures:
                self._insert(call, "failed", reason, None, None, True)
            self._forget(batch)

    def _forget(self, batch: int) -> None:
        self._db.execute("DELETE FROM batched WHERE batch = ?", (batch,))
        self._db.execute("DELETE FROM batches WHERE id = ?", (batch,))

    def _insert(self, call: Line, state: str, reason: str, reply: Reply | None, usd: float | None, batch: bool) -> int:
        held = reply or Reply("", "", Tokens())
        try:
            cursor = self._db.execute(
                "INSERT INTO calls (hash, root, role, model, prompt, subject, run, state, reason, paid, stop, answer, "
                "input, output, cache_read, cache_write, usd, latency, batch, at) "
                "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    *call,
                    self.run,
                    state,
                    reason,
                    reply is not None,
                    held.stop,
                    held.text,
                    *held.tokens,
                    usd,
                    held.latency,
                    batch,
                    time.time(),
                ),
            )
        except sqlite3.OperationalError as error:
            raise InputError(f"The journal {self.path} cannot be written: {error}.") from None
        return cursor.lastrowid or 0

    def _run(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._transaction():
            self._db.executemany(statement, rows)

    @contextmanager
    def _transaction(self):
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
