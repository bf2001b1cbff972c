"""Says how far an evolution is: the phase, the talks in it, the seconds they took, the scores so far.

`timing.json` adds up over all attempts of a job, so that a cap on wall time holds for them together; a killed process
loses the last few seconds.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..pipeline.jobs import Job
from ..simulator.session import Transcript
from .record import EvolveProgress, EvolveRun

WRITE_SECONDS = 2.0


class Watch:
    """One process's view of how far its job is."""

    def __init__(self, job: Job, run: EvolveRun) -> None:
        self._job, self._run = job, run
        self._seconds = run.times()
        self._phase, self._shown = "", ""
        self._done, self._total = 0, None
        self._since = self._written = time.monotonic()
        self._progress = run.progress()

    @property
    def seconds(self) -> float:
        """What all phases took, in all attempts of the job."""
        self._count()
        return sum(self._seconds.values())

    @contextmanager
    def phase(self, name: str, about: str = "", total: int | None = None) -> Iterator[None]:
        """Count what is done inside towards a phase; `about` is shown beside its name."""
        self._phase, self._shown = name, f"{name} {about}".strip()
        self._done, self._total, self._since = 0, total, time.monotonic()
        self._job.advance(self._shown, 0, total)
        try:
            yield
        finally:
            self._count()
            self._save()
            self._phase = ""

    def talk(self, _: Transcript) -> None:
        """Count a talk."""
        self._done += 1
        self._job.advance(self._shown, self._done, self._total)
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self._count()
            self._save()

    def tell(self, **changes: object) -> None:
        """Change the scores so far."""
        self._progress = EvolveProgress.model_validate(self._progress.model_dump() | changes)
        self._run.write("progress.json", self._progress)

    def _count(self) -> None:
        now = time.monotonic()
        if self._phase:
            self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._since = now

    def _save(self) -> None:
        self._run.write_text("timing.json", json.dumps({k: round(v, 2) for k, v in self._seconds.items()}) + "\n")
        self._written = time.monotonic()
