"""Prototypes: cells with five key units, and rates that can be counted by hand."""

import pytest

from esc_skills.pipeline.prototypes import base_rates, by_cell, index, prototypes
from esc_skills.pipeline.units import units
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.evidence import evidence_from, expected_outcome, render_evidence

STATE = "loneliness_and_disconnection"


def sample(make_labels, action: str, changes: list[str], *, split: str = "train", scenario: str = "loneliness"):
    """One dialogue per change."""
    return [
        make_labels(STATE, action, change, STATE, name=f"{action}-{split}-{i}", split=split, scenario=scenario)
        for i, change in enumerate(changes)
    ]


@pytest.fixture
def found(make_labels):
    good = sample(make_labels, "restatement", ["emotional_relief"] * 4)
    bad = sample(
        make_labels,
        "restatement",
        ["increased_withdrawal", "no_observable_change"],
        split="failed",
        scenario="sleep_problems",
    )
    other = sample(make_labels, "normalization", ["increased_hope"] * 4 + ["topic_shift"] * 10)
    return units([*good, *bad, *other])


def test_rates_count_over_all_units_and_lift_over_the_state(found):
    (p,) = prototypes(found)
    assert (p.state, p.action, p.n, p.n_key) == (STATE, "restatement", 6, 5)
    assert (p.positive.k, p.negative.k) == (4, 1)
    assert p.positive.rate == pytest.approx(4 / 6, abs=1e-4)
    assert p.lift_positive == pytest.approx(4 / 6 - 8 / 20, abs=1e-4)
    assert p.lift_negative == pytest.approx(1 / 6 - 1 / 20, abs=1e-4)
    assert p.failed_share == pytest.approx(2 / 6, abs=1e-4)
    assert p.changes == {"emotional_relief": 4, "increased_withdrawal": 1, "no_observable_change": 1}
    assert p.scenarios == {"loneliness": 4, "sleep_problems": 2}


def test_interval_is_wilsons(found):
    (p,) = prototypes(found)
    # Wilson 1927 for 4 of 6, worked out apart: centre (k + z²/2) / (n + z²).
    assert (p.positive.low, p.positive.high) == (pytest.approx(0.3000, abs=5e-4), pytest.approx(0.9032, abs=5e-4))


def test_cell_below_five_key_units_is_dropped_but_counts_in_the_base_rate(found):
    assert len(by_cell(found)) == 2
    assert {p.action for p in prototypes(found)} == {"restatement"}
    assert {p.action for p in prototypes(found, min_key=4)} == {"restatement", "normalization"}
    (base,) = base_rates(found).values()
    assert (base.n, base.positive.k, base.negative.k) == (20, 8, 1)


def test_shipped_prototypes_are_consistent():
    kept = prototypes(units())
    assert len(kept) == 217 == len(index(kept))
    for p in kept:
        assert p.n_key == p.positive.k + p.negative.k >= 5
        assert sum(p.changes.values()) == sum(p.scenarios.values()) == p.n
        assert p.positive.low <= p.positive.rate <= p.positive.high


def test_lifts_of_a_state_cancel_out_over_all_its_cells():
    found = units()
    for state, base in base_rates(found).items():
        cells = [p for p in prototypes(found, min_key=0) if p.state == state]
        assert sum(p.n for p in cells) == base.n
        assert sum(p.n * p.lift_positive for p in cells) / base.n == pytest.approx(0, abs=2e-4)


def test_expected_outcome_draws_small_cells_to_the_state(found):
    (p,) = prototypes(found)
    raw, base = 3 / 6, 7 / 20
    assert base < expected_outcome(p) < raw
    assert expected_outcome(p) == pytest.approx((3 + 10 * base) / 16, abs=1e-3)
    assert expected_outcome(p, prior=0) == pytest.approx(raw, abs=1e-3)


def test_evidence_sums_its_prototypes(found):
    kept = prototypes(found, min_key=4)
    evidence = evidence_from("a-skill", kept, "a source")
    assert (evidence.n, evidence.n_key, evidence.positive.k, evidence.negative.k) == (20, 9, 8, 1)
    assert evidence.lift_positive == pytest.approx(0, abs=1e-3)
    assert evidence.failed_share == pytest.approx(2 / 20, abs=1e-3)


def test_rendered_evidence_shows_the_numbers(found):
    text = render_evidence(evidence_from("a-skill", prototypes(found, min_key=4), "a source"))
    assert "20 units" in text and "40%" in text and "a source" in text
    assert text.index("| Restatement | 6 |") < text.index("| Normalization | 14 |")
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_evidence_without_prototypes_is_refused():
    with pytest.raises(InputError, match="no prototypes"):
        evidence_from("a-skill", [], "a source")
