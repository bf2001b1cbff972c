"""Many conversations as one run: a folder that says what was simulated and holds every transcript.

    run.json                     what the run is: everything its transcripts depend on, and nothing else
    transcripts.partial.jsonl    while it goes on: a line a conversation, in the order they were finished
    transcripts.jsonl            when it is complete: the same lines in the order of the profiles
    journal.sqlite               the calls to language models, where there are any
    .lock                        held by the process that works on it

A line is written when its conversation is over. A process that is killed leaves whole lines and at most one torn one;
the run that takes it up drops that one and holds every conversation that has no line. A local conversation depends on
the run's seed, its profile and its repeat alone, so the finished file is the same however often it was interrupted.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import aclosing
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..pipeline.jobs import take
from ..skills_bank.errors import InputError, JobError, LLMRefused
from ..skills_bank.files import replace_durably, sync_folder
from .casting import WITH_BANK, AgentName, CastRecipe, Maker, Recipe
from .engine import Engine, Task
from .profiles import ProfileSet
from .session import NOT_TAKEN, Transcript, conversation_seed

APP = "esc-skills"
RUN, DONE, PARTIAL, LOCK, JOURNAL = (
    "run.json", "transcripts.jsonl", "transcripts.partial.jsonl", ".lock", "journal.sqlite",
)  # fmt: skip
SYNC_EVERY = 32
"""Lines between two waits for the disk; a killed process loses none, a power cut at most so many."""
MOST_REFUSED = 5
"""So many talks that the server did not take, and none that it took, mean a wrong key or model name."""
ID_DIGITS = 8


class RunsSettings(BaseSettings):
    """Where runs lie; read from `ESC_RUNS_DIR`."""

    model_config = SettingsConfigDict(env_prefix="ESC_", env_ignore_empty=True, extra="ignore", frozen=True)

    runs_dir: Path | None = Field(default=None, description="Folder of the runs. Default: in the user's data folder.")

    def runs(self) -> Path:
        """Return the folder of the runs."""
        return (self.runs_dir or user_data_path(APP) / "runs").expanduser().absolute()


class RunSettings(BaseModel):
    """`run.json`: everything the transcripts depend on. Two runs that agree in it have the same transcripts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    esc_skills: str = Field(description="Version of the package.")
    agent: AgentName
    supporter: Maker = Field(description="Who words the agent's replies.")
    seeker: Maker
    agent_name: str = Field(description="With the versions of what decides the replies.")
    seeker_name: str
    rules: str
    region: str | None = Field(default=None, description="Whose helplines the fixed text at risk names.")
    materials: str = Field(description="Digest of the fitted files, lines and prompts that come with the simulator.")
    profiles: str
    profiles_hash: str
    n: int = Field(ge=1, description="Conversations.")
    seed: int
    bank_version: str | None = Field(default=None, description="None where the agent has no bank.")
    bank_hash: str | None = None
    models: dict[str, str] = Field(default_factory=dict)

    @property
    def id(self) -> str:
        """What the run is called: its main settings, and a hash of all of them."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:ID_DIGITS]
        agent = self.agent if self.supporter == "local" else f"{self.agent}.llm"
        name = Path(self.profiles).stem.replace("_", "-")
        return f"{agent}-{self.seeker}-{name}-n{self.n}-s{self.seed}-{digest}"


def settle_run(recipe: CastRecipe, profiles: ProfileSet, *, n: int | None = None, seed: int = 0) -> RunSettings:
    """Return the settings of a run of `recipe` over `profiles`.

    Raises:
        InputError: A part of the cast cannot be made, or a model would have to repeat itself.
    """
    from importlib.metadata import version

    if recipe.asks_models and n is not None and n > len(profiles.profiles):
        raise InputError(
            f"--n {n}: there are {len(profiles.profiles)} profiles. A model's answers are kept by what was asked, so a "
            "second talk with a profile would copy the first; run again with another --seed instead."
        )

    agent_name, seeker_name = recipe.names()
    banked = recipe.agent in WITH_BANK
    return RunSettings(
        esc_skills=version(APP),
        agent=recipe.agent,
        supporter=recipe.supporter,
        seeker=recipe.seeker,
        agent_name=agent_name,
        seeker_name=seeker_name,
        rules=recipe.rules,
        region=recipe.region,
        materials=materials_digest(),
        profiles=profiles.name,
        profiles_hash=profiles.digest,
        n=n or len(profiles.profiles),
        seed=seed,
        bank_version=recipe.bank.version if banked else None,
        bank_hash=recipe.bank.hash if banked else None,
        models={role.value: recipe.models[role] for role in recipe.roles()},
    )


@lru_cache(maxsize=1)
def materials_digest() -> str:
    """Return a hash over the data files of the simulator, less the profiles, which have their own."""
    root = Path(str(files("esc_skills.simulator")))
    paths = [p for kind in ("data/*.json", "data/*.yaml", "parts/**/*.yaml", "*.prompt.md") for p in root.glob(kind)]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(
            f"{path.relative_to(root).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()[:16]


def tasks_of(profiles: ProfileSet, n: int, seed: int) -> list[Task]:
    """Return the conversations of a run, in the order of the profiles.

    More than there are profiles: each comes several times, as repeats. Fewer: the ones whose hashed ids come first, so
    that a small run is a fair sample, the same for every seed, and part of every larger one.
    """
    order = list(profiles.profiles)
    whole, rest = divmod(n, len(order))
    chosen = {p.id for p in sorted(order, key=lambda p: hashlib.sha256(p.id.encode()).digest())[:rest]}
    return [
        Task(profile, repeat, conversation_seed(seed, profile.id, repeat))
        for profile in order
        for repeat in range(whole + (profile.id in chosen))
    ]


class RunFolder:
    """One run on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def complete(self) -> bool:
        """Whether every conversation has been held."""
        return (self.folder / DONE).is_file()

    def settings(self) -> RunSettings:
        """Return what `run.json` says.

        Raises:
            InputError: There is no run here, or `run.json` cannot be read.
        """
        path = self.folder / RUN
        try:
            return RunSettings.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise InputError(f"There is no run in {self.folder} (no {RUN}).") from None
        except (OSError, ValidationError) as error:
            raise InputError(
                f"{path} cannot be read ({type(error).__name__}); was it written by another version?"
            ) from (error)

    def transcripts(self) -> Iterator[Transcript]:
        """Yield the conversations: of a complete run in order, of another as they were finished.

        Raises:
            InputError: A line of a complete run is broken.
        """
        path = self.folder / (DONE if self.complete else PARTIAL)
        if not path.is_file():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield Transcript.model_validate_json(line)
                except ValidationError:
                    if not self.complete:
                        return  # torn
                    raise InputError(f"{path}, line {number} is no transcript of format 1.") from None


def find_run(name: str | Path, runs: Path) -> RunFolder:
    """Return a run by its folder, its id, or the beginning of its id.

    Raises:
        InputError: There is none, or several begin so.
    """
    for folder in (Path(name), runs / str(name)):
        if (folder / RUN).is_file():
            return RunFolder(folder)
    known = sorted(path.parent.name for path in runs.glob(f"*/{RUN}"))
    fitting = [each for each in known if each.startswith(str(name))]
    if len(fitting) == 1:
        return RunFolder(runs / fitting[0])
    if fitting:
        raise InputError(f"Several runs begin with {str(name)!r}: {', '.join(fitting)}.")
    raise InputError(f"No run {str(name)!r} in {runs}. Runs there: {', '.join(known[-5:]) or 'none'}.")


Progress = Callable[[Transcript], None]
"""Told of every conversation of the run, those of an earlier attempt included."""


async def simulate(
    folder: Path,
    settings: RunSettings,
    recipe: Recipe,
    profiles: ProfileSet,
    engine: Engine,
    *,
    resume: bool = False,
    on_progress: Progress | None = None,
) -> RunFolder:
    """Hold the conversations of a run that have not been held yet, and complete it.

    Args:
        folder: The run's folder; made where it is missing.
        settings: What the run is.
        recipe: How the cast is made.
        profiles: Whom to play.
        engine: Where.
        resume: Whether a run that was begun may be taken up.
        on_progress: Told of every conversation.

    Raises:
        InputError: The folder holds another run, or one that was begun and is not to be taken up.
        JobError: Another process works on it.
        EscError: A conversation could not be held; those before it are kept.
    """
    run = RunFolder(folder)
    _check_folder(run, settings, resume)
    folder.mkdir(parents=True, exist_ok=True)
    held = take(folder / LOCK)
    if held is None:
        raise JobError(f"Another process works on the run {folder}; wait for it, or end it.")
    try:
        return await _simulate(run, settings, recipe, profiles, engine, on_progress or (lambda _: None))
    finally:
        held.close()


async def _simulate(
    run: RunFolder, settings: RunSettings, recipe: Recipe, profiles: ProfileSet, engine: Engine, told: Progress
) -> RunFolder:
    if not (run.folder / RUN).is_file():
        text = json.dumps(settings.model_dump(mode="json"), indent=1) + "\n"
        replace_durably(run.folder / RUN, text.encode())
    tasks = tasks_of(profiles, settings.n, settings.seed)
    if run.complete:
        for transcript in run.transcripts():
            told(transcript)
        (run.folder / PARTIAL).unlink(missing_ok=True)  # where the last attempt ended just before it did so
        return run
    with Lines(run.folder / PARTIAL) as lines:
        for transcript in run.transcripts():
            told(transcript)
        to_do = [task for task in tasks if (task.profile.id, task.repeat) not in lines.places]
        refused, taken = 0, bool(lines.places)
        async with aclosing(engine.converse(recipe, to_do)) as finished:
            async for transcript in finished:
                refused, taken = _counted(transcript, refused, taken)
                lines.add(transcript)
                told(transcript)
        lines.sort_into(run.folder / DONE, [(task.profile.id, task.repeat) for task in tasks])
    (run.folder / PARTIAL).unlink()
    return run


def _counted(transcript: Transcript, refused: int, taken: bool) -> tuple[int, bool]:
    """Count talks that the server did not take.

    Raises:
        LLMRefused: It took none of the first `MOST_REFUSED`; that is no fault of a profile.
    """
    if transcript.trouble != NOT_TAKEN:
        return refused, True
    if not taken and refused + 1 >= MOST_REFUSED:
        raise LLMRefused(
            f"The server took none of the first {MOST_REFUSED} talks. Check the key, the model names (ESC_MODEL_*) and "
            "ESC_LLM_STRUCTURED, delete the run's folder, and start again."
        )
    return refused + 1, taken


def _check_folder(run: RunFolder, settings: RunSettings, resume: bool) -> None:
    if not (run.folder / RUN).is_file():
        if run.folder.is_dir() and any(path.name != LOCK for path in run.folder.iterdir()):
            raise InputError(f"{run.folder} holds something that is no run. Name a new or an empty folder.")
        return
    before = run.settings()
    if before != settings:
        mine, theirs = settings.model_dump(), before.model_dump()
        differing = ", ".join(f"{key} ({theirs[key]!r}, now {mine[key]!r})" for key in mine if mine[key] != theirs[key])
        raise InputError(f"{run.folder} holds another run; it differs in {differing}. Name another folder.")
    if not resume:
        state = "is complete" if run.complete else "was begun"
        raise InputError(f"The run {run.folder} {state}. Pass --resume to take it up, or name another --out.")


class Lines:
    """The partial file: appended to, and in the end put in order without holding it in memory. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.places: dict[tuple[str, int], tuple[int, int]] = {}
        """Where the line of each conversation begins and how long it is."""
        self._unsynced = 0

    def __enter__(self) -> "Lines":
        """Find the whole lines and cut a torn end off."""
        self._file = self._path.open("a+b")
        self._file.seek(0)
        begin = 0
        for line in self._file:
            try:
                transcript = Transcript.model_validate_json(line)
            except ValidationError:
                break
            if not line.endswith(b"\n"):
                break
            self.places[transcript.key] = (begin, len(line))
            begin += len(line)
        self._file.truncate(begin)
        self._end = begin
        return self

    def __exit__(self, *_: Any) -> None:
        """Wait for the disk and close the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def add(self, transcript: Transcript) -> None:
        """Append a conversation; it is out of this process's hands when this returns."""
        line = transcript.model_dump_json().encode() + b"\n"
        self._file.write(line)
        self._file.flush()
        self.places[transcript.key] = (self._end, len(line))
        self._end += len(line)
        self._unsynced += 1
        if self._unsynced >= SYNC_EVERY:
            os.fsync(self._file.fileno())
            self._unsynced = 0

    def sort_into(self, target: Path, order: list[tuple[str, int]]) -> None:
        """Write the lines in `order` to a file that appears as a whole."""
        beside = target.with_name(f".{target.name}.tmp")
        with beside.open("wb") as file:
            for key in order:
                begin, length = self.places[key]
                self._file.seek(begin)
                file.write(self._file.read(length))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
        sync_folder(target.parent)
