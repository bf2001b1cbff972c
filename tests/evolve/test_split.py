"""Profiles in three parts: whole situations, all scenarios, the same for the same seed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import profile, profiles
from pydantic import ValidationError

from esc_skills.evolve.split import LEAST, Split, situation_of, split_profiles
from esc_skills.simulator.profiles import Person, ProfileSet, Scene, load_profiles
from esc_skills.skills_bank.errors import InputError

SHIPPED = load_profiles("evolution")


def parts(split: Split) -> tuple[tuple[str, ...], ...]:
    return split.propose, split.verify, split.sealed


def test_the_shipped_profiles_are_split_by_situation_with_every_scenario_in_every_part():
    split = split_profiles(SHIPPED, 7)
    by_id = {p.id: p for p in SHIPPED.profiles}
    situations = [{situation_of(by_id[id]) for id in part} for part in parts(split)]
    assert not situations[0] & situations[1] and not situations[0] & situations[2] and not situations[1] & situations[2]
    assert [len({by_id[id].scenario for id in part}) for part in parts(split)] == [18, 18, 18]
    shares = [len(part) / 500 for part in parts(split)]
    assert shares == pytest.approx([0.50, 0.35, 0.15], abs=0.04)


def test_the_same_seed_gives_the_same_split_in_whatever_order_and_another_seed_another():
    split = split_profiles(SHIPPED, 7)
    turned = split_profiles(ProfileSet(name="turned", profiles=SHIPPED.profiles[::-1]), 7)
    assert turned.hashes() == split.hashes()
    other = split_profiles(SHIPPED, 8)
    assert all(other.hashes()[part] != split.hashes()[part] for part in ("propose", "verify", "sealed"))


def test_parts_of_equal_ids_have_different_hashes():
    assert len(set(Split(seed=1, propose=(), verify=(), sealed=()).hashes().values())) == 3


def test_profiles_without_a_situation_are_split_one_by_one():
    plain = [
        profile(i, scenario=None, scene=Scene(text="Told whole."), person=Person(name="U", age=30, gender="man"))
        for i in range(200)
    ]
    split = split_profiles(ProfileSet(name="foreign", profiles=tuple(plain)), 3)
    assert [len(part) for part in parts(split)] == [100, 70, 30]


def test_too_few_profiles_are_refused_with_the_number_that_is_needed():
    with pytest.raises(InputError, match=f"holds 29 profiles; an evolution needs {LEAST}"):
        split_profiles(profiles(29), 7)


def test_profiles_that_share_two_situations_are_refused():
    two = tuple(profile(i, scene=Scene(id=f"situation-{i % 2}")) for i in range(40))
    with pytest.raises(InputError, match="fewer than 3 situations"):
        split_profiles(ProfileSet(name="two", profiles=two), 7)


def test_a_profile_in_two_parts_is_refused():
    with pytest.raises(ValidationError, match="two parts"):
        Split(seed=1, propose=("a",), verify=("a",), sealed=())


@settings(max_examples=15, deadline=None)
@given(
    places=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), min_size=LEAST, max_size=80), seed=st.integers()
)
def test_whatever_the_situations_no_part_is_empty_and_nobody_is_lost(places: list[tuple[int, int]], seed: int):
    from esc_skills.skills_bank.taxonomy import Scenario

    some = tuple(
        profile(i, scene=Scene(id=f"s{situation}-{scenario}"), scenario=list(Scenario)[scenario])
        for i, (situation, scenario) in enumerate(places)
    )
    if len({p.scene.id for p in some}) < 3:
        return
    split = split_profiles(ProfileSet(name="any", profiles=some), seed)
    assert all(parts(split))
    assert sorted(id for part in parts(split) for id in part) == sorted(p.id for p in some)
    owner = {id: number for number, part in enumerate(parts(split)) for id in part}
    for situation in {p.scene.id for p in some}:
        assert len({owner[p.id] for p in some if p.scene.id == situation}) == 1
