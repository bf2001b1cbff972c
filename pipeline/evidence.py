"""Write the evidence of each skill of a bank from the shipped labels and clusters, or check what stands there."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from ..skills_bank.errors import InputError
from ..skills_bank.evidence import evidence_from, render_evidence
from ..skills_bank.models import Evidence, Prototype, Skill
from ..skills_bank.skillmd import parse_skill, render_skill
from ..skills_bank.taxonomy import SeekerState, SupportAction
from .clusters import Clustering, load_clusters
from .prototypes import index, prototypes
from .units import units

SOURCE = "ESConv train + FailedESConv"
CLUSTER_KEY = "esc-cluster"
EVIDENCE_FILE = Path("references") / "evidence.json"


def evidence_for(
    skill: str, cells: Iterable[tuple[SeekerState, SupportAction]], known: Sequence[Prototype] | None = None
) -> Evidence:
    """Return the evidence of a skill that stands on the (state, action) `cells`.

    Args:
        skill: Name of the skill.
        cells: Its prototypes; a cell that is no prototype (too few key units) is left out.
        known: All prototypes; default those of the shipped labels.

    Raises:
        InputError: None of the cells is a prototype.
    """
    by_cell = index(prototypes(units()) if known is None else known)
    return evidence_from(skill, [by_cell[cell] for cell in cells if cell in by_cell], SOURCE)


def _skills(bank: Path) -> list[tuple[Path, Skill]]:
    paths = sorted(bank.glob("*/SKILL.md"))
    if not paths:
        raise InputError(f"No skill at {bank}: expected folders that hold a SKILL.md.")
    return [(path, parse_skill(path.read_text(encoding="utf-8"), str(path))) for path in paths]


def _expected(skill: Skill, clustering: Clustering, known: Sequence[Prototype]) -> Evidence | None:
    """Return the evidence due to a skill, or None for one that names no cluster (written by hand, or evolved)."""
    cluster = skill.extra_metadata.get(CLUSTER_KEY)
    return None if cluster is None else evidence_for(skill.name, clustering.get(cluster).prototypes, known)


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)  # temporary files are private to their owner; a skill is not
    os.replace(file.name, path)


def write_evidence(bank: Path, clustering: Clustering | None = None) -> list[Path]:
    """Write `references/evidence.json` and the Evidence section of every skill that names its cluster.

    Returns:
        The files that changed.
    """
    clustering, known = clustering or load_clusters(), prototypes(units())
    changed: list[Path] = []
    for path, skill in _skills(bank):
        evidence = _expected(skill, clustering, known)
        if evidence is None:
            continue
        wanted = {
            path.parent / EVIDENCE_FILE: evidence.model_dump_json(indent=1) + "\n",
            path: render_skill(skill.model_copy(update={"evidence": render_evidence(evidence)})),
        }
        for file, text in wanted.items():
            if not file.is_file() or file.read_text(encoding="utf-8") != text:
                _replace(file, text)
                changed.append(file)
    return changed


def stale_evidence(bank: Path, clustering: Clustering | None = None) -> list[str]:
    """Return one line for every number of the bank that differs from the one recomputed from the labels."""
    clustering, known = clustering or load_clusters(), prototypes(units())
    problems: list[str] = []
    for path, skill in _skills(bank):
        evidence = _expected(skill, clustering, known)
        if evidence is None:
            continue
        file = path.parent / EVIDENCE_FILE
        if not file.is_file():
            problems.append(f"{file}: it is missing. Run `esc-skills build evidence`.")
            continue
        try:
            found = Evidence.model_validate_json(file.read_text(encoding="utf-8"))
        except ValueError as error:
            problems.append(f"{file}: it is no evidence ({error}).")
            continue
        for field in Evidence.model_fields:
            if getattr(found, field) != getattr(evidence, field):
                problems.append(f"{file}: {field} differs from the one recomputed from the labels.")
        if skill.evidence != render_evidence(evidence):
            problems.append(f"{path}: the Evidence section differs from the one rendered from the labels.")
    return problems
