"""Composition: the same for the same seed, even, coherent, without repeats and without leaks between the splits."""

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from esc_skills.server.__main__ import app
from esc_skills.simulator.compose import SIZES, check, compose, compose_shipped, fits
from esc_skills.simulator.needs import Character, HiddenNeed
from esc_skills.simulator.parts import Parts, load_parts
from esc_skills.simulator.profiles import SPLITS, Profile, ProfileSet, dumped, load_profiles
from esc_skills.simulator.profiles_report import alike, copies, render
from esc_skills.simulator.similarity import overlap, shingles, vectors
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.taxonomy import Scenario


@pytest.fixture(scope="module")
def parts(parts_folder: Path) -> Parts:
    return load_parts(parts_folder)


@pytest.fixture(scope="module")
def evolution(parts: Parts) -> tuple[Profile, ...]:
    return compose(parts, "evolution", 500)


@pytest.fixture(scope="module")
def evaluation(parts: Parts) -> tuple[Profile, ...]:
    return compose(parts, "evaluation", 100)


def spread(values: list[int]) -> int:
    return max(values) - min(values)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(parts: Parts, evolution: tuple[Profile, ...]):
    assert dumped(compose(parts, "evolution", 500)) == dumped(evolution)
    assert dumped(compose(parts, "evolution", 500, seed=8)) != dumped(evolution)


def test_scenarios_situations_characters_and_needs_are_even(evolution: tuple[Profile, ...]):
    assert spread([sum(p.scenario == s for p in evolution) for s in Scenario]) <= 1
    assert spread(list(Counter(p.scene.id for p in evolution).values())) <= 1
    assert spread([sum(p.need == n for p in evolution) for n in HiddenNeed]) <= 1
    assert spread([sum(p.character == c for p in evolution) for c in Character]) <= 3
    cells = Counter((p.need, p.character) for p in evolution)
    assert len(cells) == 24 and spread(list(cells.values())) <= 4
    assert spread(list(Counter(p.person.id for p in evolution).values())) <= 1


def test_each_scenario_meets_every_character(evolution: tuple[Profile, ...]):
    counts = Counter((p.scenario, p.character) for p in evolution)
    assert min(counts[s, c] for s in Scenario for c in Character) >= 7


def test_nothing_repeats(evolution: tuple[Profile, ...], evaluation: tuple[Profile, ...]):
    both = (*evolution, *evaluation)
    assert len({(p.scene.id, p.person.id) for p in both}) == 600
    assert len({(p.scene.id, p.character, p.need) for p in both}) == 600
    assert len({p.id for p in both}) == 600


def test_the_two_sets_share_no_situation_and_no_persona(
    evolution: tuple[Profile, ...], evaluation: tuple[Profile, ...]
):
    assert not {p.scene.id for p in evolution} & {p.scene.id for p in evaluation}
    assert not {p.person.id for p in evolution} & {p.person.id for p in evaluation}


def test_the_first_profiles_cover_all_scenarios(evolution: tuple[Profile, ...]):
    assert {p.scenario for p in evolution[:18]} == set(Scenario)


def test_the_first_line_is_the_characters_own(evolution: tuple[Profile, ...]):
    assert all(f"told {p.character}ly" in (p.first_line or "") for p in evolution)


def test_rules_of_age_and_tags_decide_who_is_chosen(parts: Parts):
    old = tuple(s.model_copy(update={"ages": (50, 80)}) if s.id.endswith("matter-1") else s for s in parts.situations)
    profiles = compose(Parts(old, parts.personas), "evolution", 500)
    assert all(p.person.age >= 50 for p in profiles if p.scene.id.endswith("matter-1"))
    assert not check(profiles, Parts(old, parts.personas))


def test_rare_needs_are_moved_until_they_are_even(parts: Parts):
    """A third of the situations fits three needs only; a greedy choice alone leaves the counts apart."""
    common = (HiddenNeed.TO_BE_HEARD, HiddenNeed.DEEP_EMPATHY, HiddenNeed.PRACTICAL_ADVICE)
    narrow = tuple(
        s.model_copy(update={"fits_needs": common}) if i % 3 == 0 else s for i, s in enumerate(parts.situations)
    )
    profiles = compose(Parts(narrow, parts.personas), "evolution", 500)
    assert spread([sum(p.need == n for p in profiles) for n in HiddenNeed]) <= 1
    assert not check(profiles, Parts(narrow, parts.personas))


def test_more_profiles_than_the_parts_make_is_an_error(parts: Parts):
    few = Parts(parts.situations, parts.personas_of("evolution")[:3])
    with pytest.raises(InputError, match=r"make 324 different profiles, not 500"):
        compose(few, "evolution", 500)
    assert len(compose(few, "evolution", 324)) == 324
    with pytest.raises(InputError, match=r"of the evaluation split make 0 different profiles, not 10"):
        compose(few, "evaluation", 10)
    one = Parts(parts.situations_of("evolution")[:1], parts.personas)
    with pytest.raises(InputError, match=r"make 15 different profiles, not 16"):
        compose(one, "evolution", 16)
    assert len({(p.character, p.need) for p in compose(one, "evolution", 15)}) == 15


def test_a_situation_for_few_people_is_used_less_and_its_scenario_is_not(parts: Parts):
    narrow = tuple(
        s.model_copy(update={"ages": (30, 31)}) if s.id.endswith("matter-2") else s for s in parts.situations
    )
    profiles = compose(Parts(narrow, parts.personas), "evolution", 500)
    people = sum(30 <= p.age <= 31 for p in parts.personas_of("evolution"))
    assert {n for id, n in Counter(p.scene.id for p in profiles).items() if id.endswith("matter-2")} == {people}
    assert spread([sum(p.scenario == s for p in profiles) for s in Scenario]) <= 1


def test_composed_profiles_pass_the_check(
    parts: Parts, evolution: tuple[Profile, ...], evaluation: tuple[Profile, ...]
):
    assert check((*evolution, *evaluation), parts) == []


def test_the_check_names_what_was_tampered_with(parts: Parts, evolution: tuple[Profile, ...]):
    good = evolution[0]
    young = good.model_copy(update={"person": good.person.model_copy(update={"age": 17})})
    assert any("person is not as its parts are written" in fault for fault in check([young], parts))
    unfit = next(n for n in HiddenNeed if n not in {s.id: s for s in parts.situations}[good.scene.id].fits_needs)
    assert any(f"need {unfit} does not fit" in f for f in check([good.model_copy(update={"need": unfit})], parts))
    assert any("both splits" in f for f in check([good, good.model_copy(update={"split": "evaluation"})], parts))
    assert any("the same situation and persona" in f for f in check([good, good.model_copy(update={"id": "x"})], parts))
    other = next(p for p in parts.personas_of("evolution") if p.id != good.person.id and p.age != good.person.age)
    barred = Parts(tuple(s.model_copy(update={"ages": (90, 95)}) for s in parts.situations), parts.personas)
    assert any("is for 90 to 95" in f for f in check([good], barred))
    gone = Parts(parts.situations, (other,))
    assert any("no persona" in f for f in check([good], gone))


def test_compose_command_writes_both_files_and_check_accepts_them(tmp_path: Path, parts_folder: Path):
    run = CliRunner().invoke(app, ["profiles", "compose", "--parts", str(parts_folder), "--out", str(tmp_path)])
    assert run.exit_code == 0, run.output
    names = [str(tmp_path / f"{split}.jsonl") for split in SPLITS]
    assert [len(load_profiles(name).profiles) for name in names] == [500, 100]
    fine = CliRunner().invoke(app, ["profiles", "check", *names, "--parts", str(parts_folder)])
    assert fine.exit_code == 0 and "0 problems" in fine.output
    lines = Path(names[1]).read_text(encoding="utf-8").splitlines()
    spoilt = json.loads(lines[0]) | {"first_line": "Hello there."}
    Path(names[1]).write_text("\n".join([json.dumps(spoilt), *lines[1:], "{"]), encoding="utf-8")
    found = CliRunner().invoke(app, ["profiles", "check", *names, "--parts", str(parts_folder)])
    assert found.exit_code == 1
    assert "evaluation-001: first_line is not as its parts are written" in found.output
    assert "line 101: left out: not JSON" in found.output


def test_compose_command_writes_nothing_from_incomplete_parts(tmp_path: Path, parts_folder: Path):
    folder = tmp_path / "parts"
    (folder / "situations").mkdir(parents=True)
    for file in (*parts_folder.glob("situations/*.yaml"), parts_folder / "personas.yaml"):
        if file.stem != "loneliness":
            (folder / file.relative_to(parts_folder)).write_bytes(file.read_bytes())
    run = CliRunner().invoke(app, ["profiles", "compose", "--parts", str(folder), "--out", str(tmp_path / "out")])
    assert run.exit_code == 1 and not (tmp_path / "out").exists()
    assert "loneliness: 0 of 6 evolution situations" in str(run.exception)


def test_vectors_are_means_over_sentences_and_runs_are_shared_or_not():
    rows = vectors(["A boss. A shift.", "A shift. A boss.", "The sea."], FakeEncoder())
    assert rows[0] @ rows[1] == pytest.approx(1, abs=1e-5) and rows[0] @ rows[2] < 0.9
    one = shingles("the roof has leaked since the first of May")
    assert overlap(one, one) == 1 and overlap(one, shingles("nobody came")) == 0
    assert 0 < overlap(one, shingles("the roof has leaked again")) < 1


def test_a_part_that_copies_another_is_found(parts: Parts):
    first, second, *rest = parts.situations
    twin = second.model_copy(update={"background": first.background + " Again.", "tried": first.tried,
                                     "hurts_most": first.hurts_most, "high": first.high})  # fmt: skip
    found = copies(Parts((first, twin, *rest), parts.personas))
    assert (found[0].one, found[0].other) == (first.id, second.id) and found[0].share > 0.5


def test_the_report_counts_what_is_there(parts: Parts, evolution: tuple[Profile, ...], evaluation: tuple[Profile, ...]):
    sets = (ProfileSet(name="evolution", profiles=evolution), ProfileSet(name="evaluation", profiles=evaluation))
    page = render(sets, parts, FakeEncoder(), "fake")
    assert "| all | 500 | 108 | 50 |" in page and "| all | 100 | 36 | 12 |" in page
    assert "| profiles with the same situation and persona | 0 |" in page
    assert "| situations or personas in both sets | 0 |" in page
    doubled = (sets[0], ProfileSet(name="evaluation", profiles=(*evaluation, *evaluation)))
    assert "| profiles with the same situation and persona | 100 |" in render(doubled, parts, FakeEncoder(), "fake")
    rows = {row.what: row for row in alike(parts, sets, FakeEncoder())}
    assert rows["profiles"].n == 600 and rows["situations: evaluation to evolution"].n == 36
    assert rows["profiles of another situation"].most <= rows["profiles"].most
    a, b = rows["profiles: evaluation to evolution"].pair
    assert a.startswith("evaluation") and b.startswith("evolution")
    assert all(row.any_two <= row.median <= row.most <= 1 + 1e-5 for row in rows.values())


def test_the_shipped_profiles_are_what_the_parts_give():
    parts = load_parts()
    sets = [load_profiles(split) for split in SPLITS]
    assert [len(one.profiles) for one in sets] == [500, 100] == list(SIZES.values())
    assert all(one.skipped == () for one in sets)
    assert check([p for one in sets for p in one.profiles], parts) == []
    assert [one.digest for one in compose_shipped(parts)] == [one.digest for one in sets]


def test_the_shipped_profiles_are_balanced():
    for name in SPLITS:
        profiles = load_profiles(name).profiles
        assert spread([sum(p.scenario == s for p in profiles) for s in Scenario]) <= 1
        assert spread([sum(p.need == n for p in profiles) for n in HiddenNeed]) <= 1
        assert spread([sum(p.character == c for p in profiles) for c in Character]) <= 3
        assert any(p.risk for p in profiles)


def test_fits_is_the_rule_the_shipped_profiles_follow():
    parts = load_parts()
    situations, personas = {s.id: s for s in parts.situations}, {p.id: p for p in parts.personas}
    for name in SPLITS:
        for p in load_profiles(name).profiles:
            assert fits(situations[p.scene.id], personas[p.person.id])
