"""Composed labels for the pipeline's tests, and the corpus where it is present."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from esc_skills.pipeline.labels import DialogueLabels

MakeLabels = Callable[..., DialogueLabels]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the corpus and the annotations; skips where there is none."""
    folder = Path(os.environ.get("ESC_SHARED_DIR") or Path(__file__).parents[2].parent / "shared")
    if not (folder / "data" / "esconv" / "train.jsonl").is_file():
        pytest.skip(f"no corpus at {folder}; set ESC_SHARED_DIR")
    return folder


@pytest.fixture(scope="session")
def make_labels() -> MakeLabels:
    """Return a function that composes labels from (state, actions, change, state, actions, change, ..., state)."""

    def make(*steps: str | Sequence[str], name: str = "d1", split: str = "train", scenario: str = "loneliness"):
        turns: list[dict] = []
        it = iter(steps)
        for state in it:
            turns.append({"speaker": "seeker", "state": state})
            actions = next(it, None)
            if actions is not None:
                given = [actions] if isinstance(actions, str) else list(actions)
                turns.append({"speaker": "supporter", "actions": given, "change": next(it)})
        numbered = [turn | {"turn": i + 1, "utterances": (i, i + 1)} for i, turn in enumerate(turns)]
        return DialogueLabels.model_validate({
            "id": name, "split": split, "scenarios": (scenario,), "turns": numbered,
        })  # fmt: skip

    return make
