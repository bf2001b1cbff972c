"""docs/build.md says what the shipped labels and clusters say; the heatmap's texts keep clear of each other."""

import math
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from esc_skills.pipeline.prototypes import index, prototypes
from esc_skills.pipeline.report import (
    PAPER,
    best_actions,
    count,
    rank_correlation,
    render_heatmap,
    render_report,
    topic_shift_negative,
    write_report,
)
from esc_skills.pipeline.units import units

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


def test_page_in_the_repository_is_the_one_the_code_writes():
    assert (DOCS / "build.md").read_text(encoding="utf-8") == render_report()
    assert (DOCS / "effects.svg").read_text(encoding="utf-8") == render_heatmap()


def test_counts_stand_beside_the_papers():
    page, ours = render_report(), count(units())
    for theirs, mine in zip(PAPER.model_dump().values(), ours.model_dump().values(), strict=True):
        assert f"| {theirs:,} | {mine:,} | " in page


def test_topic_shift_turns_negative_and_key_and_nothing_else_moves(make_labels):
    labels = [
        make_labels("resistance", "restatement", c, "resistance", name=c) for c in ("topic_shift", "increased_hope")
    ]
    shifted = topic_shift_negative(units(labels))
    assert [(u.polarity, u.key) for u in shifted] == [("negative", True), ("positive", True)]


def test_rank_correlation_of_equal_and_turned_orders():
    kept = prototypes(units())[:10]
    cells = dict(index(kept))
    assert rank_correlation(cells, cells) == 1.0
    by_n = sorted(kept, key=lambda p: (p.positive.k - p.negative.k) / p.n)
    turned = {(a.state, a.action): b for a, b in zip(by_n, by_n[::-1], strict=True)}
    assert rank_correlation(cells, turned) < -0.8


def test_best_action_of_a_state_has_the_best_outcome():
    kept = prototypes(units())
    best = best_actions(kept)
    assert len(best) == 15
    assert best["anxiety_and_fear"] == "open_exploration"  # 0.93 of 85 units are positive, none negative


def boxes(svg: ElementTree.Element) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Return the upright texts with generous boxes (0.62 em a letter)."""
    found = []
    for node in svg.iter(f"{SVG}text"):
        if node.get("transform"):
            continue
        size, text = float(node.get("font-size", 0)), node.text or ""
        width, x, y = 0.62 * size * len(text), float(node.get("x", 0)), float(node.get("y", 0))
        left = {"start": x, "middle": x - width / 2, "end": x - width}[node.get("text-anchor", "start")]
        found.append((text, (left, y - 0.8 * size, left + width, y + 0.2 * size)))
    return found


@pytest.fixture(scope="module")
def svg() -> ElementTree.Element:
    return ElementTree.fromstring(render_heatmap())


def test_upright_texts_do_not_overlap_and_stay_inside(svg: ElementTree.Element):
    found = boxes(svg)
    width, height = float(svg.get("width", 0)), float(svg.get("height", 0))
    assert len(found) > 400
    for i, (text, (left, top, right, bottom)) in enumerate(found):
        assert min(left, top) >= 0 and right <= width and bottom <= height, text
        for other, (l2, t2, r2, b2) in found[i + 1 :]:
            assert right <= l2 or r2 <= left or bottom <= t2 or b2 <= top, (text, other)


def test_slanted_labels_keep_their_distance_and_stay_inside(svg: ElementTree.Element):
    slanted = [node for node in svg.iter(f"{SVG}text") if node.get("transform")]
    assert len(slanted) == 17
    places = [(float(n.get("x", 0)), float(n.get("y", 0)), len(n.text or "")) for n in slanted]
    for (x, _, _), (x2, _, _) in pairwise(places):
        assert (x2 - x) / math.sqrt(2) > 14  # the line height of 12 px text, measured across the slant
    for x, y, length in places:
        reach = 0.62 * 12 * length / math.sqrt(2)
        assert x + reach <= float(svg.get("width", 0)) and y - reach - 12 >= 0


def test_each_prototype_has_its_cell(svg: ElementTree.Element):
    titles = [node.text or "" for node in svg.iter(f"{SVG}title")][1:]
    kept = prototypes(units())
    assert len(titles) == len(kept)
    assert [int(re.search(r": (\d+) units", t)[1]) for t in titles] == [p.n for p in kept]  # pyright: ignore


@pytest.mark.slow
def test_report_is_written_whole(tmp_path: Path):
    paths = write_report(tmp_path / "docs")
    assert [p.name for p in paths] == ["build.md", "effects.svg"]
    assert sorted(p.name for p in (tmp_path / "docs").iterdir()) == ["build.md", "effects.svg"]
