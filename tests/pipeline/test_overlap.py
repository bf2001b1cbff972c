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


LOOSE = 12
"""For lines written as people talk, where eight everyday words in a row are no copy."""


@pytest.fixture(scope="session")
def turns(shared_dir: Path) -> list[str]:
    """Every turn of the corpus."""
    return [
        turn.content
        for split in ("train", "valid", "failed")
        for dialogue in read_corpus(shared_dir / "data" / "esconv" / f"{split}.jsonl").dialogues
        for turn in dialogue.turns()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folders", "run"),
    [
        (("skills_bank/skills*/*/SKILL.md", "skills_bank/*.yaml", "docs/*.md", "pipeline/*.md", "README.md"), RUN),
        (("docs/proposed/*/SKILL.md", "evolve/*.md", "evolve/plain_lines.yaml"), RUN),
        (("evolve/screen.yaml",), LOOSE),
        (("pipeline/*.jsonl", "tests/data/*", "tests/**/*.py", "benchmarks/*.py"), LOOSE),
        # test_parts.py looks at situations and personas
        (("simulator/parts/*.yaml", "simulator/parts/lines/*.yaml"), LOOSE),
    ],
)
def test_no_run_of_words_of_ours_occurs_in_the_corpus(turns: list[str], folders: tuple[str, ...], run: int):
    root = Path(__file__).parents[2]
    found: dict[str, list[str]] = {}
    corpus = corpus_runs(turns, run)
    for path in sorted(path for folder in folders for path in root.glob(folder)):
        if hits := copied(path.read_text(encoding="utf-8"), corpus, run):
            found[str(path.relative_to(root))] = hits[:3]
    assert not found, f"runs of {run} words that the corpus holds: {found}"


def test_the_shipped_bank_has_prose_to_check():
    assert len(list(shipped_bank().glob("*/SKILL.md"))) >= 27
