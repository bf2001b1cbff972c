"""What the encoder said of texts, kept in one file by all processes of a machine, from one run to the next.

A reading is a function of its text alone (`reader.py`), and simulated talks come back: with another bank on the same
seeds most talks go the same way for a while. The file holds a hash of each text and the numbers it was read as, never
words. It is for simulated talks between local casts only; what a person wrote is not to be read through it.
"""

import sqlite3
import threading
from pathlib import Path

from platformdirs import user_cache_path
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..skills_bank.errors import InputError

APP, FILE, OFF = "esc-skills", "readings.sqlite", "off"
MOST = 60_000
"""Readings kept, some 2 KB each; the oldest go first."""
AT_ONCE = 16
"""Readings written in one transaction, so that processes seldom wait for each other."""
WAIT = 60.0
"""Seconds to wait for another process that writes."""
_TABLE = "CREATE TABLE IF NOT EXISTS readings (place INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, row BLOB NOT NULL)"


class Readings:
    """The file. Safe to share between threads; any number of processes may use it at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            InputError: It cannot be opened.
        """
        self._path, self._lock = path, threading.Lock()
        self._new: dict[bytes, bytes] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def get(self, key: bytes) -> bytes | None:
        """Return what is kept under a key."""
        with self._lock:
            if (row := self._new.get(key)) is not None:
                return row
            try:
                found = self._db.execute("SELECT row FROM readings WHERE key = ?", (key,)).fetchone()
            except sqlite3.Error as error:
                raise self._unusable(error) from error
        return found[0] if found else None

    def put(self, key: bytes, row: bytes) -> None:
        """Keep a row; the last few reach the disk with those after them, or are lost with the process."""
        with self._lock:
            self._new[key] = row
            if len(self._new) >= AT_ONCE:
                self._write()

    def _write(self) -> None:
        try:
            with self._db:  # commits, or rolls back what failed
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(
                    "INSERT INTO readings (key, row) VALUES (?, ?) ON CONFLICT (key) DO NOTHING", self._new.items()
                )
                self._db.execute("DELETE FROM readings WHERE place <= (SELECT max(place) FROM readings) - ?", (MOST,))
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        self._new.clear()

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            f"The kept readings {self._path} cannot be used ({error}). Delete that file (it is made anew), name "
            f"another by ESC_READINGS, or set ESC_READINGS={OFF}."
        )


class ReadingsSettings(BaseSettings):
    """Where readings are kept; read from `ESC_READINGS`."""

    model_config = SettingsConfigDict(env_prefix="ESC_", env_ignore_empty=True, extra="ignore", frozen=True)

    readings: Path | None = Field(
        default=None, description=f"The file; {OFF!r}: keep none. Default: in the user's cache folder."
    )


def readings_file() -> Path | None:
    """Return the file in which a user's simulations keep what they read; None where they are to keep nothing."""
    named = ReadingsSettings().readings
    if named is None:
        return user_cache_path(APP) / FILE
    return None if named == Path(OFF) else named.expanduser().absolute()
