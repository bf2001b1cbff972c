"""Figures, tables and the plot of a run."""

import random
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from esc_skills.simulator.engine import LocalEngine
from esc_skills.simulator.needs import Character
from esc_skills.simulator.resample import mean, ratio, sign_flip_p
from esc_skills.simulator.run import simulate
from esc_skills.simulator.session import converse
from esc_skills.simulator.summary import (
    JSON,
    PAGE,
    PLOT,
    Summary,
    Talk,
    figures,
    summarize,
    tables,
    talks_of,
    write_summary,
)
from esc_skills.simulator.trajectories import draw
from esc_skills.skills_bank.taxonomy import SupportAction

sys.path.insert(0, str(Path(__file__).parent))
from scripted_cast import ScriptedAgent, ScriptedRecipe, ScriptedSeeker, profile, profiles, settings

SAFETY = SupportAction.SAFETY_CHECK_AND_REFERRAL


async def talk(changes, number=1, agent=None, **more) -> Talk:
    return Talk.of(await converse(profile(number, **more), agent or ScriptedAgent(), ScriptedSeeker(changes), seed=1))


async def test_the_figures_are_those_of_sage():
    talks = [await talk([10] * 6), await talk([-10] * 4), await talk([5, -5, 0, 0, 0, 0, 0, 0, 0])]
    found = figures(talks)
    assert (found.talks, found.success, found.failure, found.turns) == (3, 1, 1, 19)
    assert found.mean.value == pytest.approx((100 + 0 + 40) / 3)
    assert found.mean_change.value == pytest.approx(20 / 19)
    assert found.negative_share.value == pytest.approx(5 / 19)
    assert found.mean.low <= found.mean.value <= found.mean.high


async def test_groups_add_up():
    talks = [await talk([number % 5 - 2] * 9, number) for number in range(1, 25)]
    found = summarize("r", talks)
    for group in (found.by_character, found.by_need, found.by_scenario):
        assert sum(f.talks for f in group.values()) == 24 and sum(f.turns for f in group.values()) == found.all.turns
    assert set(found.by_character) == {c.value for c in Character}
    assert sum(found.ends.values()) == 24


async def test_a_profile_without_a_scenario_is_in_no_scenario_row():
    found = summarize("r", [await talk([1] * 9), await talk([1] * 9, scenario=None)])
    assert sum(f.talks for f in found.by_scenario.values()) == 1 and found.all.talks == 2


async def test_a_skill_gets_the_changes_after_its_turns():
    found = summarize("r", [await talk([4, -2, 1, 0, 0, 0, 0, 0, 0])]).by_skill["calming-dread"]
    assert (found.talks, found.turns) == (1, 9)
    assert found.mean_change.value == pytest.approx(3 / 9) and found.negative_share.value == pytest.approx(1 / 9)


async def test_the_risk_rail_is_counted():
    seekers = [0] * 9
    fixed = await talk(seekers, 9, ScriptedAgent(risk="high", rail="fixed", actions=(SAFETY,)))
    silent = await talk(seekers, 1, ScriptedAgent(risk="elevated"))
    checked = await talk(seekers, 2, ScriptedAgent(risk="elevated", rail="check", actions=(SAFETY,)))
    found = summarize("r", [fixed, silent, checked, await talk(seekers, 4)]).risk
    assert (found.hinted, found.hinted_read, found.unhinted, found.unhinted_read) == (1, 1, 3, 2)
    assert (found.high_turns, found.high_fixed) == (10, 10)
    assert (found.elevated_turns, found.elevated_checked, found.checks) == (20, 10, 20)


async def test_after_a_check_the_talk_may_go_on_at_elevated_risk():
    one = await talk([0] * 9)
    rail = (("elevated", "check", True), ("elevated", "none", False), ("elevated", "none", False))
    found = summarize("r", [one._replace(rail=rail)]).risk
    assert (found.elevated_turns, found.elevated_checked, found.checks) == (3, 3, 1)
    late = summarize("r", [one._replace(rail=rail[::-1])]).risk
    assert (late.elevated_turns, late.elevated_checked) == (3, 1)


async def test_cost_is_summed_and_unknown_where_a_price_was():
    one = await talk([0] * 9)
    assert summarize("r", [one, one]).usd == 9.0
    assert summarize("r", [one, one._replace(usd=None)]).usd is None
    assert summarize("r", [one._replace(tokens=0, usd=None)]).tokens == 0


def test_the_interval_of_a_mean_holds_it_in_most_samples():
    rng, held = random.Random(5), 0
    for _ in range(60):
        found = mean([rng.gauss(3, 2) for _ in range(40)])
        held += found.low <= 3 <= found.high
    assert 50 <= held <= 60


def test_a_ratio_keeps_the_rows_of_a_talk_together():
    found = ratio([9.0, 0.0], [9.0, 1.0])
    assert found.value == 0.9 and found.low == 0.0 and found.high == 1.0
    assert ratio([0.0], [0.0]) == (0, 0, 0)


def brute(differences: list[int]) -> float:
    seen, sums = abs(sum(differences)), [0]
    for d in differences:
        sums = [s + sign * d for s in sums for sign in (1, -1)]
    return sum(abs(s) >= seen for s in sums) / len(sums)


@pytest.mark.parametrize("differences", [[5], [0, 0], [3, 3, 3, 3], [1, -2, 3, -4, 5], [7, 7, -1, 0, 2, 2, -6, 4]])
def test_the_sign_flip_p_is_the_share_of_all_signs(differences):
    assert sign_flip_p(differences) == pytest.approx(brute(differences))


def test_the_sign_flip_p_is_exact_for_many_differences():
    assert sign_flip_p([1] * 10) == pytest.approx(2 / 1024)
    assert sign_flip_p([1, -1] * 250) == pytest.approx(1.0)
    assert sign_flip_p([40] * 60 + [-40] * 440) < 1e-60


def test_the_plot_is_drawn_for_any_number_of_talks():
    for talks in ([(40,)], [(40, 50, 45), (40, 30)], [(40, *range(40, 101, 10))] * 3):
        root = ElementTree.fromstring(draw(talks, {"passive & <quiet>": talks}))
        lines = [e for e in root.iter() if e.tag.endswith("polyline")]
        assert len(lines) == 2 and f"{len(talks)} talks" in "".join(root.itertext())


def test_a_talk_that_ended_keeps_its_value_in_the_plot():
    text = draw([(40, 60), (40, 60, 60, 100)], {})
    assert " 80</text>" in text


async def test_a_summary_is_written_beside_its_run_and_is_the_same_again(tmp_path):
    done = await simulate(tmp_path / "a", settings(9), ScriptedRecipe(), profiles(9), LocalEngine())
    found = write_summary(done)
    before = {name: (done.folder / name).read_bytes() for name in (JSON, PAGE, PLOT)}
    assert Summary.model_validate_json(before[JSON]) == found and found.all.talks == 9
    write_summary(done)
    assert before == {name: (done.folder / name).read_bytes() for name in before}
    page = before[PAGE].decode()
    assert tables(found) in page and PLOT in page and "scripted-seeker" in page
    assert [t.path for t in talks_of(done)] == [t.trajectory for t in done.transcripts()]
