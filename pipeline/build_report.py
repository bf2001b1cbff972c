"""`report.md` of a build: what was read, how well it was annotated, what was found, what was left out, what it cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..skills_bank.evidence import evidence_from
from ..skills_bank.models import InterventionUnit, Skill
from ..skills_bank.store import VersionInfo
from .annotator import NotAnnotated
from .build_plan import BuildPlan
from .clusters import Cluster, Clustering
from .prototypes import index, prototypes
from .report import PAPER, PAPER_SKILLS, count

_MOST_FAILED = 200
"""Failed dialogues that are named; of more than that the reasons are counted."""


@dataclass(frozen=True)
class Left:
    """A situation without a skill, and why."""

    cluster: str
    label: str
    reason: str


@dataclass(frozen=True)
class Written:
    """A situation's skill."""

    cluster: str
    skill: Skill


@dataclass(frozen=True)
class BuildFacts:
    """What a build found; all that its report says."""

    job: str
    plan: BuildPlan
    annotator: str
    about: str
    dialogues: int
    failed: tuple[NotAnnotated, ...]
    skipped: Mapping[str, int]
    masked: Mapping[str, int]
    units: Sequence[InterventionUnit]
    clustering: Clustering
    written: tuple[Written, ...]
    left: tuple[Left, ...]
    spending: tuple[str, ...]

    def provenance(self) -> str:
        """Return in one line what the bank was made from; no time and no path, which history and report tell."""
        plan = self.plan
        corpus = ", ".join(file.short for file in plan.corpus)
        writers = ", ".join(sorted({one.skill.written_by for one in self.written}))
        return (
            f"{self.dialogues} dialogues of {corpus}; annotator {self.annotator}; writer {writers}; "
            f"{len(self.written)} skills ({plan.skills} asked for) from {len(self.clustering.clusters)} situations, "
            f"grouped by {self.clustering.encoder}; engine {plan.engine}"
        )


def render(facts: BuildFacts, version: VersionInfo, notes: Iterable[str]) -> str:
    """Return the report as markdown."""
    blocks = [
        [f"# Build {facts.job}", "", f"Bank {version.version}, {len(facts.written)} skills. {facts.provenance()}."],
        _notes(notes),
        _corpus(facts),
        _annotator(facts),
        _counts(facts),
        _skills(facts),
        _left(facts),
        _failed(facts),
        _spending(facts),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _notes(notes: Iterable[str]) -> list[str]:
    lines = [f"- {note}" for note in notes]
    return ["## Mind", "", *lines] if lines else []


def _corpus(facts: BuildFacts) -> list[str]:
    lines = ["## Corpus", "", "| file | bytes | sha256 |", "| --- | ---: | --- |"]
    lines += [f"| {file.path.name} | {file.bytes:,} | `{file.sha256}` |" for file in facts.plan.corpus]
    lines += ["", f"{facts.dialogues:,} dialogues annotated, {len(facts.failed):,} not."]
    if facts.skipped:
        lines += ["", f"Skipped while reading: {_counted(facts.skipped)}."]
    if facts.masked:
        lines += ["", f"Contact details masked while reading: {_counted(facts.masked)}."]
    return lines


def _annotator(facts: BuildFacts) -> list[str]:
    return ["## Annotator", "", f"`{facts.annotator}`", "", facts.about.strip() or "It says nothing of its accuracy."]


def _counts(facts: BuildFacts) -> list[str]:
    ours = count(facts.units)
    rows = [
        ("intervention units", ours.units, PAPER.units),
        ("key units", ours.key, PAPER.key),
        ("positive", ours.positive, PAPER.positive),
        ("negative", ours.negative, PAPER.negative),
        ("prototypes (5 or more key units)", ours.prototypes, PAPER.prototypes),
        ("situations", len(facts.clustering.clusters), PAPER_SKILLS),
        ("skills", len(facts.written), PAPER_SKILLS),
    ]
    lines = [
        "## Counts", "",
        "The paper (Zhu et al. 2026) counted another corpus with another annotator; its figures stand here for scale.",
        "", "| | here | paper |", "| --- | ---: | ---: |",
    ]  # fmt: skip
    return lines + [f"| {name} | {mine:,} | {theirs:,} |" for name, mine, theirs in rows]


def _skills(facts: BuildFacts) -> list[str]:
    by_cell, clusters = index(prototypes(facts.units)), {c.id: c for c in facts.clustering.clusters}
    lines = ["## Skills", "", "| situation | skill | prototypes | units | positive | negative | written by |"]
    lines.append("| --- | --- | ---: | ---: | --- | --- | --- |")
    for one in facts.written:
        cluster: Cluster = clusters[one.cluster]
        evidence = evidence_from(one.skill.name, [by_cell[cell] for cell in cluster.prototypes], "")
        lines.append(
            f"| {cluster.id} {cluster.label} | {one.skill.name} | {len(cluster.prototypes)} | {evidence.n:,} "
            f"| {evidence.positive.rate:.0%} | {evidence.negative.rate:.0%} | {one.skill.written_by} |"
        )
    return lines


def _left(facts: BuildFacts) -> list[str]:
    if not facts.left:
        return []
    return ["## Situations without a skill", "", *(f"- {one.cluster} {one.label}: {one.reason}" for one in facts.left)]


def _failed(facts: BuildFacts) -> list[str]:
    if not facts.failed:
        return []
    lines = ["## Dialogues that could not be annotated", ""]
    lines += [f"- {one.dialogue}: {one.reason}" for one in facts.failed[:_MOST_FAILED]]
    more = len(facts.failed) - _MOST_FAILED
    return lines + ([f"- and {more:,} more"] if more > 0 else [])


def _spending(facts: BuildFacts) -> list[str]:
    return ["## Model calls", "", *(f"- {line}" for line in facts.spending)] if facts.spending else []


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({n:,}x)" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
