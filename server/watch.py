"""The live bank: one current view, replaced as a whole when the folder changes on disk.

A call takes `view()` once and finishes on it, so an edit never reaches a call half-way. Loading runs in threads; the
event loop only swaps a reference.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Literal, Protocol

import anyio.to_thread

from ..skills_bank.errors import BankError, EscError
from .answers import BankHistory, BankVersion, Rollback

if TYPE_CHECKING:
    import watchfiles

    from ..skills_bank.bank import Bank
    from ..skills_bank.select import Selector
    from ..skills_bank.store import BankStore
    from .catalog import Catalog

logger = logging.getLogger(__name__)

DEBOUNCE_MS = 200
"""Longest wait for a burst of writes to end; editors write a file in two or three steps."""
STEP_MS = 40
"""A burst counts as ended after this long without another write."""
START_SECONDS = 1.0
SETTLE_SECONDS = 3.0
RECHECK_MS = 2000
"""How often to look whether other folders are to be followed."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, eq=False)
class View:
    """Everything an answer needs, of one bank version."""

    bank: "Bank"
    selector: "Selector"
    problems: tuple[str, ...] = ()
    """Edits that were refused, each with its fix; the last good version answers in their place."""
    encoder: str = ""
    loaded: str = field(default_factory=_now)

    @cached_property
    def catalog(self) -> "Catalog":
        """The files as resources; made when a client first asks."""
        from .catalog import Catalog

        return Catalog(self.bank.texts, self.bank.support_files)

    def changed_since(self, other: "View") -> list[str]:
        """Return the names of skills that are here and were absent or different in `other`."""
        return [name for name, text in self.bank.texts.items() if other.bank.texts.get(name) != text]


class Loader(Protocol):
    """Reads the bank from disk."""

    def load(self, previous: View | None) -> View:
        """Return the bank as it is on disk; skills that cannot be read keep their text of `previous`.

        Raises:
            EscError: There is nothing to serve.
        """
        ...

    def settle(self, view: View) -> None:
        """Do what need not be done before answering, such as writing the LanceDB table."""
        ...

    def folders(self) -> Sequence[Path]:
        """Return what to watch."""
        ...

    def ignored(self) -> Sequence[Path]:
        """Return the folders within those whose changes do not matter."""
        ...

    def store(self) -> "BankStore":
        """Return the bank's versions."""
        ...


OnChange = Callable[[View, View], Awaitable[None]]


class LiveBank:
    """Holds the current `View` and keeps it up to date while `running`."""

    def __init__(self, loader: Loader, *, watch: bool = True, on_loaded: Callable[[], None] = lambda: None) -> None:
        """Take the loader, whether to follow the folders, and what to call after the first load, however it ended."""
        self._loader = loader
        self._on_loaded = on_loaded
        self._watch = watch
        self._view: View | None = None
        self._first: Future[View] | None = None
        self._reloading: asyncio.Lock | None = None
        self._on_change: list[OnChange] = []
        self.following = asyncio.Event()
        """Set while the folders are followed: from then on no edit is missed."""

    def start(self) -> None:
        """Begin the first load in a thread of its own, once."""
        if self._first is None:
            self._first = Future()
            Thread(target=self._load_first, name="esc-skills-load", daemon=True).start()

    def start_soon(self) -> None:
        """Begin the first load as soon as what is being answered now is out: it must not hold up `initialize`."""
        if self._first is None:
            asyncio.get_running_loop().call_later(0.01, self.start)

    def _load_first(self) -> None:
        assert self._first is not None
        began = time.perf_counter()
        try:
            self._view = self._loader.load(None)
        except BaseException as error:  # handed to whoever waits for the view
            if not isinstance(error, EscError):
                logger.exception("the bank could not be loaded")
            self._first.set_exception(error)
        else:
            _log_load(self._view, began)
            self._first.set_result(self._view)
        finally:
            self._on_loaded()

    async def view(self) -> View:
        """Return the current view, waiting for the first load if need be.

        Raises:
            EscError: The first load failed; the message says why.
        """
        if self._view is not None:
            return self._view
        self.start()
        assert self._first is not None
        return await asyncio.shield(asyncio.wrap_future(self._first))

    def peek(self) -> View | None:
        """Return the current view, or None before the first load is done."""
        return self._view

    def status(self) -> Literal["ok", "loading", "failed"]:
        """Return whether answers can be given."""
        if self._view is not None:
            return "ok"
        failed = self._first is not None and self._first.done() and self._first.exception() is not None
        return "failed" if failed else "loading"

    @asynccontextmanager
    async def running(self, on_change: OnChange | None = None) -> AsyncIterator[None]:
        """Load, then follow the folder until the block ends; `on_change` is called after each swap.

        Loading begins with `start_soon`, with the first call that needs it, or a second later, whichever is first.
        """
        begin = asyncio.get_running_loop().call_later(START_SECONDS, self.start)
        if on_change is not None:
            self._on_change.append(on_change)
        task = asyncio.create_task(self._follow()) if self._watch else None
        settling = asyncio.create_task(self._settle())
        try:
            yield
        finally:
            begin.cancel()
            settling.cancel()
            if on_change is not None:
                self._on_change.remove(on_change)
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                self.following.clear()

    async def reload(self) -> View:
        """Read the folder again and swap; what cannot be read keeps its last good version and is reported."""
        if self._reloading is None:
            self._reloading = asyncio.Lock()
        async with self._reloading:
            before = await self.view()
            began = time.perf_counter()
            try:
                after = await anyio.to_thread.run_sync(self._loader.load, before)
            except EscError as error:
                logger.warning("the bank could not be read, the last good version stays: %s", error)
                after = replace(before, problems=(f"bank: {error}",), loaded=_now())
            if after.bank.version == before.bank.version and after.problems == before.problems:
                return before
            self._view = after
            _log_load(after, began)
        for tell in list(self._on_change):
            await tell(before, after)
        await anyio.to_thread.run_sync(self._loader.settle, after)
        return after

    async def _settle(self) -> None:
        """Do what can wait, once the first answers are out."""
        with suppress(EscError):
            await asyncio.sleep(SETTLE_SECONDS)
            view = await self.view()
            await anyio.to_thread.run_sync(self._loader.settle, view)

    async def _follow(self) -> None:
        """Reload on every change under the folders. An error in one reload is logged and does not end the watch."""
        while self._first is None:
            await asyncio.sleep(0.05)
        with suppress(EscError):  # whoever asks for the view hears of it; a repair on disk is still followed
            await self.view()
        while True:
            await self._follow_folders(list(self._loader.folders()))

    async def _follow_folders(self, folders: list[Path]) -> None:
        """Follow these folders until others are to be followed: the first write moves a bank to the user's folder."""
        import watchfiles

        ignored = watchfiles.DefaultFilter()

        def relevant(change: "watchfiles.Change", path: str) -> bool:
            return ignored(change, path) and not any(Path(path).is_relative_to(skip) for skip in self._loader.ignored())

        if not folders:
            await asyncio.sleep(RECHECK_MS / 1000)
            return
        self.following.set()  # the watch begins before the loop below first gives way
        async for changes in watchfiles.awatch(
            *folders,
            watch_filter=relevant,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            rust_timeout=RECHECK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            moved = list(self._loader.folders()) != folders
            if changes or moved:
                await self._try_reload()
            if moved:
                return

    async def _try_reload(self) -> None:
        try:
            if self._view is None:
                await self._retry_first()
            else:
                await self.reload()
        except Exception:
            logger.exception("reloading the bank failed")

    async def _retry_first(self) -> None:
        self._first = None
        with suppress(EscError):
            await self.view()

    def history(self, limit: int) -> BankHistory:
        """Return the newest `limit` versions of the bank."""
        store = self._loader.store()
        entries = store.history()
        active = self._view.bank.version if self._view else ""
        versions = tuple(
            BankVersion(
                version=entry.version,
                parent=entry.parent,
                created=str(entry.created),
                note=entry.note,
                skills=entry.skills,
                active=entry.active,
            )
            for entry in entries
        )
        return BankHistory(versions=versions[:limit], total=len(versions), bank_version=active)

    def root(self) -> Path:
        """Return the folder that a new version of the bank is written to."""
        return self._loader.store().root

    async def rollback(self, version: str) -> Rollback:
        """Make `version` the active one and serve it.

        Raises:
            VersionNotFound: No such version.
            BankError: The store could not be written.
        """
        before = await self.view()
        await anyio.to_thread.run_sync(self._loader.store().rollback, version)
        after = await self.reload()
        if after.problems and after.bank.version == before.bank.version:
            raise BankError(f"Version {version!r} is active but could not be read: {'; '.join(after.problems)}")
        old, new = before.bank.texts, after.bank.texts
        return Rollback(
            previous_version=before.bank.version,
            bank_version=after.bank.version,
            added=tuple(sorted(set(new) - set(old))),
            removed=tuple(sorted(set(old) - set(new))),
            changed=tuple(sorted(name for name in set(new) & set(old) if new[name] != old[name])),
        )


def _log_load(view: View, began: float) -> None:
    logger.info(
        "bank %s is live: %d skills, %.0f ms",
        view.bank.version,
        len(view.bank.skills),
        1000 * (time.perf_counter() - began),
    )
    for problem in view.problems:
        logger.warning("refused: %s", problem)
