"""The annotations of a build, appended to one file as they come: what a killed build has done, it need not do again.

A line is one annotation. A line torn by a crash, and whatever stands after it, is dropped when the file is opened. Of
two lines about one dialogue the later counts: dialogues that failed are tried again by a resumed build.
"""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from .annotator import Annotation, NotAnnotated
from .labels import DialogueLabels

_LINE: TypeAdapter[Annotation] = TypeAdapter(DialogueLabels | NotAnnotated)
_SYNC_EVERY = 64
"""Lines between two waits for the disk; a killed process loses none of them, a power cut at most so many."""


class AnnotationFile:
    """The annotations so far, by dialogue, and the file that they are appended to. A context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.labels: dict[str, DialogueLabels] = {}
        self.failed: dict[str, NotAnnotated] = {}
        self._unsynced = 0

    def __enter__(self) -> Self:
        """Read what is there, cut a torn end off, and open the file for more."""
        self._file = self.path.open("a+b")
        self._file.seek(0)
        whole = 0
        for line in self._file:
            try:
                annotation = _LINE.validate_json(line)
            except ValidationError:
                break
            if not line.endswith(b"\n"):
                break
            self._keep(annotation)
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(whole)
        return self

    def __exit__(self, *_: Any) -> None:
        """Wait for the disk and close the file."""
        self._sync()
        self._file.close()

    def add(self, annotation: Annotation) -> None:
        """Append an annotation; it is out of this process's hands when this returns."""
        self._file.write(annotation.model_dump_json().encode() + b"\n")
        self._file.flush()
        self._keep(annotation)
        self._unsynced += 1
        if self._unsynced >= _SYNC_EVERY:
            self._sync()

    def _keep(self, annotation: Annotation) -> None:
        if isinstance(annotation, NotAnnotated):
            self.failed[annotation.dialogue] = annotation
        else:
            self.labels[annotation.id] = annotation
            self.failed.pop(annotation.id, None)

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced = 0
