"""Evidence is written from the shipped labels, and any number that differs is found."""

import json
from pathlib import Path

import pytest

from esc_skills.pipeline.clusters import load_clusters
from esc_skills.pipeline.evidence import EVIDENCE_FILE, evidence_for, stale_evidence, write_evidence
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.models import Evidence
from esc_skills.skills_bank.skillmd import parse_skill

SHIPPED = Path(__file__).parents[2] / "skills_bank" / "skills"


@pytest.fixture
def bank(tmp_path: Path, skill_text: str) -> Path:
    folder = tmp_path / "bank" / "calming-dread"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(skill_text.replace('esc-cluster: "c1"', 'esc-cluster: "c03"'), encoding="utf-8")
    return tmp_path / "bank"


def test_evidence_of_a_cluster_sums_its_cells():
    cluster = load_clusters().get("c26")
    evidence = evidence_for("a-skill", cluster.prototypes)
    assert (evidence.n, evidence.n_key, len(evidence.prototypes)) == (cluster.n, cluster.n_key, 12)


def test_cell_that_is_no_prototype_is_left_out():
    cells = [("withdrawal", "summarizing"), ("withdrawal", "open_exploration")]
    evidence = evidence_for("a-skill", cells)  # pyright: ignore[reportArgumentType]
    assert [(p.state, p.action) for p in evidence.prototypes] == cells[1:]


def test_file_and_section_are_written_once_and_then_hold(bank: Path):
    folder = bank / "calming-dread"
    assert stale_evidence(bank) == [f"{folder / EVIDENCE_FILE}: it is missing. Run `esc-skills build evidence`."]
    assert write_evidence(bank) == [folder / EVIDENCE_FILE, folder / "SKILL.md"]
    assert stale_evidence(bank) == []
    assert write_evidence(bank) == []
    skill = parse_skill((folder / "SKILL.md").read_text(encoding="utf-8"))
    assert "860 units" in skill.evidence and skill.title == "Calming the talk"
    found = Evidence.model_validate_json((folder / EVIDENCE_FILE).read_text(encoding="utf-8"))
    assert (found.skill, found.n) == ("calming-dread", 860)


def test_changed_number_is_found(bank: Path):
    write_evidence(bank)
    file = bank / "calming-dread" / EVIDENCE_FILE
    stored = json.loads(file.read_text(encoding="utf-8"))
    stored["n"] += 1
    file.write_text(json.dumps(stored), encoding="utf-8")
    assert stale_evidence(bank) == [f"{file}: n differs from the one recomputed from the labels."]


def test_changed_section_is_found(bank: Path):
    write_evidence(bank)
    file = bank / "calming-dread" / "SKILL.md"
    file.write_text(file.read_text(encoding="utf-8").replace("860 units", "900 units"), encoding="utf-8")
    (problem,) = stale_evidence(bank)
    assert problem.startswith(f"{file}: the Evidence section differs")


def test_unknown_cluster_is_an_error(bank: Path):
    file = bank / "calming-dread" / "SKILL.md"
    file.write_text(file.read_text(encoding="utf-8").replace('"c03"', '"c99"'), encoding="utf-8")
    with pytest.raises(InputError, match="No cluster 'c99'"):
        write_evidence(bank)


def test_skill_without_a_cluster_is_left_alone(bank: Path):
    file = bank / "calming-dread" / "SKILL.md"
    text = file.read_text(encoding="utf-8").replace('  esc-cluster: "c03"\n', "")
    file.write_text(text, encoding="utf-8")
    assert write_evidence(bank) == [] and stale_evidence(bank) == []
    assert file.read_text(encoding="utf-8") == text


def test_empty_folder_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="No skill at"):
        write_evidence(tmp_path)


def test_every_number_of_the_shipped_bank_is_the_recomputed_one():
    if not list(SHIPPED.glob("*/SKILL.md")):
        pytest.skip("no skill is shipped yet")
    assert stale_evidence(SHIPPED) == []
