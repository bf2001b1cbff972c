"""Where conversations are held: in this process, in several, or (`ray_engine.py`) on the machines of a cluster.

Local casts take all of a core, so they are spread over processes. Casts that ask language models mostly wait, so many
talks share one process, one journal and one budget. A conversation depends on its task alone: every engine gives the
same lines, in whichever order they are finished.
"""

import asyncio
import atexit
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack
from typing import NamedTuple, Protocol, Self

from ..skills_bank.errors import EscError
from .casting import Cast, Recipe
from .profiles import Profile
from .session import Transcript, converse

AHEAD = 3
"""Tasks handed out for each worker, so that none waits for its next."""
CASTS = 4
"""Casts that a worker holds open: runs that take turns, such as two banks that are compared."""


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
    """An `Engine` on this machine.

    Each `converse` starts its own processes and ends them. Many short runs share them, and what they have loaded and
    read, where the engine is a context manager: `with LocalEngine(2) as engine: ...`.
    """

    def __init__(self, workers: int = 1, in_flight: int = 64) -> None:
        """Take the processes for local casts, and the talks at a time for casts that ask models."""
        self._workers, self._in_flight = workers, in_flight
        self._stays = False
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Keep the processes, once started, from one run to the next."""
        self._stays = True
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        self._stays = False
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    async def converse(self, recipe: Recipe, tasks: Iterable[Task]) -> AsyncGenerator[Transcript]:
        """Yield a transcript for each task as it is finished.

        Raises:
            EscError: A conversation cannot be held; those before it are out.
        """
        if recipe.asks_models or self._workers == 1:
            found = _here(recipe, tasks, self._in_flight if recipe.asks_models else 1)
        else:
            found = self._in_processes(recipe, tasks)
        try:
            async for transcript in found:
                yield transcript
        finally:
            await found.aclose()

    async def _in_processes(self, recipe: Recipe, tasks: Iterable[Task]) -> AsyncGenerator[Transcript]:
        pool = self._pool or _pool(self._workers)
        if self._stays:
            self._pool = pool
        made = pickle.dumps(recipe)
        waiting = iter(tasks)
        under_way: set[asyncio.Future[bytes]] = set()
        done: set[asyncio.Future[bytes]] = set()
        try:
            while True:
                for task in _some(waiting, self._workers * AHEAD - len(under_way)):
                    under_way.add(asyncio.wrap_future(pool.submit(_work, made, task)))
                if not under_way:
                    return
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for finished in done:
                    yield Transcript.model_validate_json(finished.result())
        except BrokenProcessPool as error:
            self._pool = None
            # All will hear the same; one that is cancelled meanwhile would bring the pool's own thread down.
            await asyncio.gather(*under_way, return_exceptions=True)
            raise EscError(
                "A worker process ended by itself. What was finished is kept; take the run up again."
            ) from error
        finally:
            for future in under_way:
                future.cancel()
            await asyncio.gather(*under_way, *done, return_exceptions=True)
            if pool is not self._pool:
                await asyncio.to_thread(pool.shutdown, cancel_futures=True)


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


def one_thread_each() -> None:
    """Keep numerical libraries to one thread here and in the workers: threads would only wait for each other."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _pool(workers: int) -> ProcessPoolExecutor:
    one_thread_each()  # workers are started with this environment
    context = multiprocessing.get_context("spawn")  # a forked encoder would share locks with threads that are not there
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _some(waiting: Iterator[Task], n: int) -> Iterator[Task]:
    for _ in range(n):
        task = next(waiting, None)
        if task is None:
            return
        yield task


class _OpenCast:
    """A cast that a task of its own holds open, since what is opened in a task has to be closed in it."""

    def __init__(self, recipe: Recipe) -> None:
        self._made: asyncio.Future[Cast] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._life = asyncio.create_task(self._live(recipe))

    async def cast(self) -> Cast:
        """Return the cast, or fail as its recipe did."""
        return await self._made

    async def close(self) -> None:
        """End what it holds open."""
        self._over.set()
        await self._life

    async def _live(self, recipe: Recipe) -> None:
        try:
            async with recipe.open() as cast:
                self._made.set_result(cast)
                await self._over.wait()
        except Exception as error:
            if self._made.done():
                raise
            self._made.set_exception(error)


class _Worker:
    """Casts in a process of its own, on an event loop that lives as long as the process."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._open: dict[bytes, _OpenCast] = {}
        """By the recipe as it was sent, the one used last at the end."""

    def hold(self, recipe: bytes, task: Task) -> bytes:
        return self._runner.run(self._held(recipe, task)).model_dump_json().encode()

    def close(self) -> None:
        """Close the casts, each in its own task, and the loop."""
        self._runner.close()

    async def _held(self, recipe: bytes, task: Task) -> Transcript:
        held = self._open.pop(recipe, None)
        if held is None:
            while len(self._open) >= CASTS:
                await self._open.pop(next(iter(self._open))).close()
            held = _OpenCast(pickle.loads(recipe))
            await held.cast()  # one that cannot be made is not kept
        self._open[recipe] = held
        return await hold(await held.cast(), task)


_WORKER: list[_Worker] = []


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    worker = _Worker()
    atexit.register(worker.close)
    _WORKER.append(worker)


def _work(recipe: bytes, task: Task) -> bytes:
    try:
        return _WORKER[0].hold(recipe, task)
    except EscError as error:
        raise EscError(str(error)) from None  # one that surely can be sent


def _die_with_parent() -> None:
    """End this process when its parent is gone: after a `kill -9` nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
