"""What the tests of the simulator share: the recorded runs where there are any, and a folder of composed parts."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from esc_skills.simulator.needs import Character, HiddenNeed
from esc_skills.skills_bank.taxonomy import Scenario

MakePart = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with the profiles and the recorded runs; skips where there is none."""
    folder = Path(os.environ.get("ESC_SHARED_DIR") or Path(__file__).parents[2].parent / "shared")
    if not (folder / "data" / "sage").is_dir():
        pytest.skip(f"no recorded SAGE runs at {folder}; set ESC_SHARED_DIR")
    return folder


@pytest.fixture(scope="session")
def make_situation() -> MakePart:
    """Return a function that composes a situation as it stands in YAML."""

    def make(scenario: str = "workplace_stress", number: int = 1, **more: Any) -> dict[str, Any]:
        needs = list(HiddenNeed)
        matter = f"{scenario.replace('_', ' ')} matter {number}"
        return {
            "id": f"{scenario}-matter-{number}",
            "split": "evolution" if number <= 6 else "evaluation",
            "background": f"You have carried the {matter} about since spring. It began small, with one letter that "
            f"went unanswered. Now every talk comes back to {matter}, and nobody knows.",
            "tried": f"You wrote a list about {matter} and lost it.",
            "hurts_most": f"That {matter} was called a trifle.",
            "high": f"You lay out {matter} step by step.",
            "middling": f"You tell {matter} in short sentences.",
            "low": f"You say {matter} is not worth the words.",
            "first": {character.value: f"{matter}, told {character.value}ly." for character in Character},
            "fits_needs": [needs[(number + i) % len(needs)].value for i in range(5)],
            "ages": [18, 80],
            "needs_tags": [],
            "bars_tags": [],
            "risk": None,
        } | more

    return make


@pytest.fixture(scope="session")
def make_persona() -> MakePart:
    """Return a function that composes a persona as it stands in YAML."""

    def make(number: int = 1, **more: Any) -> dict[str, Any]:
        name = "Ab" + chr(ord("a") + number // 26) + chr(ord("a") + number % 26)
        return {
            "id": f"persona-{number}",
            "split": "evolution" if number <= 50 else "evaluation",
            "name": name,
            "age": 20 + number % 40,
            "gender": ("woman", "man", "nonbinary")[number % 3],
            "work": f"runs stall number {number}",
            "speech": f"Talks like stall number {number}, in half sentences.",
            "habits": f"Counts the steps to stall number {number} each day.",
            "traits": ["patient", "dry", "proud"],
            "tags": ["works"],
        } | more

    return make


@pytest.fixture(scope="session")
def parts_folder(tmp_path_factory: pytest.TempPathFactory, make_situation: MakePart, make_persona: MakePart) -> Path:
    """A complete folder of composed parts: 8 situations a scenario, 62 personas."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "situations").mkdir()
    for scenario in Scenario:
        entries = [make_situation(scenario.value, number) for number in range(1, 9)]
        (folder / "situations" / f"{scenario}.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    entries = [make_persona(number) for number in range(1, 63)]
    (folder / "personas.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    return folder
