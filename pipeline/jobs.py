"""Long work as a job: a folder that says where it stands, and a process that outlives whoever started it.

    <jobs dir>/<job id>/job.json   plan, state, phase, progress, result or error; replaced as a whole
    <jobs dir>/<job id>/.lock      held (`flock`) by the job's process: free means that the process is gone
    <jobs dir>/<job id>/cancel     there: the job is to stop
    <jobs dir>/<job id>/log.txt    what the process printed; holds no text of a corpus

Whoever starts a job takes its locks and hands them to the new process by their descriptors, so that there is no moment
in which nobody holds them. Nothing heavy is imported here: a server starts and looks at jobs through this module.
"""

import asyncio
import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..skills_bank.errors import BankError, EscError, JobError, JobNotFound
from ..skills_bank.files import replace_durably

APP = "esc-skills"
RUNNERS = {
    "build": "esc_skills.pipeline.build:run",
    "evolve": "esc_skills.evolve.loop:run",
    "propose": "esc_skills.evolve.propose:run",
}
"""What does the work of each kind of job: an async function of the `Job` that returns the result."""
FORMAT = 1
NICE = 10
"""Serving goes first: a selection must not wait for a build."""
WRITE_SECONDS = 0.5
BEAT_SECONDS = 2.0
LOOK_SECONDS = 0.25
_LOCK_WAIT = 2.0
"""A look at a lock holds it for a moment, and a job that has just ended may still be closing down."""
_LOCKS = "ESC_JOB_LOCKS"
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")} | {"TOKENIZERS_PARALLELISM": "false"}
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SHOWN = 5

logger = logging.getLogger(__name__)


class JobSettings(BaseSettings):
    """Where jobs lie, and what a server may read; each field is read from `ESC_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="ESC_", env_ignore_empty=True, extra="ignore", frozen=True)

    jobs_dir: Path | None = Field(default=None, description="Folder of the jobs. Default: in the user's data folder.")
    corpus_dir: Path | None = Field(
        default=None,
        description="Folder from which a server reads corpora that are named by a relative path, and, over HTTP, the "
        "only one from which it reads any.",
    )

    def jobs(self) -> Path:
        """Return the folder of the jobs."""
        return (self.jobs_dir or user_data_path(APP) / "jobs").expanduser().absolute()


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobState(StrEnum):
    """How a job stands; every state but the first is final, until the job is resumed."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Progress(_Frozen):
    """How far a phase has come; `total` is null where it is not known."""

    done: int = 0
    total: int | None = None


class JobRecord(_Frozen):
    """What `job.json` holds."""

    format: Literal[1] = FORMAT
    id: str
    kind: str
    plan: dict[str, Any]
    state: JobState = JobState.RUNNING
    phase: str = "starting"
    progress: Progress = Progress()
    attempts: int = Field(default=1, description="How often it was started: once, and once for each resume.")
    pid: int | None = None
    started: str = Field(description="ISO 8601, UTC.")
    heartbeat: str = Field(description="When its process last wrote here.")
    notes: tuple[str, ...] = Field(default=(), description="What a person should know of the result.")
    result: dict[str, Any] | None = None
    error: str | None = None


class Held:
    """A lock that is held until `close`, or until the last process that it was handed to has ended."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def write(self, text: str) -> None:
        """Say in the lock's file who holds it."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def close(self) -> None:
        """Let go, in this process."""
        os.close(self.descriptor)


def take(path: Path, wait: float = _LOCK_WAIT) -> Held | None:
    """Take a lock; None where another process holds it and does not let go within `wait` seconds.

    Raises:
        BankError: This system has no file locks of that kind.
    """
    descriptor, deadline = os.open(path, os.O_RDWR | os.O_CREAT, 0o600), time.monotonic() + wait
    while not _flock(descriptor, shared=False):
        if time.monotonic() >= deadline:
            os.close(descriptor)
            return None
        time.sleep(0.02)
    return Held(descriptor)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _flock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, *, shared: bool) -> bool:
    try:
        import fcntl
    except ImportError as error:
        raise BankError("Jobs need a POSIX system: they take file locks.") from error
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Job:
    """One job's folder. The process that holds its lock writes `job.json`; everybody else reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writing = threading.Lock()
        self._record: JobRecord | None = None
        self._written = 0.0

    @property
    def id(self) -> str:
        """The job's id, which is its folder's name."""
        return self.folder.name

    @property
    def lock(self) -> Path:
        """The file whose lock the job's process holds."""
        return self.folder / ".lock"

    @property
    def log(self) -> Path:
        """Where a detached process prints to."""
        return self.folder / "log.txt"

    def read(self) -> JobRecord:
        """Return what `job.json` says.

        Raises:
            JobError: It cannot be read.
        """
        try:
            return JobRecord.model_validate_json((self.folder / "job.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise JobError(f"{self.folder / 'job.json'} cannot be read ({type(error).__name__}).") from error

    def look(self) -> JobRecord:
        """Return how the job stands; one whose process is gone without a word has failed."""
        record = self.read()
        if record.state is JobState.RUNNING and not is_held(self.lock):
            record = self.read()  # it may have ended between the two looks
            if record.state is JobState.RUNNING:
                return record.model_copy(update={"state": JobState.FAILED, "error": _gone(record)})
        return record

    def write(self, **changes: Any) -> JobRecord:
        """Change `job.json`; only for the process that holds the lock."""
        with self._writing:
            self._record = (self._record or self.read()).model_copy(update={**changes, "heartbeat": _now()})
            self._save()
            return self._record

    def advance(self, phase: str, done: int = 0, total: int | None = None) -> None:
        """Say how far the job has come; written at most every `WRITE_SECONDS` within a phase."""
        with self._writing:
            before = self._record or self.read()
            progress = Progress(done=done, total=total)
            self._record = before.model_copy(update={"phase": phase, "progress": progress, "heartbeat": _now()})
            if phase != before.phase or time.monotonic() - self._written >= WRITE_SECONDS:
                self._save()

    def note(self, text: str) -> None:
        """Add a note, once."""
        notes = (self._record or self.read()).notes
        if text not in notes:
            self.write(notes=(*notes, text))

    def ask_to_stop(self) -> None:
        """Leave the mark that a running job stops at."""
        (self.folder / "cancel").touch()

    @property
    def to_stop(self) -> bool:
        """Whether the job is to stop."""
        return (self.folder / "cancel").exists()

    def take(self) -> Held:
        """Take the job's lock.

        Raises:
            JobError: A process is at work on it.
        """
        held = take(self.lock)
        if held is None:
            raise JobError(f"Job {self.id} is running (process {self.read().pid}).")
        return held

    def reopen(self, plan: BaseModel | None = None) -> JobRecord:
        """Put a job that has ended back to its start, what was done being kept; only for the process with the lock.

        Args:
            plan: What it is to do from now on; default what it was to do.
        """
        (self.folder / "cancel").unlink(missing_ok=True)
        record = self.read()
        return self.write(
            plan=record.plan if plan is None else plan.model_dump(mode="json"),
            state=JobState.RUNNING,
            phase="starting",
            attempts=record.attempts + 1,
            error=None,
            notes=(),
            pid=None,
        )

    def _save(self) -> None:
        assert self._record is not None
        replace_durably(self.folder / "job.json", (self._record.model_dump_json(indent=1) + "\n").encode())
        self._written = time.monotonic()


def _gone(record: JobRecord) -> str:
    return (
        f"Its process ended in phase {record.phase!r} without a word: it was killed, or the machine went down. What "
        f"was done is kept; resume job {record.id}."
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# --- all jobs -------------------------------------------------------------------------------------------------------


def all_jobs(root: Path) -> list[Job]:
    """Return the jobs in `root`, newest first."""
    folders = root.iterdir() if root.is_dir() else ()
    return [Job(folder) for folder in sorted(folders, reverse=True) if (folder / "job.json").is_file()]


def find_job(root: Path, job: str) -> Job:
    """Return a job by id.

    Raises:
        JobNotFound: There is none.
    """
    found = Job(root / job)
    if not _ID.fullmatch(job) or not (found.folder / "job.json").is_file():
        raise JobNotFound(job, [known.id for known in all_jobs(root)[:_SHOWN]])
    return found


def create_job(root: Path, kind: str, plan: dict[str, Any], job: str | None = None) -> tuple[Job, Held]:
    """Make the folder of a new job, and take its lock."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = root / (job or f"{kind}-{stamp}-{secrets.token_hex(3)}")
    folder.mkdir(parents=True, mode=0o700)
    found = Job(folder)
    held = found.take()
    found._record = JobRecord(id=folder.name, kind=kind, plan=plan, started=_now(), heartbeat=_now())
    found._save()
    return found, held


def cancel_job(job: Job, wait: float = 30.0) -> JobRecord:
    """Stop a job and return its final record; calling it again, or on a job that has ended, changes nothing.

    A process that does not stop within `wait` seconds is killed, unless it is writing to the bank.

    Raises:
        JobError: It is still writing to the bank; ask again.
    """
    if job.look().state is not JobState.RUNNING:
        return _settle_dead(job)
    job.ask_to_stop()
    deadline = time.monotonic() + wait
    while (record := job.look()).state is JobState.RUNNING:
        if time.monotonic() >= deadline:
            if record.phase == "committing":
                raise JobError(f"Job {job.id} is writing to the bank just now. Ask again in a moment.")
            if record.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(record.pid, signal.SIGKILL)
            break
        time.sleep(LOOK_SECONDS)
    return _settle_dead(job)


def _settle_dead(job: Job) -> JobRecord:
    """Write down that a job whose process is gone was cancelled, if it was; return the final record."""
    if job.read().state is JobState.RUNNING:
        held = job.take()
        try:
            if job.read().state is JobState.RUNNING:
                job.write(state=JobState.CANCELLED, error=None)
        finally:
            held.close()
    return job.look()


# --- the process ----------------------------------------------------------------------------------------------------


def spawn(job: Job, locks: Collection[Held]) -> None:
    """Start the job in a process of its own, which outlives this one, and hand it the locks.

    Raises:
        JobError: The process could not be started.
    """
    numbers = [held.descriptor for held in locks]
    env = os.environ | _ONE_THREAD | {_LOCKS: ",".join(map(str, numbers))}
    try:
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "esc_skills.pipeline.jobs", str(job.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=numbers,
                env=env,
            )
    except OSError as error:
        job.write(state=JobState.FAILED, error=f"Its process could not be started: {error}.")
        raise JobError(f"Job {job.id} could not be started: {error}.") from error
    finally:
        for held in locks:
            held.close()
    threading.Thread(target=process.wait, name=f"{job.id}-wait", daemon=True).start()  # so that no zombie stays


def run_here(job: Job, locks: Iterable[Held] = ()) -> JobRecord:
    """Do a job's work in this process and return its final record; the locks are let go at the end."""
    try:
        return asyncio.run(_supervise(job))
    finally:
        for held in locks:
            held.close()


async def _supervise(job: Job) -> JobRecord:
    """Run the work with a heartbeat beside it, and write down how it ended."""
    record = job.write(pid=os.getpid())
    work = asyncio.ensure_future(_runner(record.kind)(job))
    beat = asyncio.create_task(_beat(job, work))
    try:
        result = await work
    except asyncio.CancelledError:
        if not job.to_stop:  # Ctrl-C: not asked for by a mark, so the job counts as broken off
            raise
        return job.write(state=JobState.CANCELLED, error=None)
    except EscError as error:
        return job.write(state=JobState.FAILED, error=str(error))
    except Exception as error:
        # The message of an unforeseen error may quote a dialogue; where it arose is told, what it says is not.
        where = "".join(traceback.format_tb(error.__traceback__))
        logger.error("job %s: %s\n%s", job.id, type(error).__name__, where)
        phase = job.read().phase
        return job.write(
            state=JobState.FAILED,
            error=f"{type(error).__name__} in phase {phase!r}, a fault of esc-skills; see {job.log}.",
        )
    finally:
        beat.cancel()
    return job.write(state=JobState.COMPLETED, phase="done", result=result, error=None)


async def _beat(job: Job, work: "asyncio.Future[Any]") -> None:
    """Show every now and then that the process is alive; cancel the work once it is to stop."""
    last = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if job.to_stop:
            work.cancel()
            return
        if time.monotonic() - last >= BEAT_SECONDS:
            job.write()
            last = time.monotonic()


def _runner(kind: str) -> Callable[[Job], Awaitable[dict[str, Any]]]:
    if kind not in RUNNERS:
        raise JobError(f"No job of kind {kind!r}. Known: {', '.join(RUNNERS)}.")
    module, name = RUNNERS[kind].split(":")
    return getattr(import_module(module), name)


def go_gently() -> None:
    """Let everything else on the machine go first, and take one core: for the process of a job, before it begins."""
    os.environ.update(_ONE_THREAD)
    with suppress(OSError):
        os.nice(NICE)


def main(arguments: list[str] | None = None) -> int:
    """Run the job whose folder is named; started by `spawn`."""
    (folder,) = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for number in filter(None, os.environ.pop(_LOCKS, "").split(",")):
        os.set_inheritable(int(number), False)  # held until this process ends, and by none that it starts
    go_gently()
    record = run_here(Job(Path(folder)))
    print(f"{_now()} {record.state}: {record.error or 'done'}", file=sys.stderr)
    return 0 if record.state is JobState.COMPLETED else 1


if __name__ == "__main__":
    # Run as a script this module is `__main__`; what the work imports as `jobs` has to be the same classes.
    sys.exit(import_module("esc_skills.pipeline.jobs").main())
