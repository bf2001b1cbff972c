"""A job's work in this process, with a bar in the terminal that says how far it is."""

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .jobs import Held, Job, JobRecord, run_here


class _Watched(Job):
    """A job that shows its progress while it works in this process."""

    def __init__(self, job: Job, progress: Progress) -> None:
        super().__init__(job.folder)
        self._bar = progress
        self._task = progress.add_task("starting", total=None)
        self._shown = "starting"

    def advance(self, phase: str, done: int = 0, total: int | None = None) -> None:
        """Say how far the job has come, to the record and to the terminal."""
        super().advance(phase, done, total)
        if phase != self._shown:
            self._bar.reset(self._task, description=phase, total=total)
            self._shown = phase
        self._bar.update(self._task, completed=done, total=total)


def run_with_bar(job: Job, locks: Iterable[Held], console: Console, goes_on: str) -> JobRecord:
    """Do a job's work here and return its final record; Ctrl-C ends the program, and what was done is kept.

    Args:
        job: The job.
        locks: Its locks, let go at the end.
        console: Where the bar and the hints go.
        goes_on: The command that takes the job up again.
    """
    console.print(f"Job {job.id}; if it is cut short: `{goes_on}`.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            return run_here(_Watched(job, progress), locks)
    except KeyboardInterrupt:
        console.print(f"Stopped. `{goes_on}` goes on from here.")
        sys.exit(130)
