"""Agreement figures on rows small enough to check by hand."""

import pytest

from esc_skills.pipeline.agreement import agreement, auc, cohen_kappa, f1_scores, set_agreement, spearman


def test_kappa_of_the_textbook_table():
    # 20 both yes, 5 yes-no, 10 no-yes, 15 both no: accuracy 0.7, chance 0.5, kappa 0.4.
    gold = ["y"] * 25 + ["n"] * 25
    predicted = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(gold, predicted) == pytest.approx(0.4)
    assert agreement(gold, predicted).accuracy == 0.7


def test_kappa_is_nought_where_everything_is_one_label():
    assert cohen_kappa(["a", "a"], ["a", "a"]) == 0.0


def test_macro_f1_leaves_out_labels_that_gold_never_has():
    assert f1_scores(["a", "a", "b"], ["a", "c", "b"]) == {"a": pytest.approx(2 / 3), "b": 1.0}
    assert agreement(["a", "a", "b"], ["a", "c", "b"]).macro_f1 == pytest.approx(0.8333)


def test_rows_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 labels with 1"):
        agreement(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="0 label sets"):
        set_agreement([], [])


def test_sets_count_what_they_share():
    found = set_agreement([("a", "b"), ("c",)], [("b", "a"), ("a", "c")])
    assert (found.same, found.shared) == (0.5, 1.0)
    assert found.micro_f1 == pytest.approx(2 * 3 / (3 + 4), abs=1e-4)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 + 1) / 3, abs=1e-4)


def test_auc_counts_ties_half():
    assert auc([0.9, 0.1], [True, False]) == 1.0
    assert auc([0.1, 0.9], [True, False]) == 0.0
    assert auc([0.5, 0.5, 0.9], [True, False, True]) == 0.75
    with pytest.raises(ValueError, match="both sides"):
        auc([1.0], [True])


def test_spearman_with_ties_is_pearson_of_mean_ranks():
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5 over the root of 4.5 * 5.
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    with pytest.raises(ValueError, match="constant"):
        spearman([1, 1], [1, 2])
