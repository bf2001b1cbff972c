"""What a skill writer is given and gives back: one cluster's facts in, one `Skill` out, the files of it beside."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from ..skills_bank.evidence import evidence_from, render_evidence
from ..skills_bank.models import Evidence, InterventionUnit, Prototype, Skill
from ..skills_bank.skillmd import render_skill
from ..skills_bank.taxonomy import SeekerState, SupportAction
from ..skills_bank.validate import EVIDENCE_FILE, SKILL_FILE
from .clusters import Cluster, Clustering
from .dossiers import Moment, dossier
from .evidence import CLUSTER_KEY, SOURCE
from .prototypes import Cell, index

COMPATIBILITY = "Any Agent Skills host; best with the ESC-Skills MCP server"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Neighbour(_Frozen):
    """What a writer may know of another cluster: what it is called, not what is in it."""

    label: str
    states: tuple[SeekerState, ...]
    actions: tuple[SupportAction, ...]


class DossierFacts(_Frozen):
    """All that the writer of one skill sees (Zhu et al. 2026: each skill is written from its own cluster only)."""

    cluster: Cluster
    prototypes: tuple[Prototype, ...] = Field(min_length=1)
    neighbours: tuple[Neighbour, ...] = ()
    source: str = Field(default=SOURCE, description="Where the labels came from; stands in the evidence.")
    text: str = Field(default="", description="The dossier in words, with snippets; empty where no model will read it.")

    @property
    def by_cell(self) -> Mapping[Cell, Prototype]:
        """The cluster's prototypes by (state, action)."""
        return index(self.prototypes)


class SkillWriter(Protocol):
    """Anything that turns one cluster's facts into a skill: a model with a prompt, or a library of phrases."""

    async def write(self, facts: DossierFacts, taken: Collection[str] = ()) -> Skill:
        """Return the skill of a cluster, without its evidence, under a name that is not among the names `taken`.

        Raises:
            SkillWriteError: No valid skill came about; the error names the cluster.
        """
        ...


def gather(
    clustering: Clustering,
    kept: Sequence[Prototype],
    *,
    units: Sequence[InterventionUnit] = (),
    found: Iterable[Moment] = (),
    source: str = SOURCE,
) -> list[DossierFacts]:
    """Return the facts of every cluster, in the clustering's order.

    Args:
        clustering: The clusters.
        kept: The prototypes they were made from.
        units: The units behind them; together with `found` they make the dossiers' text, which a model reads.
        found: Moments to quote.
        source: Where the labels came from.
    """
    by_cell, moments = index(kept), list(found)
    return [
        DossierFacts(
            cluster=cluster,
            prototypes=tuple(by_cell[cell] for cell in cluster.prototypes),
            neighbours=tuple(_neighbour(clustering.get(name)) for name in cluster.neighbours),
            source=source,
            text=dossier(cluster, clustering, kept, units, moments, rules=False) if units else "",
        )
        for cluster in clustering.clusters
    ]


def _neighbour(cluster: Cluster) -> Neighbour:
    return Neighbour(label=cluster.label, states=cluster.states, actions=cluster.actions)


def with_evidence(skill: Skill, facts: DossierFacts) -> tuple[Skill, Evidence]:
    """Return the skill with its Evidence section, and the evidence: both written by code, whoever wrote the skill."""
    evidence = evidence_from(skill.name, facts.prototypes, facts.source)
    return skill.model_copy(update={"evidence": render_evidence(evidence)}), evidence


def skill_files(skill: Skill, facts: DossierFacts) -> dict[str, str]:
    """Return the files of a skill's folder by POSIX path: SKILL.md and its evidence.

    Raises:
        SkillParseError: The skill cannot be written in the grammar of SKILL.md.
    """
    full, evidence = with_evidence(skill, facts)
    return {SKILL_FILE: render_skill(full), EVIDENCE_FILE: evidence.model_dump_json(indent=1) + "\n"}


def signed(skill: Skill, facts: DossierFacts, written_by: str) -> Skill:
    """Return the skill with what code knows better than its author: who wrote it, from which cluster, no evidence."""
    return skill.model_copy(
        update={
            "written_by": written_by,
            "evidence": "",
            "parent": None,
            "compatibility": COMPATIBILITY,
            "extra_metadata": {CLUSTER_KEY: facts.cluster.id},
        }
    )
