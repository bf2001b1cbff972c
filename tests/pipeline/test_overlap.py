from pathlib import Path

import pytest

from esc_skills.pipeline.corpus import read_corpus
from esc_skills.pipeline.overlap import RUN, copied, corpus_runs
from esc_skills.skills_bank.place import shipped_bank

LINE = "the kettle was still warm when I came home that night and nobody spoke"


def test_a_run_of_eight_words_counts_as_copied_whatever_the_punctuation():
    corpus = corpus_runs([LINE])
    assert copied("He said: the kettle was still warm, when I came!", corpus)


def test_seven_words_in_a_row_do_not():
    assert not copied("the kettle was still warm when I left", corpus_runs([LINE]))


@pytest.fixture(scope="session")
def corpus(shared_dir: Path) -> frozenset[int]:
    """Every run of the corpus, turn by turn, the situations the seekers described included."""
    found: set[int] = set()
    for split in ("train", "valid", "failed"):
        for dialogue in read_corpus(shared_dir / "data" / "esconv" / f"{split}.jsonl").dialogues:
            found |= corpus_runs(turn.content for turn in dialogue.turns())
    return frozenset(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder",
    [
        "skills_bank/skills/*/SKILL.md",
        "skills_bank/*.yaml",
        "pipeline/*.jsonl",
        "pipeline/*.md",
        "docs/*.md",
        "README.md",
        "tests/data/*",
        "tests/**/*.py",
        "benchmarks/*.py",
    ],
)
def test_no_run_of_eight_words_of_ours_occurs_in_the_corpus(corpus: frozenset[int], folder: str):
    root = Path(__file__).parents[2]
    found = {}
    for path in sorted(root.glob(folder)):
        # The taxonomy's own words ("I have never felt so ...") cannot be told from coincidence below RUN words.
        if hits := copied(path.read_text(encoding="utf-8"), corpus):
            found[str(path.relative_to(root))] = hits[:3]
    assert not found, f"runs of {RUN} words that the corpus holds: {found}"


def test_the_shipped_bank_has_prose_to_check():
    assert len(list(shipped_bank().glob("*/SKILL.md"))) >= 27
