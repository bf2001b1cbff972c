"""ESConv's surveys: by how much a seeker's own reported intensity fell from before the talk to after it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..pipeline.labels import SPLITS
from ..skills_bank.errors import CorpusError


def read_drops(shared: Path, splits: Iterable[str] = SPLITS) -> dict[str, float]:
    """Return dialogue -> intensity before less intensity after, for those that report both.

    Raises:
        CorpusError: A split's file is absent.
    """
    found: dict[str, float] = {}
    for split in splits:
        path = shared / "data" / "esconv" / f"{split}.jsonl"
        if not path.is_file():
            raise CorpusError(f"No surveys at {path}. Pass the folder that holds data/esconv.")
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            drop = _drop(record)
            if drop is not None:
                found[record["id"]] = drop
    return found


def _drop(record: dict[str, Any]) -> float | None:
    scores = (record.get("survey_score") or {}).get("seeker") or {}
    try:
        return float(scores["initial_emotion_intensity"]) - float(scores["final_emotion_intensity"])
    except (KeyError, TypeError, ValueError):
        return None
