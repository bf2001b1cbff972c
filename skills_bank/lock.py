"""One writer per bank folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BankError, BankLocked

WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.05


@contextmanager
def write_lock(folder: Path, wait: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold the lock of `folder`; the operating system frees it when the process ends, however it ends.

    Raises:
        BankLocked: Another writer did not finish within `wait` seconds.
        BankError: This system has no file locks of that kind.
    """
    try:
        import fcntl
    except ImportError as error:
        raise BankError(
            "Versions of a bank need a POSIX system. Point ESC_BANK_DIR at a plain folder of skills instead."
        ) from error
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    owner = file.read().strip() or "another process"
                    raise BankLocked(
                        f"The bank {folder} is being written by {owner}. Wait for it to finish, or stop it."
                    ) from None
                time.sleep(_POLL_SECONDS)
        file.truncate(0)
        file.write(f"process {os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)
