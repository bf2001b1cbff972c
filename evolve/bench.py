"""What the steps of an evolution share: the plan, the job's folder, the banks, the parts that do the work."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..pipeline.jobs import Job
from ..simulator.profiles import ProfileSet
from ..simulator.sources import BankRef
from ..skills_bank.bank import Bank
from .acceptance import Strategy
from .analysis import Analyzer
from .arena import Arena
from .generation import Generator
from .guards import Guards
from .models import Candidate
from .plan import EvolvePlan
from .record import Attempt, EvolveRun
from .split import Split
from .staging import stage
from .watch import Watch


class Parts(Protocol):
    """What does the work of an evolution; `parts.py` has the real ones."""

    @property
    def profiles(self) -> ProfileSet:
        """The profiles of the run, over all parts of the split."""
        ...

    @property
    def strategy(self) -> Strategy:
        """How a candidate is judged."""
        ...

    @property
    def joint(self) -> Strategy:
        """How all accepted ones together are judged, and the result on the sealed part."""
        ...

    def guards(self, split: Split) -> Guards:
        """Make what forbids a candidate whatever it gains."""
        ...

    def arena(self, folder: Path, watch: Watch) -> AbstractContextManager[Arena]:
        """Open the place where talks are held."""
        ...

    def analyzer(self, bank: Bank) -> AbstractAsyncContextManager[Analyzer]:
        """Make who reads the talks that were held with a bank."""
        ...

    def generator(self) -> AbstractAsyncContextManager[Generator]:
        """Make who writes a text. Opened for each text, so that it knows what has been spent elsewhere since."""
        ...

    def screen(self, candidate: Candidate, bank: Bank) -> list[str]:
        """Return the reasons why a text must not stand in a bank."""
        ...


@dataclass
class Bench:
    """One evolution at work."""

    plan: EvolvePlan
    job: Job
    parts: Parts
    run: EvolveRun
    watch: Watch
    parent: BankRef
    bank: Bank
    """The parent bank, loaded."""
    split: Split
    arena: Arena
    guards: Guards

    def stage(self, candidates: Sequence[Candidate], place: str) -> BankRef:
        """Write the parent bank with candidates in it to a folder of the job.

        Raises:
            BankError: They do not make a bank.
        """
        return stage(self.parent, candidates, self.run.folder / place)

    def candidates(self, ids: Sequence[str]) -> list[Candidate]:
        """Return candidates by id."""
        found = [self.run.attempt(id).candidate for id in ids]
        return [one for one in found if one is not None]

    def gain(self, attempt: Attempt) -> float:
        """Return by how much a candidate was better than the parent's text."""
        effect = attempt.verdict.effect if attempt.verdict else None
        return effect.difference.value if effect else 0.0
