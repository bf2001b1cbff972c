"""The figures of the risk check, and the documented targets on the held-out set."""

import json
from pathlib import Path

import pytest

from esc_skills.pipeline.items import RiskLine
from esc_skills.pipeline.risk_eval import Judged, evaluate, markdown, report
from esc_skills.pipeline.risk_joins import Signs, fit_joins, settle_thresholds
from esc_skills.pipeline.risk_ngrams import Sample, fit_reader
from esc_skills.skills_bank.errors import CorpusError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.risk import RiskDesk
from esc_skills.skills_bank.risk_reader import RiskReader

HELD_OUT = Path(__file__).parents[1] / "data" / "risk_messages.jsonl"


def judged(category: str, gold: str, level: str, name: str = "a") -> Judged:
    return Judged.model_validate(
        {
            "id": name, "category": category, "gold": gold, "gold_kind": None,
            "level": level, "kind": None, "source": "patterns",
        }
    )  # fmt: skip


def test_counts():
    found = report(
        [
            judged("explicit", "high", "high"),
            judged("explicit", "high", "elevated", "x7"),
            judged("passive", "elevated", "high"),
            judged("hyperbole", "none", "none"),
            judged("ordinary_distress", "none", "elevated", "o1"),
        ],
        "lines.jsonl",
        "patterns",
    )
    assert (found.explicit.k, found.explicit.n) == (1, 2)
    assert (found.passive.k, found.passive.n) == (1, 1)
    assert (found.false_positive.k, found.false_positive.n) == (1, 2)
    assert found.met() == {"explicit": False, "passive": True, "false_positive": False}
    assert [c.missed for c in found.categories] == [("x7",), (), (), ("o1",)]
    assert "| level high on `explicit` | >= 0.98 | 0.500" in markdown(found)


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_file_is_read_and_assessed(tmp_path: Path):
    line = {"messages": [{"role": "seeker", "content": "i want to die"}], "level": "high", "kind": "self_harm"}
    path = write(tmp_path / "lines.jsonl", {"category": "explicit", "id": "e1", **line})
    desk = RiskDesk.load()
    assert evaluate(path, desk, None).explicit.rate == 1
    with_encoder = evaluate(path, desk, FakeEncoder())
    assert with_encoder.explicit.rate == 1 and "fake-encoder" in with_encoder.readers


def test_unusable_files_are_named(tmp_path: Path):
    with pytest.raises(CorpusError, match="No risk lines"):
        evaluate(tmp_path / "none.jsonl", RiskDesk.load(), None)
    with pytest.raises(CorpusError, match="line 1"):
        evaluate(write(tmp_path / "bad.jsonl", {"category": "explicit"}), RiskDesk.load(), None)


def test_the_fitted_reader_scores_as_it_was_fitted():
    lines = [
        ("i feel dark inside", True),
        ("the dark is near me", True),
        ("we ate warm soup", False),
        ("soup again", False),
    ]
    goals = {True: (True, False, False, True), False: (False, True, True, False)}
    samples = [Sample(text.split(), goals[bad], 1.0, True) for text, bad in lines] * 3
    reader = RiskReader(fit_reader(samples))
    dark, soup = reader.read("so dark in here"), reader.read("we had soup today")
    assert dark is not None and soup is not None and dark.self_harm > 0 > soup.self_harm and dark.high > soup.high
    assert reader.read("yes") is None


def signs(text: str, category: str, odds: float) -> Signs:
    level = {"explicit": "high", "passive": "elevated"}.get(category, "none")
    line = RiskLine.model_validate({
        "category": category, "level": level, "kind": None if level == "none" else "self_harm",
        "messages": [{"role": "seeker", "content": text}],
    })  # fmt: skip
    return Signs(line, ("none", "none", "none"), "plain", (odds, -4.0, -4.0, odds), (odds, -4.0, -4.0, odds))


def test_thresholds_keep_false_positives_low_and_catch_the_rest():
    dangerous = [signs(f"the river at number {i} is waiting", "explicit", 2.0 + i / 50) for i in range(50)]
    calm = [signs(f"bread number {i} is in the oven", "ordinary_distress", -2.0 + i / 15) for i in range(50)]
    found = dangerous + calm
    joins = settle_thresholds(fit_joins(found), found, with_encoder=True)
    sums = [joins.any.sum("none", "plain", one.reader[0], one.encoder[0]) for one in found]
    false = sum(total >= 0 for total in sums[50:]) / 50
    assert 0 < false <= 0.07
    assert sum(total >= 0 for total in sums[:50]) / 50 > 0.6


@pytest.mark.slow
def test_the_published_figures_are_those_of_the_shipped_files():
    """Whether the targets are met is said on the page; this holds the page to the code."""
    from esc_skills.skills_bank.encoder import Encoder

    found = evaluate(HELD_OUT, RiskDesk.load(), Encoder.load())
    assert sum(category.n for category in found.categories) >= 300
    page = (Path(__file__).parents[2] / "docs" / "safety.md").read_text(encoding="utf-8")
    for row in markdown(found).splitlines():
        if row.startswith("| level "):
            assert row in page, row
