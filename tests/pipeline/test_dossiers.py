"""Dossiers hold what an author needs, from composed dialogues; and never land where git could take them."""

import subprocess
from pathlib import Path

import pytest

from esc_skills.pipeline.clusters import Cluster, Clustering, load_clusters
from esc_skills.pipeline.corpus import Dialogue, Utterance
from esc_skills.pipeline.dossiers import (
    MOST_NEGATIVE,
    MOST_POSITIVE,
    _legible,
    dossier,
    moments,
    refuse_tracked,
    write_dossiers,
)
from esc_skills.pipeline.labels import BUILD_SPLITS
from esc_skills.pipeline.prototypes import prototypes
from esc_skills.pipeline.units import units
from esc_skills.skills_bank.errors import InputError

STATE, ACTION = "withdrawal", "restatement"
SAID = (
    "Nothing much to say about the {what} really, it just goes on as before.",
    "So the {what} goes on and you have stopped hoping it would change by itself.",
    "Yes, and nobody at home asks me about the {what} any more, that is the worst of it.",
)


def composed(make_labels, what: str, change: str, **more):
    labelled = make_labels(STATE, ACTION, change, STATE, name=f"dialogue-{what}", **more)
    utterances = tuple(
        Utterance(speaker=t.speaker, content=SAID[i].format(what=what)) for i, t in enumerate(labelled.turns)
    )
    return labelled, Dialogue(id=labelled.id, source="ESConv", split="train", utterances=utterances)


@pytest.fixture
def material(make_labels):
    things = ["harvest", "choir", "roof", "garden", "ferry", "violin", "bakery", "kiln"]
    pairs = [composed(make_labels, w, "increased_openness", scenario="loneliness") for w in things]
    pairs += [composed(make_labels, w, "increased_withdrawal", scenario="sleep_problems") for w in ["attic", "canal"]]
    labels, dialogues = zip(*pairs, strict=True)
    found = units(labels)
    cell = Cluster(
        id="c01", label="Withdrawal: listening", states=(STATE,), actions=(ACTION,), scenarios=("loneliness",), n=10,
        n_key=10, prototypes=((STATE, ACTION),), neighbours=("c02",),
    )  # fmt: skip
    other = cell.model_copy(update={"id": "c02", "label": "Resistance: acting", "states": ("resistance",)})
    clustering = Clustering(labels_sha256="x", weights={}, max_size=14, clusters=(cell, other))
    return clustering, prototypes(found), found, moments(labels, {d.id: d for d in dialogues}, BUILD_SPLITS)


def test_dossier_holds_all_an_author_needs(material):
    clustering, kept, found, quotable = material
    text = dossier(clustering.clusters[0], clustering, kept, found, quotable)
    for heading in (
        "States", "Actions", "Prototypes", "Response changes", "Scenarios", "Actions per state, best first",
        "Telling positive moments", "Telling negative moments", "Neighbours",
    ):  # fmt: skip
        assert f"\n## {heading}\n" in text
    assert "| withdrawal | restatement | 10 | 10 | 80% (49%-94%) | 20% (6%-51%) |" in text
    assert 'esc-cluster: "c01"' in text
    assert "Closes down" in text and "parroting" in text
    assert "c02 Resistance: acting: for resistance." in text
    assert SAID[1].format(what="violin") in text and SAID[1].format(what="canal") in text


def test_positive_and_negative_moments_stand_apart(material):
    clustering, kept, found, quotable = material
    text = dossier(clustering.clusters[0], clustering, kept, found, quotable)
    positive, negative = text.split("## Telling negative moments")
    assert "attic" not in positive and "choir" in positive
    assert "attic" in negative and "choir" not in negative


def test_grammar_in_the_dossier_is_that_of_the_design(material):
    design = (Path(__file__).parents[2] / "docs" / "design.md").read_text(encoding="utf-8")
    grammar = design.split("## SKILL.md grammar")[1].strip()
    clustering, kept, found, quotable = material
    assert grammar.splitlines()[1:-1]
    assert grammar in dossier(clustering.clusters[0], clustering, kept, found, quotable)


def test_only_the_clusters_own_cells_are_told(material, make_labels):
    clustering, kept, found, quotable = material
    stray = clustering.clusters[0].model_copy(update={"prototypes": ((STATE, ACTION),)})
    labelled, dialogue = composed(make_labels, "lantern", "increased_hope")
    elsewhere = labelled.model_copy(
        update={"turns": (labelled.turns[0].model_copy(update={"state": "resistance"}), *labelled.turns[1:])}
    )
    more = quotable + moments([elsewhere], {dialogue.id: dialogue}, BUILD_SPLITS)
    assert "lantern" not in dossier(stray, clustering, kept, found, more)


def test_noise_is_told_from_language():
    familiar = {"i", "feel", "alone", "today"}
    assert _legible("I feel alone today", familiar) == 1.0
    assert _legible("xqz wvut feel", familiar) == pytest.approx(1 / 3)
    assert _legible("I FEEL ALONE TODAY I FEEL ALONE", familiar) == 0.5
    assert _legible(":) ...", familiar) == 0.0


def test_one_file_per_cluster(material, tmp_path: Path):
    clustering, kept, found, quotable = material
    one = clustering.model_copy(update={"clusters": clustering.clusters[:1]})
    alone = one.clusters[0].model_copy(update={"neighbours": ()})
    one = one.model_copy(update={"clusters": (alone,)})
    (path,) = write_dossiers(tmp_path / "out", one, kept, found, quotable)
    assert path.name == "c01.md" and path.read_text(encoding="utf-8").startswith("# Dossier c01: Withdrawal")


@pytest.fixture
def work_tree(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path / "repo")], check=True)
    (tmp_path / "repo" / ".gitignore").write_text("/private/\n", encoding="utf-8")
    return tmp_path / "repo"


@pytest.mark.parametrize("where", ["docs", ".", "docs/deep/er"])
def test_folder_that_git_could_take_is_refused(work_tree: Path, where: str):
    with pytest.raises(InputError, match="not ignored"):
        refuse_tracked(work_tree / where)


@pytest.mark.parametrize("where", ["private", "private/more", "../beside"])
def test_ignored_or_outside_folder_is_allowed(work_tree: Path, where: str):
    refuse_tracked(work_tree / where)


def test_nothing_is_written_when_refused(material, work_tree: Path):
    clustering, kept, found, quotable = material
    with pytest.raises(InputError):
        write_dossiers(work_tree / "docs", clustering, kept, found, quotable)
    assert not (work_tree / "docs").exists()


@pytest.mark.slow
def test_dossiers_of_the_shipped_clusters(shared_dir: Path, tmp_path: Path):
    from esc_skills.pipeline.cli import _joined

    labels, dialogues = _joined(shared_dir, None)
    found, clustering = units(), load_clusters()
    quotable = moments(labels, dialogues, BUILD_SPLITS)
    paths = write_dossiers(tmp_path, clustering, prototypes(found), found, quotable)
    assert [p.stem for p in paths] == [c.id for c in clustering.clusters]
    for path in paths:
        positive, negative = path.read_text(encoding="utf-8").split("## Telling positive")[1].split("## Telling neg")
        assert 8 <= positive.count("> Supporter:") <= MOST_POSITIVE
        assert 6 <= negative.split("# The grammar")[0].count("> Supporter:") <= MOST_NEGATIVE
