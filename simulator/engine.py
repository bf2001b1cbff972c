"""Where conversations are held: in this process, in several, or (`ray_engine.py`) on the machines of a cluster.

Local casts take all of a core, so they are spread over processes. Casts that ask language models mostly wait, so many
talks share one process, one journal and one budget. A conversation depends on its task alone: every engine gives the
same lines, in whichever order they are finished.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack
from typing import NamedTuple, Protocol

from ..skills_bank.errors import EscError
from .casting import Cast, Recipe
from .profiles import Profile
from .session import Transcript, converse

AHEAD = 3
"""Tasks handed out for each worker, so that none waits for its next."""


class Task(NamedTuple):
    """One conversation to hold."""

    profile: Profile
    repeat: int
    seed: int


class Engine(Protocol):
    """Holds conversations."""

    def converse(self, recipe: Recipe, tasks: Iterable[Task]) -> AsyncGenerator[Transcript]:
        """Yield a transcript for each task as it is finished; only a few are held at a time."""
        ...


class LocalEngine:
    """An `Engine` on this machine."""

    def __init__(self, workers: int = 1, in_flight: int = 64) -> None:
        """Take the processes for local casts, and the talks at a time for casts that ask models."""
        self._workers, self._in_flight = workers, in_flight

    async def converse(self, recipe: Recipe, tasks: Iterable[Task]) -> AsyncGenerator[Transcript]:
        """Yield a transcript for each task as it is finished.

        Raises:
            EscError: A conversation cannot be held; those before it are out.
        """
        if recipe.asks_models or self._workers == 1:
            found = _here(recipe, tasks, self._in_flight if recipe.asks_models else 1)
        else:
            found = _in_processes(recipe, tasks, self._workers)
        try:
            async for transcript in found:
                yield transcript
        finally:
            await found.aclose()


async def hold(cast: Cast, task: Task) -> Transcript:
    """Hold one conversation."""
    return await converse(
        task.profile, cast.agent, cast.seeker, seed=task.seed, repeat=task.repeat, rules=cast.rules
    )  # fmt: skip


async def _here(recipe: Recipe, tasks: Iterable[Task], width: int) -> AsyncGenerator[Transcript]:
    async with AsyncExitStack() as stack:
        cast = await stack.enter_async_context(recipe.open())
        waiting = iter(tasks)
        under_way: set[asyncio.Task[Transcript]] = set()
        try:
            while True:
                for task in _some(waiting, width - len(under_way)):
                    under_way.add(asyncio.create_task(hold(cast, task)))
                if not under_way:
                    return
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for finished in done:
                    yield finished.result()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


async def _in_processes(recipe: Recipe, tasks: Iterable[Task], workers: int) -> AsyncGenerator[Transcript]:
    context = multiprocessing.get_context("spawn")  # a forked encoder would share locks with threads that are not there
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(recipe,))
    waiting = iter(tasks)
    under_way: set[asyncio.Future[bytes]] = set()
    try:
        while True:
            for task in _some(waiting, workers * AHEAD - len(under_way)):
                under_way.add(asyncio.wrap_future(pool.submit(_work, task)))
            if not under_way:
                return
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for finished in done:
                yield Transcript.model_validate_json(finished.result())
    except BrokenProcessPool as error:
        raise EscError("A worker process ended by itself. What was finished is kept; take the run up again.") from error
    finally:
        for future in under_way:
            future.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)


def _some(waiting: Iterator[Task], n: int) -> Iterator[Task]:
    for _ in range(n):
        task = next(waiting, None)
        if task is None:
            return
        yield task


class _Worker:
    """A cast in a process of its own, on an event loop that lives as long as the process."""

    def __init__(self, recipe: Recipe) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._cast = self._runner.run(self._stack.enter_async_context(recipe.open()))

    def hold(self, task: Task) -> bytes:
        return self._runner.run(hold(self._cast, task)).model_dump_json().encode()


_WORKER: list[_Worker] = []


def _start_worker(recipe: Recipe) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _WORKER.append(_Worker(recipe))


def _work(task: Task) -> bytes:
    return _WORKER[0].hold(task)


def _die_with_parent() -> None:
    """End this process when its parent is gone: after a `kill -9` nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
