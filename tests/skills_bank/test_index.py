"""Facets of skills as vectors."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.errors import BankError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.index import FacetIndex, FacetKind, facets_of, write_prebuilt, write_table


class CountingEncoder(FakeEncoder):
    """Remembers what it embedded."""

    def __init__(self, version: str = "counting-1") -> None:
        self.version = version
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str]):
        self.seen += texts
        return super().embed(texts)


def edit(folder: Path, name: str, old: str, new: str) -> Bank:
    path = folder / name / "SKILL.md"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return Bank.load(folder)


def rows(folder: Path) -> list[dict]:
    import lancedb

    return lancedb.connect(folder).open_table("facets").to_arrow().to_pylist()


def test_a_skill_has_the_facets_by_which_it_can_be_found(bank_dir: Path):
    skill = Bank.load(bank_dir).skills["calming-dread"]
    facets = list(facets_of(skill))
    kinds = [facet.kind for facet in facets]
    assert {kind: kinds.count(kind) for kind in FacetKind} == {
        FacetKind.DESCRIPTION: 1,
        FacetKind.CONDITION: 3,
        FacetKind.EXAMPLE: 5,
        FacetKind.PITFALL: 3,
    }
    assert "Right." in [facet.text for facet in facets]
    assert "A flat yes." in [facet.text for facet in facets]


def test_the_matrix_has_one_row_a_facet(bank_dir: Path, tmp_path: Path):
    bank = Bank.load(bank_dir)
    facets = FacetIndex.open(tmp_path / "index", FakeEncoder()).matrix(bank)
    assert facets.vectors.shape == (36, 384)
    assert facets.vectors.dtype == np.float32
    np.testing.assert_allclose(facets.vectors, FakeEncoder().embed(facets.texts))
    assert facets.owners(list(bank.skills)).tolist() == [0] * 12 + [1] * 12 + [2] * 12
    assert facets.owners(list(reversed(bank.skills))).tolist() == [2] * 12 + [1] * 12 + [0] * 12


def test_the_nearest_facet_belongs_to_the_skill_that_says_so(bank_dir: Path, tmp_path: Path):
    facets = FacetIndex.open(tmp_path / "index", FakeEncoder()).matrix(Bank.load(bank_dir))
    query = FakeEncoder().embed(["I lie awake every night over the exam"])[0]
    assert facets.skills[int((facets.vectors @ query).argmax())] == "calming-exams"


def test_only_new_texts_are_embedded(bank_dir: Path, tmp_path: Path):
    encoder = CountingEncoder()
    index = FacetIndex.open(tmp_path / "index", encoder)
    first = index.matrix(Bank.load(bank_dir))
    assert len(encoder.seen) == len(set(first.texts))
    encoder.seen.clear()
    bank = edit(bank_dir, "calming-dread", "fears the talk and says so", "dreads the talk")
    facets = index.matrix(bank)
    assert encoder.seen == ["The seeker dreads the talk."]
    np.testing.assert_allclose(facets.vectors, FakeEncoder().embed(facets.texts))
    assert FacetIndex.open(tmp_path / "index", encoder).matrix(bank).texts == facets.texts
    assert len(encoder.seen) == 1


def test_another_encoder_embeds_everything_again(bank_dir: Path, tmp_path: Path):
    bank = Bank.load(bank_dir)
    FacetIndex.open(tmp_path / "index", CountingEncoder("a")).matrix(bank)
    encoder = CountingEncoder("b")
    FacetIndex.open(tmp_path / "index", encoder).matrix(bank)
    assert len(encoder.seen) > 20


def test_vectors_can_come_with_the_bank(bank_dir: Path, tmp_path: Path):
    bank = Bank.load(bank_dir)
    assert write_prebuilt([bank, bank], FakeEncoder(), tmp_path / "facets.npz") == 36
    encoder = CountingEncoder(FakeEncoder.version)
    index = FacetIndex.open(tmp_path / "index", encoder, prebuilt=tmp_path / "facets.npz")
    assert index.matrix(bank).vectors.shape == (36, 384)
    assert encoder.seen == []
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x93NUMPY"])
def test_a_broken_vector_file_is_made_anew(bank_dir: Path, tmp_path: Path, content: bytes):
    bank = Bank.load(bank_dir)
    index = FacetIndex.open(tmp_path / "index", FakeEncoder())
    index.matrix(bank)
    (tmp_path / "index/vectors.npz").write_bytes(content)
    encoder = CountingEncoder(FakeEncoder.version)
    assert FacetIndex.open(tmp_path / "index", encoder).matrix(bank).vectors.shape == (36, 384)
    assert encoder.seen
    assert (tmp_path / "index/vectors.npz").read_bytes() != content


def test_a_folder_that_cannot_be_written_costs_time_only(bank_dir: Path, tmp_path: Path):
    (tmp_path / "index").write_text("a file is in the way", encoding="utf-8")
    facets = FacetIndex.open(tmp_path / "index", FakeEncoder()).matrix(Bank.load(bank_dir))
    assert facets.vectors.shape == (36, 384)


@pytest.mark.slow
def test_the_table_follows_the_bank(bank_dir: Path, tmp_path: Path):
    encoder = CountingEncoder()
    index = FacetIndex.open(tmp_path / "index", encoder)
    bank = Bank.load(bank_dir)
    embedded = index.sync(bank)
    assert embedded == len(set(index.matrix(bank).texts))
    table = rows(tmp_path / "index")
    assert {(row["skill"], row["kind"], row["text"]) for row in table} == {
        (facet.skill, facet.kind, facet.text) for skill in bank.skills.values() for facet in facets_of(skill)
    }
    assert {row["bank_version"] for row in table} == {bank.version}
    assert index.sync(bank) == 0
    bank = edit(bank_dir, "calming-dread", "fears the talk and says so", "dreads the talk")
    assert index.sync(bank) == 1
    texts = [row["text"] for row in rows(tmp_path / "index")]
    assert "The seeker dreads the talk." in texts
    assert "The seeker fears the talk and says so." not in texts
    # A lost array is read back from the table, not embedded again.
    (tmp_path / "index/vectors.npz").unlink()
    encoder.seen.clear()
    facets = FacetIndex.open(tmp_path / "index", encoder).matrix(bank)
    assert encoder.seen == []
    np.testing.assert_allclose(facets.vectors, FakeEncoder().embed(facets.texts))
    assert (tmp_path / "index/vectors.npz").is_file()


@pytest.mark.slow
def test_a_process_of_its_own_writes_the_table(bank_dir: Path, tmp_path: Path):
    bank = Bank.load(bank_dir)
    index = FacetIndex.open(tmp_path / "index", FakeEncoder())
    assert index.sync_later(bank)
    deadline = time.monotonic() + 60
    while not (tmp_path / "index/table.json").is_file():
        assert time.monotonic() < deadline, "the table was not written"
        time.sleep(0.1)
    assert len(rows(tmp_path / "index")) == 36
    assert not index.sync_later(bank)


@pytest.mark.slow
def test_reading_vectors_does_not_import_lancedb(bank_dir: Path, tmp_path: Path):
    FacetIndex.open(tmp_path / "index", FakeEncoder()).matrix(Bank.load(bank_dir))
    code = f"""
import sys
from pathlib import Path
from esc_skills.skills_bank.bank import Bank
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.index import FacetIndex
FacetIndex.open(Path({str(tmp_path / "index")!r}), FakeEncoder()).matrix(Bank.load(Path({str(bank_dir)!r})))
sys.exit("lancedb" in sys.modules or "pyarrow" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_table_needs_vectors(tmp_path: Path):
    with pytest.raises(BankError, match=r"has no vectors.npz"):
        write_table(tmp_path)
