"""What an evolution leaves in its job's folder, and the reading of it.

    <job>/job.json               plan, state, notes (`pipeline/jobs.py`); with timing.json and progress.json all that
                                 holds a time or changes
    <job>/split.json             which profiles are for proposing, verifying, and sealed
    <job>/trials/<hash>/         every run that was held (`arena.py`), the baseline among them
    <job>/baseline.json          which of them that is, and its figures
    <job>/findings.json          what the analyzer saw
    <job>/proposals.json         what is to be done, highest priority first
    <job>/floor.json             the A/A run
    <job>/candidates/<proposal>/<attempt>/{candidate.json,diff.txt,screened.json,verdict.json,bank/}
    <job>/end.json               why proposing ended
    <job>/joint/<round>/         the accepted ones together: bank/ and round.json
    <job>/joint.json             which of them stay
    <job>/bank/                  the resulting bank; only there where something was accepted
    <job>/outcome.json           the version that was committed, or how to commit it
    <job>/sealed.mark            the sealed part was opened; written before the first talk of it
    <job>/sealed.json            parent against result on the sealed part
    <job>/report.html

Every file is the result of a step that is complete, written at once; none but the first line's holds a time, so that
a run that was killed and resumed leaves the same files as one that ran through.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..pipeline.jobs import Job, JobRecord, all_jobs
from ..simulator.run import RunFolder
from ..simulator.session import Transcript
from ..simulator.summary import Figures
from ..skills_bank.errors import InputError, JobError
from ..skills_bank.files import replace_durably
from .models import Candidate, Effect, Finding, Proposal, Verdict
from .plan import KIND, EvolvePlan
from .split import Split

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

JOURNAL = "journal.sqlite"
TRIALS, BANK, REPORT, SEAL = "trials", "bank", "report.html", "sealed.mark"
_FINDINGS = TypeAdapter(tuple[Finding, ...])
_PROPOSALS = TypeAdapter(tuple[Proposal, ...])
_REASONS = TypeAdapter(tuple[str, ...])
_SECONDS = TypeAdapter(dict[str, float])


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Baseline(_Frozen):
    """The parent bank over the propose and verify parts."""

    run: str = Field(description="Folder of the run, inside the job's.")
    figures: Figures


class Attempt(_Frozen):
    """One attempt at a proposal, from the text to the verdict."""

    id: str = Field(description="Proposal and attempt, as in the candidate.")
    proposal: str
    number: int
    candidate: Candidate | None = Field(description="None where no text came about; the verdict says why.")
    screened: tuple[str, ...] = Field(default=(), description="Why the text must not stand in a bank; empty if clean.")
    diff: str = Field(default="", description="Unified diff against the parent bank.")
    verdict: Verdict | None = Field(description="None while the attempt is under way.")


class End(_Frozen):
    """Why proposing ended."""

    tried: int = Field(description="Proposals that were tried, of all.")
    proposals: int
    attempts: int
    cap: str | None = Field(default=None, description="The cap that ended it; None: all proposals were tried.")
    told: str


class Round(_Frozen):
    """Accepted candidates together against the parent bank, on seeds of their own, over the whole verify part."""

    number: int
    candidates: tuple[str, ...]
    verdict: Verdict | None = Field(description="None where they could not stand in one bank.")
    dropped: str | None = Field(default=None, description="The weakest, left out of the next round.")
    reason: str


class Joint(_Frozen):
    """Which of the accepted candidates stay."""

    kept: tuple[str, ...]
    dropped: dict[str, str] = Field(description="Reason by candidate, for those accepted by themselves that went.")
    rounds: tuple[Round, ...]


class Outcome(_Frozen):
    """What became of the bank."""

    parent: str = Field(description="Version the run began with.")
    parent_hash: str
    kept: tuple[str, ...]
    hash: str | None = Field(default=None, description="Of the resulting bank; None where nothing stays.")
    version: str | None = Field(default=None, description="The version that was committed; None: none was.")
    told: str = Field(description="What was done, or how to commit it.")


class Sealed(_Frozen):
    """Parent against result on the sealed part, read once."""

    split: str = Field(description="Hash of the sealed part.")
    seed: int
    effect: Effect | None = Field(description="None where there was nothing to compare; the part stays sealed then.")
    strata: dict[str, Effect] = Field(default_factory=dict)
    told: str


class Spending(_Frozen):
    """What the calls of one role to one model took, over all attempts of the job."""

    role: str
    model: str
    calls: int
    failed: int
    tokens: int
    usd: float | None = Field(description="None where a price was unknown.")


class EvolveProgress(_Frozen):
    """Scores so far, for whoever waits."""

    baseline: Figures | None = None
    proposals: int | None = None
    tried: int = 0
    verdicts: dict[str, int] = Field(default_factory=dict, description="Attempts by ruling.")
    accepted: tuple[str, ...] = ()


class EvolveRun:
    """One evolution on disk; whatever it has not come to yet is None or empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def id(self) -> str:
        """The job's id."""
        return self.folder.name

    # --- how it was planned and how it stands -----------------------------------------------------------------------

    def job(self) -> JobRecord:
        """Return how the job stands.

        Raises:
            JobError: It cannot be read.
        """
        return Job(self.folder).look()

    def plan(self) -> EvolvePlan:
        """Return what the run depends on."""
        return EvolvePlan.model_validate(self.job().plan)

    def progress(self) -> EvolveProgress:
        """Return the scores so far."""
        return self._read("progress.json", EvolveProgress) or EvolveProgress()

    def times(self) -> dict[str, float]:
        """Return the seconds that each phase took, over all attempts of the job."""
        return _SECONDS.validate_json(self._bytes("timing.json") or b"{}")

    def spending(self) -> tuple[Spending, ...]:
        """Return what each role's calls took; empty where no model was asked."""
        path = self.folder / JOURNAL
        if not path.is_file():
            return ()
        from ..pipeline.llm.journal import Journal

        journal = Journal(path, self.id)
        try:
            totals = journal.totals()
        finally:
            journal.close()
        return tuple(
            Spending(
                role=one.role,
                model=one.model,
                calls=one.calls,
                failed=one.failed,
                tokens=one.tokens.total,
                usd=one.usd,
            )
            for one in totals
        )

    # --- what it found ----------------------------------------------------------------------------------------------

    def split(self) -> Split | None:
        """Return the parts of the profiles."""
        return self._read("split.json", Split)

    def baseline(self) -> Baseline | None:
        """Return the figures of the parent bank."""
        return self._read("baseline.json", Baseline)

    def baseline_talks(self) -> Iterator[Transcript]:
        """Yield the talks of the parent bank, in order."""
        found = self.baseline()
        if found is not None:
            yield from RunFolder(self.folder / found.run).transcripts()

    def findings(self) -> tuple[Finding, ...] | None:
        """Return what the analyzer saw."""
        return self._list("findings.json", _FINDINGS)

    def proposals(self) -> tuple[Proposal, ...] | None:
        """Return what is to be done, highest priority first."""
        return self._list("proposals.json", _PROPOSALS)

    def floor(self) -> Effect | None:
        """Return the A/A run."""
        return self._read("floor.json", Effect)

    # --- what became of it ------------------------------------------------------------------------------------------

    def attempt_folder(self, proposal: str, number: int) -> Path:
        """Return where an attempt lies."""
        return self.folder / "candidates" / proposal / str(number)

    def candidate(self, proposal: str, number: int) -> Candidate | None:
        """Return the text of an attempt."""
        return self._read(f"candidates/{proposal}/{number}/candidate.json", Candidate)

    def attempts(self, proposal: str) -> tuple[Attempt, ...]:
        """Return the attempts at a proposal, first to last."""
        home = self.folder / "candidates" / proposal
        numbers = sorted(int(path.name) for path in home.iterdir() if path.name.isdigit()) if home.is_dir() else ()
        return tuple(self._attempt(proposal, number) for number in numbers)

    def all_attempts(self) -> tuple[Attempt, ...]:
        """Return all attempts, by priority of their proposals."""
        return tuple(attempt for one in self.proposals() or () for attempt in self.attempts(one.id))

    def attempt(self, candidate: str) -> Attempt:
        """Return an attempt by the candidate's id; a proposal's id is its last attempt.

        Raises:
            InputError: There is none.
        """
        found = self.all_attempts()
        fitting = [one for one in found if candidate in (one.id, one.proposal)]
        if not fitting:
            known = ", ".join(one.id for one in found) or "none"
            raise InputError(f"No candidate {candidate!r} in {self.id}. Candidates there: {known}.")
        return fitting[-1]

    def end(self) -> End | None:
        """Return why proposing ended."""
        return self._read("end.json", End)

    def rounds(self) -> tuple[Round, ...]:
        """Return the rounds in which the accepted ones were tried together, so far."""
        paths = sorted(self.folder.glob("joint/*/round.json"), key=lambda path: int(path.parent.name))
        return tuple(Round.model_validate_json(path.read_bytes()) for path in paths)

    def joint(self) -> Joint | None:
        """Return which of the accepted ones stay."""
        return self._read("joint.json", Joint)

    def outcome(self) -> Outcome | None:
        """Return what became of the bank."""
        return self._read("outcome.json", Outcome)

    def sealed(self) -> Sealed | None:
        """Return parent against result on the sealed part."""
        return self._read("sealed.json", Sealed)

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self, name: str, value: BaseModel | tuple[BaseModel, ...] | Mapping[str, Any] | tuple[str, ...]) -> None:
        """Write the result of a complete step."""
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else _plain(value)
        self.write_text(name, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file at once, making its folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(path, text.encode())

    def _attempt(self, proposal: str, number: int) -> Attempt:
        home = self.attempt_folder(proposal, number).relative_to(self.folder)
        diff = self._bytes(f"{home}/diff.txt")
        return Attempt(
            id=f"{proposal}.{number}",
            proposal=proposal,
            number=number,
            candidate=self._read(f"{home}/candidate.json", Candidate),
            screened=self._list(f"{home}/screened.json", _REASONS) or (),
            diff=diff.decode() if diff is not None else "",
            verdict=self._read(f"{home}/verdict.json", Verdict),
        )

    def _bytes(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _read(self, name: str, kind: type[M]) -> M | None:
        return self._list(name, TypeAdapter(kind))

    def _list(self, name: str, kind: TypeAdapter[T]) -> T | None:
        found = self._bytes(name)
        try:
            return None if found is None else kind.validate_json(found)
        except ValidationError as error:
            raise JobError(
                f"{self.folder / name} cannot be read ({type(error).__name__}); was it written by another version?"
            ) from error


def find_evolution(name: str | Path, root: Path) -> EvolveRun:
    """Return an evolution by its folder, its id, or the beginning of its id.

    Raises:
        InputError: There is none, or several begin so.
    """
    for folder in (Path(name), root / str(name)):
        if (folder / "job.json").is_file():
            return _evolution(Job(folder))
    known = [job.id for job in all_jobs(root) if job.id.startswith(f"{KIND}-")]
    fitting = [id for id in known if id.startswith(str(name))]
    if len(fitting) == 1:
        return EvolveRun(root / fitting[0])
    if fitting:
        raise InputError(f"Several evolutions begin with {str(name)!r}: {', '.join(fitting)}.")
    raise InputError(f"No evolution {str(name)!r} in {root}. Newest there: {', '.join(known[:5]) or 'none'}.")


def _evolution(job: Job) -> EvolveRun:
    if (kind := job.read().kind) != KIND:
        raise InputError(f"{job.id} is a job of kind {kind!r}, no evolution.")
    return EvolveRun(job.folder)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [one.model_dump(mode="json") if isinstance(one, BaseModel) else one for one in value]
    return dict(value)
