"""Everything that a report says of an evolution, read from its folder once."""

from collections import Counter
from dataclasses import dataclass
from typing import Self

from ..pipeline.jobs import JobRecord
from .heat import Heat, heat_of
from .masks import Masks
from .models import Effect, Finding, Proposal
from .plan import EvolvePlan
from .record import Attempt, Baseline, End, EvolveRun, Joint, Outcome, Sealed, Spending
from .split import Split
from .wordings import Fate, fate_of


@dataclass(frozen=True)
class Whole:
    """One evolution; what it has not come to yet is None or empty."""

    id: str
    folder: str
    job: JobRecord
    plan: EvolvePlan
    split: Split | None
    baseline: Baseline | None
    heat: Heat
    findings: tuple[Finding, ...]
    proposals: tuple[Proposal, ...]
    attempts: dict[str, tuple[Attempt, ...]]
    """By proposal."""
    floor: Effect | None
    end: End | None
    joint: Joint | None
    outcome: Outcome | None
    sealed: Sealed | None
    spending: tuple[Spending, ...]
    times: dict[str, float]
    masks: Masks

    @classmethod
    def read(cls, run: EvolveRun) -> Self:
        """Read a run.

        Raises:
            JobError: A file of it cannot be read.
            InputError: Its baseline cannot be read.
        """
        job, proposals = run.job(), run.proposals() or ()
        talks = list(run.baseline_talks())
        return cls(
            id=run.id,
            folder=str(run.folder),
            job=job,
            plan=EvolvePlan.model_validate(job.plan),
            split=run.split(),
            baseline=run.baseline(),
            heat=heat_of(talks),
            findings=run.findings() or (),
            proposals=proposals,
            attempts={one.id: run.attempts(one.id) for one in proposals},
            floor=run.floor(),
            end=run.end(),
            joint=run.joint(),
            outcome=run.outcome(),
            sealed=run.sealed(),
            spending=run.spending(),
            times=run.times(),
            masks=Masks(talks),
        )

    @property
    def all_attempts(self) -> tuple[Attempt, ...]:
        """All attempts, by priority of their proposals."""
        return tuple(attempt for attempts in self.attempts.values() for attempt in attempts)

    def fate(self, attempt: Attempt) -> Fate:
        """Say what became of an attempt."""
        return fate_of(attempt, self.joint)

    def fates(self) -> Counter[Fate]:
        """Count attempts by what became of them."""
        return Counter(self.fate(attempt) for attempt in self.all_attempts)
