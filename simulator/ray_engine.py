"""An `Engine` on the nodes of a Ray cluster (extra `ray`), as annotation has one; docs/ray.md says how to set one up.

Batches of conversations are tasks: any free worker takes one and makes the cast by its recipe. A task whose worker or
node is lost is given to another one. A conversation depends on its seed and profile alone, so it does not matter who
holds it.
"""

import asyncio
import pickle
import socket
import traceback
from collections.abc import AsyncGenerator, Iterable, Sequence
from importlib import import_module
from importlib.metadata import version
from itertools import islice
from typing import Any

from ..pipeline.ray_engine import RETRIES
from ..pipeline.ray_engine import RayEngine as _RayAnnotation
from ..skills_bank.errors import EscError, InputError
from .casting import Recipe
from .engine import Task, hold
from .session import Transcript

BATCH = 8
"""Conversations of a task: a second or two of work, against some 30 ms to make the cast."""
_ONE_MACHINE = (
    "A cast that asks language models runs with --engine local only: the journal that keeps a call from being paid "
    "twice, and the caps, are those of one machine. Leave --engine ray out."
)


class RayEngine(_RayAnnotation):
    """An `Engine` on a Ray cluster: the local engine's lines, with every node's help."""

    async def converse(self, recipe: Recipe, tasks: Iterable[Task]) -> AsyncGenerator[Transcript]:
        """Yield a transcript for each task as it is finished.

        Raises:
            InputError: The cluster cannot be reached, or the cast asks language models.
            EscError: A worker has no esc-skills or another version of it, or the cluster was lost.
        """
        if recipe.asks_models:
            raise InputError(_ONE_MACHINE)
        async with self._connected():
            crew = _Crew(self._ray, recipe)
            waiting, under_way = iter(tasks), set[asyncio.Task[list[Transcript]]]()
            width = self._in_flight or self._width()
            try:
                while True:
                    while len(under_way) < width and (batch := list(islice(waiting, BATCH))):
                        under_way.add(asyncio.create_task(crew.hold(batch)))
                    if not under_way:
                        return
                    done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    for finished in done:
                        for transcript in finished.result():
                            yield transcript
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)


class _Crew:
    """Whoever of the cluster is free."""

    def __init__(self, ray: Any, recipe: Recipe) -> None:
        self._errors, self._dumps, self._recipe = ray.exceptions, ray.cloudpickle.dumps, recipe
        # A remote function is bound to the connection it is made in.
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_for_worker())

    async def hold(self, batch: Sequence[Task]) -> list[Transcript]:
        """Return the conversations of a batch, whoever held them."""
        try:
            lines = await self._task.remote(self._dumps((self._recipe, version("esc-skills"), batch)))
        except self._errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ModuleNotFoundError):
                raise EscError(f"A Ray worker has {cause}. Install the same esc-skills[ray] on every node.") from error
            raise EscError(f"On a Ray worker: {cause}") from error
        except (self._errors.RayError, ConnectionError) as error:
            raise EscError(
                f"The Ray cluster was lost ({type(error).__name__}). What was finished is kept; take the run up again."
            ) from error
        return [Transcript.model_validate_json(line) for line in lines]


def on_worker(work: bytes) -> list[bytes]:
    """Hold a batch, in a worker's process; errors leave without the words of a talk, since Ray logs them."""
    recipe, expected, batch = pickle.loads(work)
    try:
        if version("esc-skills") != expected:
            raise EscError(f"{socket.gethostname()} has esc-skills {version('esc-skills')}, this run is by {expected}.")
        return asyncio.run(_held(recipe, batch))
    except EscError as error:
        raise EscError(str(error)) from None  # one that surely can be sent
    except Exception as error:
        where = "".join(traceback.format_tb(error.__traceback__))
        raise RuntimeError(f"{type(error).__name__}\n{where}") from None


async def _held(recipe: Recipe, batch: Sequence[Task]) -> list[bytes]:
    async with recipe.open() as cast:
        return [(await hold(cast, task)).model_dump_json().encode() for task in batch]


def _for_worker() -> Any:
    """Return what a worker is sent: code, so that on a node without esc-skills the import in the task fails."""

    def hold_batch(work: bytes) -> list:
        return import_module("esc_skills.simulator.ray_engine").on_worker(work)

    return hold_batch
