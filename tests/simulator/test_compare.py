"""Two runs, talk by talk."""

import sys
from pathlib import Path

import pytest

from esc_skills.simulator.compare import compare, contrast, page, paired
from esc_skills.simulator.engine import LocalEngine
from esc_skills.simulator.run import PARTIAL, simulate
from esc_skills.simulator.summary import talks_of
from esc_skills.skills_bank.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))
from scripted_cast import ScriptedRecipe, profiles, settings


async def run(folder: Path, n: int = 18, lift: int = 0, **more):
    given = settings(n, **more)
    return await simulate(folder, given, ScriptedRecipe(lift=lift), profiles(min(n, 18)), LocalEngine())


async def test_runs_are_paired_by_profile_and_seed_and_b_is_taken_less_a(tmp_path):
    a, b = await run(tmp_path / "a"), await run(tmp_path / "b", lift=2)
    found = compare(a, b)
    points = [[t.points for t in talks_of(one)] for one in (a, b)]
    assert found.all.talks == 18 and found.all.mean_a == pytest.approx(sum(points[0]) / 18)
    assert found.all.difference.value == pytest.approx(sum(points[1]) / 18 - sum(points[0]) / 18)
    assert found.all.better > found.all.worse and found.all.p < 0.05
    back = compare(b, a).all
    assert back.difference.value == pytest.approx(-found.all.difference.value) and back.p == found.all.p


async def test_common_random_numbers_make_two_equal_agents_equal(tmp_path):
    found = compare(await run(tmp_path / "a"), await run(tmp_path / "b", agent_name="another name"))
    assert found.all.difference == (0, 0, 0) and found.all.p == 1 and (found.all.better, found.all.worse) == (0, 0)


async def test_strata_add_up_and_stand_in_the_page(tmp_path):
    found = compare(await run(tmp_path / "a"), await run(tmp_path / "b", lift=1))
    for strata in found.strata.values():
        assert sum(c.talks for c in strata.values()) == 18
    assert set(found.strata) == {"character", "hidden need", "scenario", "risk hint"}
    text = page(found)
    assert "| character: passive |" in text and found.a in text and "not corrected" in text


async def test_other_seeds_profiles_or_numbers_are_no_pairs(tmp_path):
    a = await run(tmp_path / "a")
    with pytest.raises(InputError, match="have no partner"):
        compare(a, await run(tmp_path / "b", seed=8))
    with pytest.raises(InputError, match="other profiles"):
        compare(a, await run(tmp_path / "c", 9))


async def test_a_run_that_is_not_complete_is_not_compared(tmp_path):
    a, b = await run(tmp_path / "a"), await run(tmp_path / "b")
    (b.folder / "transcripts.jsonl").rename(b.folder / PARTIAL)
    with pytest.raises(InputError, match="not complete"):
        compare(a, b)


async def test_repeats_of_a_profile_are_one_pair(tmp_path):
    a = await simulate(tmp_path / "a", settings(12), ScriptedRecipe(), profiles(4), LocalEngine())
    b = await simulate(tmp_path / "b", settings(12), ScriptedRecipe(lift=1), profiles(4), LocalEngine())
    found = contrast(paired(talks_of(a), talks_of(b)))
    assert (found.profiles, found.talks) == (4, 12) and found.better + found.worse <= 4
    assert found.p >= 2 / 2**4
