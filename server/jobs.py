"""Tools for long work: submit, status, cancel (DeerFlow's `task_toolsets` contract; plain tools for every other host).

The work runs in a process of its own that outlives the server; what is known of it stands in its folder, so that any
server finds it again by id. `pipeline` is imported inside the tools, and of it only what is light.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio.to_thread
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request
from mcp_types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.errors import InputError, JobError
from .tools import expecting

if TYPE_CHECKING:
    from ..pipeline.jobs import Job, JobRecord, JobSettings
    from .watch import LiveBank

POLL_SECONDS = 5.0
Status = Literal["running", "completed", "failed", "cancelled"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BuildStarted(_Answer):
    """Answer of `build_bank`."""

    task_id: str = Field(description="Pass it to `build_status` and `cancel_build`; it stays valid over restarts.")
    status: Literal["running"] = "running"
    poll_after_seconds: float = Field(description="When to ask `build_status` first.")


class BuildProgress(_Answer):
    """How far the present phase has come."""

    done: int
    total: int | None = Field(description="Null where it is not known.")


class BuildOutcome(_Answer):
    """What a build gave."""

    bank_version: str = Field(description="The version that holds the skills; the server serves it by itself.")
    bank: str = Field(description="The bank's folder on the server's machine.")
    skills: int
    left_out: int = Field(description="Situations without a valid skill; the report says why.")
    dialogues: int
    failed_dialogues: int = Field(description="Dialogues that could not be annotated; the report says why.")
    prototypes: int
    report: str = Field(description="Path of the report on the server's machine.")


class BuildStatus(_Answer):
    """Answer of `build_status` and `cancel_build`."""

    task_id: str
    status: Status = Field(description="'failed' is final until the job is resumed; it is no reason to ask again.")
    phase: str = Field(description="reading, annotating, embedding, grouping, writing, checking, committing, done.")
    progress: BuildProgress
    notes: tuple[str, ...] = Field(
        description="What a person should know, e.g. that fewer skills were made than asked."
    )
    result: BuildOutcome | None = Field(default=None, description="Present when completed.")
    error: str | None = Field(default=None, description="Present when failed: what went wrong, and what to do.")
    poll_after_seconds: float | None = Field(default=None, description="When to ask again; null when it has ended.")


Task = Annotated[str, Field(min_length=1, max_length=100, description="The `task_id` that `build_bank` gave.")]
Maker = Literal["local", "llm"]


def add_job_tools(mcp: FastMCP, live: "LiveBank") -> None:
    """Register `build_bank`, `build_status` and `cancel_build` on `mcp`, building into the bank of `live`."""

    async def build_bank(
        corpus: Annotated[
            list[str] | None,
            Field(
                min_length=1,
                max_length=100,
                description=(
                    "Files, or folders of files, on the server's machine that hold raw dialogues (.jsonl, .json, "
                    ".txt). Absolute paths, or paths relative to the folder ESC_CORPUS_DIR; over HTTP only paths "
                    "inside that folder are read. Leave it out with `resume`."
                ),
            ),
        ] = None,
        annotator: Annotated[
            Maker,
            Field(description="Who labels the dialogues: 'local' (the shipped encoder, free) or 'llm' (costs money)."),
        ] = "local",
        writer: Annotated[
            Maker,
            Field(description="Who writes the skills: 'local' (a library of lines, free) or 'llm' (costs money)."),
        ] = "local",
        skills: Annotated[
            Annotated[int, Field(ge=1, le=200)] | Literal["auto"],
            Field(description="How many skills to make, or 'auto' to let the corpus decide."),
        ] = 27,
        max_calls: Annotated[
            int | None, Field(ge=0, description="Most calls to a model; the server's own cap holds in any case.")
        ] = None,
        max_tokens: Annotated[
            int | None, Field(ge=0, description="Most tokens in and out together; the server's own cap holds, too.")
        ] = None,
        max_usd: Annotated[
            float | None, Field(ge=0, description="Most US dollars; the server's own cap holds in any case.")
        ] = None,
        resume: Annotated[
            str | None,
            Field(description="Id of a job that was killed, failed or cancelled: go on with it, where it was."),
        ] = None,
    ) -> BuildStarted:
        caps = {"calls": max_calls, "tokens": max_tokens, "usd": max_usd}
        remote = over_http()

        def work() -> str:
            if (corpus is None) == (resume is None):
                raise InputError("Pass either `corpus` (a new build) or `resume` (the id of an earlier one).")
            if resume is not None:
                return _resume(resume, caps)
            return _start(live.root(), corpus or [], remote, annotator, writer, skills, caps)

        return BuildStarted(task_id=await anyio.to_thread.run_sync(work), poll_after_seconds=POLL_SECONDS)

    async def build_status(task_id: Task) -> BuildStatus:
        return await anyio.to_thread.run_sync(lambda: _status(task_id))

    async def cancel_build(task_id: Task) -> BuildStatus:
        return await anyio.to_thread.run_sync(lambda: _cancel(task_id))

    write: dict[str, Any] = {"read_only_hint": False, "open_world_hint": False}
    for function, title, description, annotations in (
        (
            build_bank,
            "Build a bank from dialogues",
            "Build a new bank of skills from raw dialogues and make it the active version, for every client of this "
            "server. Call it only when a person who looks after the bank asks for it, never during a talk. It takes "
            "minutes to hours: it returns a `task_id` at once, and `build_status` says how it goes. One build runs at "
            "a time; the bank in use stays in use until the new one is complete, and `rollback_bank` goes back.",
            write | {"destructive_hint": True, "idempotent_hint": False},
        ),
        (
            build_status,
            "How a build stands",
            "Say how a build of the bank stands. Call it with the `task_id` of `build_bank`, not sooner than "
            "`poll_after_seconds`, until `status` is no longer 'running'.",
            {"read_only_hint": True, "open_world_hint": False, "idempotent_hint": True},
        ),
        (
            cancel_build,
            "Cancel a build",
            "Stop a build of the bank and say how it ended. Call it when the person who asked for the build wants it "
            "stopped. What was done is kept: `build_bank` with `resume` goes on from there. On a build that has ended "
            "it changes nothing.",
            write | {"destructive_hint": False, "idempotent_hint": True},
        ),
    ):
        mcp.tool(expecting(function), description=description, annotations=ToolAnnotations(title=title, **annotations))


def over_http() -> bool:
    """Whether the call under way came over HTTP: whoever sent it need not be the owner of this machine's files."""
    try:
        get_http_request()
    except RuntimeError:
        return False
    return True


def _start(
    bank: Path, corpus: list[str], remote: bool, annotator: Maker, writer: Maker, skills: Any, caps: dict[str, Any]
) -> str:
    from ..pipeline.build_plan import Limits, plan_build, start_build
    from ..pipeline.jobs import JobSettings, spawn

    settings = JobSettings()
    plan = plan_build(
        allowed(corpus, settings, remote=remote),
        bank_dir=bank,
        annotator=annotator,
        writer=writer,
        skills=skills,
        limits=Limits(**caps),
    )
    job, locks = start_build(settings.jobs(), plan)
    spawn(job, locks)
    return job.id


def _resume(task_id: str, caps: dict[str, Any]) -> str:
    from ..pipeline.build_plan import Limits, resume_build
    from ..pipeline.jobs import JobSettings, find_job, spawn

    job, locks = resume_build(find_job(JobSettings().jobs(), task_id), Limits(**caps))
    spawn(job, locks)
    return job.id


def _status(task_id: str) -> BuildStatus:
    from ..pipeline.jobs import JobSettings, find_job

    return _as_status(_a_build(find_job(JobSettings().jobs(), task_id)).look())


def _cancel(task_id: str) -> BuildStatus:
    from ..pipeline.jobs import JobSettings, cancel_job, find_job

    return _as_status(cancel_job(_a_build(find_job(JobSettings().jobs(), task_id))))


def _a_build(job: "Job") -> "Job":
    if (kind := job.read().kind) != "build":
        raise JobError(f"Job {job.id} is no build but of kind {kind!r}; `evolve_status` and `cancel_evolve` know it.")
    return job


def _as_status(record: "JobRecord") -> BuildStatus:
    running = record.state.value == "running"
    return BuildStatus(
        task_id=record.id,
        status=record.state.value,
        phase=record.phase,
        progress=BuildProgress(done=record.progress.done, total=record.progress.total),
        notes=record.notes,
        result=None if record.result is None else BuildOutcome.model_validate(record.result),
        error=record.error,
        poll_after_seconds=POLL_SECONDS if running else None,
    )


def allowed(corpus: list[str], settings: "JobSettings", *, remote: bool) -> list[Path]:
    """Return the files that `corpus` names, if the caller may have them read.

    Over stdio the caller is a program of the machine's owner, and any file goes. Over HTTP it may be anybody with the
    token, and only what the owner has put into one folder is read; what lies outside is not even looked for.

    Raises:
        InputError: A path is outside the folder, is relative to no folder, or holds no file.
    """
    from ..pipeline.build_plan import corpus_files

    base = settings.corpus_dir.expanduser().resolve() if settings.corpus_dir else None
    if remote and base is None:
        raise InputError(
            "Over HTTP corpora are read only from the folder that ESC_CORPUS_DIR names, and none is set. Set it where "
            "the server is started, or start the build there with `esc-skills build all`."
        )
    paths = [_placed(name, base) for name in corpus]
    for name, path in zip(corpus, paths, strict=True):
        if remote and not _inside(path, base):
            raise InputError(f"corpus: {name!r} lies outside ESC_CORPUS_DIR. Put the file into that folder.")
    files = corpus_files(paths)
    if remote and not all(_inside(file, base) for file in files):
        raise InputError("corpus: a folder holds a link that leads outside ESC_CORPUS_DIR. Put the file itself there.")
    return files


def _placed(name: str, base: Path | None) -> Path:
    path = Path(name).expanduser()
    if path.is_absolute():
        return path
    if base is None:
        raise InputError(f"corpus: {name!r} is relative. Pass an absolute path, or set ESC_CORPUS_DIR to its folder.")
    return base / path


def _inside(path: Path, base: Path | None) -> bool:
    return base is not None and path.resolve().is_relative_to(base)
