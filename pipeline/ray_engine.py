"""An `Engine` that annotates on the nodes of a Ray cluster (extra `ray`); docs/ray.md says how to set one up.

Batches of dialogues are tasks: any free worker takes one, opens the annotator by its recipe (whose heavy part, the
encoder, stays loaded in the worker's process) and sends the labels back. A task whose worker or node is lost is given
to another one. Labels depend on one dialogue alone, so it does not matter who reads which; they are handed on in the
order of the corpus.
"""

import asyncio
import logging
import pickle
import socket
import sys
import traceback
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, redirect_stdout
from importlib import import_module
from importlib.metadata import version
from typing import Any, cast

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..skills_bank.errors import EscError, InputError
from .annotator import Annotation, Annotator, NotAnnotated, in_order, stream
from .corpus import Dialogue
from .engine import AnnotatorRecipe

BATCH = 8
"""Dialogues a task: seconds of work, so little is lost with a node, and some 30 ms of it to open the annotator."""
RETRIES = 4
"""So often a batch is given to another worker when the one that had it is lost."""
IN_FLIGHT, IN_FLIGHT_A_CPU = 16, 4
"""Batches under way, at least and for each CPU: some wait so that no worker does, and a late one holds up few."""
REACH_SECONDS = 10.0
"""Ray itself tries for minutes to reach a 'host:port' where nothing listens."""
_ONE_MACHINE = (
    "The annotator 'llm' runs with --engine local only: the journal that keeps a call from being paid twice, and the "
    "caps, are those of one machine. Leave --engine ray out, or use --annotator local."
)

logger = logging.getLogger(__name__)


class RaySettings(BaseSettings):
    """Which cluster annotates; each field is read from `ESC_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="ESC_", env_ignore_empty=True, extra="ignore", frozen=True)

    ray_address: str = Field(
        default="auto",
        description="'auto' (the cluster this machine is a node of, or RAY_ADDRESS), 'host:port' (the same, named), "
        "'ray://host:port' (Ray client, from anywhere) or 'local' (one that is started here and ends with the run).",
    )
    ray_in_flight: int | None = Field(
        default=None,
        ge=1,
        description=f"Batches under way at a time. Default: {IN_FLIGHT_A_CPU} for each CPU that the cluster has at the "
        f"start, and at least {IN_FLIGHT}; more for a cluster that is to grow.",
    )


class RayEngine:
    """An `Engine` on a Ray cluster: the local engine's annotations, byte for byte, with every node's help."""

    def __init__(self, address: str = "auto", in_flight: int | None = None) -> None:
        """Take the settings, as `RaySettings` describes them; nothing is connected before `annotate`.

        Raises:
            InputError: Ray is not installed.
        """
        self._ray = import_ray()
        self._address, self._in_flight = address, in_flight

    async def annotate(self, recipe: AnnotatorRecipe, dialogues: AsyncIterable[Dialogue]) -> AsyncGenerator[Annotation]:
        """Yield one annotation per dialogue, in the order they came in; those of `in_flight` batches are held.

        A dialogue that takes its worker down on every attempt comes back as `NotAnnotated`.

        Raises:
            InputError: The cluster cannot be reached, or the annotator is not one for a cluster.
            EscError: A worker has no esc-skills or another one than this machine, or the cluster was lost.
        """
        from .llm_annotator import LLMAnnotator

        async with recipe.open() as annotator:
            if isinstance(annotator, LLMAnnotator):
                raise InputError(_ONE_MACHINE)
            expected = _who(annotator)
        async with self._connected():
            crew = _Crew(self._ray, recipe, expected)
            found = in_order(_batches(dialogues), crew.annotate, self._in_flight or self._width())
            async with aclosing(cast("AsyncGenerator[list[Annotation]]", found)) as batches:
                async for annotations in batches:
                    for annotation in annotations:
                        yield annotation

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        """Be a job of the cluster; with the connection everything ends that it had under way."""
        if self._ray.is_initialized():
            raise InputError("This process is connected to a Ray cluster already; call `ray.shutdown()` first.")
        await _reach(self._address)
        with redirect_stdout(sys.stderr):  # where a thread of Ray prints that a node was lost; stdout is for results
            try:
                await self._connect()
                yield
            finally:  # after a failed attempt too, of which Ray keeps half
                await asyncio.to_thread(self._ray.shutdown)

    async def _connect(self) -> None:
        """Connect, in a thread: it takes seconds, and a job's heart has to beat."""
        options = {"log_to_driver": False, "logging_level": logging.ERROR}  # a cluster's logs stay with the cluster
        try:
            await asyncio.to_thread(self._ray.init, self._address, **options)
        except Exception as error:  # Ray raises what it comes upon, of a dozen types
            raise InputError(
                f"No connection to the Ray cluster {self._address!r}: {error} Set ESC_RAY_ADDRESS to 'local', "
                "'host:port' or 'ray://host:port', or leave --engine ray out."
            ) from error

    def _width(self) -> int:
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        if not cpus:
            logger.warning("The Ray cluster %s has no CPU at present; annotation waits for one.", self._address)
        return max(IN_FLIGHT, IN_FLIGHT_A_CPU * cpus)


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        InputError: It is not installed.
    """
    try:
        return import_module("ray")
    except ImportError as error:
        raise InputError("--engine ray needs Ray: pip install 'esc-skills[ray]', or leave it out.") from error


def check_ray(annotator: str) -> None:
    """Refuse at once what `RayEngine` would refuse later; `annotator` is the plan's.

    Raises:
        InputError: Ray is not installed, or the annotator asks a language model.
    """
    import_ray()
    if annotator == "llm":
        raise InputError(_ONE_MACHINE)


class _Crew:
    """Whoever of the cluster is free."""

    def __init__(self, ray: Any, recipe: AnnotatorRecipe, expected: str) -> None:
        self._errors, self._dumps = ray.exceptions, ray.cloudpickle.dumps
        self._work = recipe, expected
        # A remote function is bound to the connection it is made in.
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_for_worker())
        self._lost = (
            self._errors.WorkerCrashedError,
            self._errors.NodeDiedError,
            self._errors.OutOfMemoryError,
            self._errors.ObjectLostError,
        )

    async def annotate(self, batch: Sequence[Dialogue]) -> list[Annotation]:
        """Return the annotations of a batch, whoever made them."""
        try:
            return await self._task.remote(self._dumps((*self._work, batch)))
        except self._errors.RayTaskError as error:
            raise _explained(error.cause) from error
        except self._lost as error:
            if len(batch) == 1:
                reason = f"took its worker down {RETRIES + 1} times ({type(error).__name__})"
                return [NotAnnotated(dialogue=batch[0].id, reason=reason)]
        except (self._errors.RayError, ConnectionError) as error:
            raise EscError(
                f"The Ray cluster was lost ({type(error).__name__}). What was annotated is kept; resume the job."
            ) from error
        # One of the batch takes its worker down, or the batch had very bad luck: each by itself.
        return [annotation for dialogue in batch for annotation in await self.annotate([dialogue])]


def on_worker(work: bytes) -> list[Annotation]:
    """Annotate a batch, in a worker's process.

    Errors leave here without the text of a dialogue that they may quote, since Ray logs them.
    """
    recipe, expected, batch = pickle.loads(work)
    try:
        return asyncio.run(_annotations(recipe, expected, batch))
    except EscError as error:
        raise EscError(str(error)) from None  # one that surely can be sent
    except Exception as error:
        where = "".join(traceback.format_tb(error.__traceback__))
        raise RuntimeError(f"{type(error).__name__}\n{where}") from None


async def _annotations(recipe: AnnotatorRecipe, expected: str, batch: Sequence[Dialogue]) -> list[Annotation]:
    async with recipe.open() as annotator:
        if _who(annotator) != expected:
            raise EscError(
                f"{socket.gethostname()} has {_who(annotator)}, this run {expected}; their labels would differ. "
                "Install the same esc-skills on every node."
            )
        return [annotation async for annotation in annotator.annotate(stream(batch))]


def _for_worker() -> Any:
    """Return what a worker is sent.

    A local function is sent as code, so that on a node without esc-skills the import in it fails, in the task, and not
    something in Ray's insides.
    """

    def annotate_batch(work: bytes) -> list:
        return import_module("esc_skills.pipeline.ray_engine").on_worker(work)

    return annotate_batch


def _explained(cause: Exception) -> Exception:
    if isinstance(cause, ModuleNotFoundError):
        return EscError(f"A Ray worker has {cause}. Install the same esc-skills[ray] on every node (docs/ray.md).")
    return EscError(f"On a Ray worker: {cause}") if isinstance(cause, EscError) else cause


def _who(annotator: Annotator) -> str:
    return f"esc-skills {version('esc-skills')} with {annotator.name}"


async def _batches(dialogues: AsyncIterable[Dialogue]) -> AsyncGenerator[list[Dialogue]]:
    batch: list[Dialogue] = []
    async for dialogue in dialogues:
        batch.append(dialogue)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _reach(address: str) -> None:
    """Find out soon whether anybody listens at an address.

    At the port of the Ray client Ray itself gives up after 30 s.

    Raises:
        InputError: Nobody does, or it is no address.
    """
    if address in ("auto", "local"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise InputError(f"ESC_RAY_ADDRESS: {address!r} is none of 'auto', 'local', 'host:port', 'ray://host:port'.")
    if address.startswith("ray://"):
        return
    try:
        async with asyncio.timeout(REACH_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError, OverflowError) as error:
        raise InputError(
            f"Nothing answers at {address} ({type(error).__name__}). Set ESC_RAY_ADDRESS to the cluster's head: port "
            "6379 as 'host:port' from a node of it, port 10001 as 'ray://host:port' from elsewhere."
        ) from error
    writer.close()
    await writer.wait_closed()
