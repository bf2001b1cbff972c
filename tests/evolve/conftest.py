"""What the tests of `evolve` share: a small bank, refinements of it, and an arena of scripted seekers (`made.py`)."""

import sys
from pathlib import Path

import pytest

from esc_skills.evolve.arena import Arena
from esc_skills.evolve.models import Candidate
from esc_skills.simulator.engine import LocalEngine
from esc_skills.simulator.sources import BankRef
from esc_skills.skills_bank.bank import Bank

sys.path.insert(0, str(Path(__file__).parent))
from made import DREAD, MakeCandidate, ScriptedRecipe, profiles


@pytest.fixture
def parent(bank_dir: Path, tmp_path: Path) -> BankRef:
    """The bank of three composed skills."""
    bank = Bank.load(bank_dir)
    return BankRef(bank_dir, tmp_path / "parent-index", bank.version, bank.hash)


@pytest.fixture
def make_candidate(parent: BankRef) -> MakeCandidate:
    """Return a function `(shift, attempt)` that composes a refinement of `calming-dread`, byte-identical for None."""

    def make(shift: int | None = None, attempt: int = 1, **more: object) -> Candidate:
        text = (parent.folder / DREAD / "SKILL.md").read_text(encoding="utf-8")
        if shift is not None:
            text = text.replace("## Overview\n", f"## Overview\nThe way to shift {shift} points.\n\n")
        values = {
            "id": f"refine-{DREAD}.{attempt}",
            "proposal": f"refine-{DREAD}",
            "attempt": attempt,
            "skill": DREAD,
            "replaces": DREAD,
            "files": {"SKILL.md": text},
            "what": "Another overview.",
            "generator": "test",
        }
        return Candidate.model_validate(values | more)

    return make


@pytest.fixture
def arena(parent: BankRef, tmp_path: Path) -> Arena:
    """An arena of scripted seekers that holds talks in this process."""
    return Arena(tmp_path / "trials", ScriptedRecipe("bank", parent), profiles(), LocalEngine(), prepare=lambda _: None)
