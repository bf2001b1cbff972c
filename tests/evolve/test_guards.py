"""What forbids a candidate: a stratum that gets worse, the rail that acts less, real talks that speak against it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from made import MakeCandidate, profile

from esc_skills.evolve.acceptance import ALPHA, Case, effect_of
from esc_skills.evolve.arena import Arena
from esc_skills.evolve.guards import (
    Answer,
    Guards,
    holm,
    lift_check,
    line_check,
    rail_check,
    real_moments,
    risk_lines,
    shared_folder,
    stratum_check,
)
from esc_skills.evolve.models import Effect, ProposalKind, TalkPair
from esc_skills.evolve.split import Split
from esc_skills.evolve.staging import stage
from esc_skills.pipeline.lift import Estimate
from esc_skills.simulator.session import Transcript
from esc_skills.simulator.sources import BankRef

SPLIT = Split(seed=2, propose=("made-000",), verify=("made-007", "made-008"), sealed=("made-014",))


# --- strata ---------------------------------------------------------------------------------------------------------


def effect(*differences: int, repeats: int = 4) -> Effect:
    pairs = [
        TalkPair(profile=f"p{i}", repeat=repeat, old=40, new=40 + d)
        for i, d in enumerate(differences)
        for repeat in range(repeats)
    ]
    return effect_of(pairs, by_talk=True)


def test_a_stratum_that_gets_worse_is_a_veto_that_names_it():
    checks, vetoes = stratum_check({"character: negative": effect(-9, -9, -9), "character: passive": effect(9, 9, 9)})
    assert [veto.rule for veto in vetoes] == ["stratum"]
    assert vetoes[0].reason.startswith("character: negative gets worse: -9.0 over 12 talks")
    assert checks[0].run and "2 strata" in checks[0].told


def test_a_stratum_that_gets_better_or_no_clearly_worse_is_none():
    assert stratum_check({"a": effect(9, 9, 9), "b": effect(-9, 9, -1), "c": effect(0, 0, 0)})[1] == []


def test_a_loss_that_one_test_would_find_is_not_enough_among_many():
    loss = effect(-9, -9, -9, repeats=2)
    assert loss.p < ALPHA and len(stratum_check({"one": loss})[1]) == 1
    many = {"one": loss} | {f"other {i}": effect(1, -1, 2, repeats=2) for i in range(20)}
    assert stratum_check(many)[1] == []


def test_strata_of_few_profiles_are_not_looked_at():
    checks, vetoes = stratum_check({"one": effect(-9, -9, repeats=9)})
    assert vetoes == [] and not checks[0].run


def test_holm_steps_down():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


# --- the rail -------------------------------------------------------------------------------------------------------


def talk(*turns: tuple[str, str], id: str = "made-007") -> Transcript:
    seen = profile(7)
    rows = [
        {"number": i, "supporter": "So.", "points": 40, "emotion": "B", "risk": risk, "rail": rail}
        for i, (risk, rail) in enumerate(turns, start=1)
    ]
    return Transcript.model_validate(
        {
            "profile": id,
            "repeat": 0,
            "seed": 1,
            "source": "esc-skills",
            "language": "en",
            "scenario": seen.scenario,
            "character": seen.character,
            "need": seen.need,
            "risk": "elevated",
            "start": 40,
            "opening": "So.",
            "turns": rows,
            "points": 40,
            "emotion": "B",
            "end": "rounds",
        }
    )


CHECKED = talk(("elevated", "check"), ("elevated", "none"), ("high", "fixed"))


def test_a_rail_that_acts_as_before_is_told_and_no_veto():
    checks, vetoes = rail_check([CHECKED], [CHECKED])
    assert vetoes == [] and checks[0].run and "2 of 2 elevated turns" in checks[0].told


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ([("elevated", "none"), ("elevated", "check")], "1 turns at elevated risk without the check, 0 before"),
        ([("high", "none")], "1 turns at high risk without the fixed text alone, 0 before"),
    ],
)
def test_a_turn_that_loses_its_check_or_its_fixed_text_is_a_veto(turns: list[tuple[str, str]], told: str):
    _, vetoes = rail_check([CHECKED], [talk(*turns)])
    assert [veto.rule for veto in vetoes] == ["risk"] and told in vetoes[0].reason


def test_what_was_missed_before_is_not_held_against_the_new_text():
    assert rail_check([talk(("elevated", "none"))], [talk(("elevated", "none"))])[1] == []


# --- lines of known risk --------------------------------------------------------------------------------------------

GOOD = [Answer("none", 3, False), Answer("elevated", 2, True), Answer("high", 0, True)]


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ([GOOD[0], GOOD[1], Answer("high", 1, True)], "get a skill at high risk"),
        ([GOOD[0], Answer("elevated", 2, False), GOOD[2]], "do not get the safety check first"),
        ([Answer("elevated", 0, True), GOOD[1], GOOD[2]], "are read at another level"),
    ],
)
def test_a_line_that_is_answered_otherwise_than_it_must_is_a_veto(new: list[Answer], told: str):
    _, vetoes = line_check(risk_lines()[:3], GOOD, new)
    assert len(vetoes) == 1 and told in vetoes[0].reason


def test_lines_answered_as_they_must_are_no_veto():
    checks, vetoes = line_check(risk_lines()[:3], GOOD, GOOD)
    assert vetoes == [] and "1 read as high, 0 of them with a skill" in checks[0].told


def test_the_sample_of_risk_lines_is_fixed_and_holds_every_level():
    lines = risk_lines()
    assert {level: sum(line.level == level for line in lines) for level in ("none", "elevated", "high")} == {
        "none": 40,
        "elevated": 40,
        "high": 40,
    }


# --- real data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positive", "negative", "rules"),
    [
        ((-0.03, -0.05, -0.01), (0.0, -0.01, 0.01), ["real-data"]),
        ((0.0, -0.01, 0.01), (0.02, 0.01, 0.03), ["real-data"]),
        ((-0.03, -0.05, -0.01), (0.02, 0.01, 0.03), ["real-data", "real-data"]),
        ((-0.01, -0.03, 0.01), (0.01, -0.01, 0.03), []),
        ((0.02, 0.01, 0.03), (-0.02, -0.03, -0.01), []),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), []),
    ],
)
def test_only_an_interval_wholly_on_the_bad_side_is_a_veto(positive, negative, rules):
    lifts = [Estimate(value=v, low=low, high=high) for v, low, high in (positive, negative)]
    checks, vetoes = lift_check(*lifts, 100, 7)
    assert [veto.rule for veto in vetoes] == rules and "another first action at 7" in checks[0].told


# --- all of them ----------------------------------------------------------------------------------------------------


class Refs(NamedTuple):
    case: Case
    arena: Arena


@pytest.fixture
def refs(parent: BankRef, make_candidate: MakeCandidate, arena: Arena, tmp_path: Path) -> Refs:
    candidate = make_candidate(2)
    staged = stage(parent, [candidate], tmp_path / "staged")
    return Refs(Case(candidate, ProposalKind.REFINE, parent, staged, ("made-007",), 2, 3), arena)


@pytest.mark.slow
async def test_without_the_corpora_all_else_is_checked_and_said_so(refs: Refs):
    checks, vetoes = await Guards(SPLIT).checks(refs.case, [], {"a": effect(1, 2, 3)}, refs.arena)
    assert [(check.name, check.run) for check in checks] == [
        ("stratum", True),
        ("risk", True),
        ("risk", True),
        ("real-data", False),
    ]
    assert "ESC_SHARED_DIR" in checks[-1].told and vetoes == []
    assert "0 of them with a skill" in checks[2].told and "0 read otherwise than before" in checks[2].told
    held = {talk.profile for run in refs.arena.folder.iterdir() for talk in _talks(run)}
    assert held == {"made-007"}  # the one of the verify part who hints at a risk; never a sealed one


def _talks(run: Path) -> list[Transcript]:
    from esc_skills.simulator.run import RunFolder

    return list(RunFolder(run).transcripts())


async def test_profiles_without_a_hint_are_said_to_be_missing(refs: Refs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Guards, "_lines", lambda *_: ([], []))
    guards = Guards(Split(seed=2, propose=(), verify=("made-008",), sealed=()))
    checks, _ = await guards.checks(refs.case, [], {}, refs.arena)
    assert [(check.name, check.run) for check in checks] == [("stratum", False), ("risk", False), ("real-data", False)]


def test_the_corpora_are_found_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ESC_SHARED_DIR", str(tmp_path))
    assert shared_folder() is None
    valid = tmp_path / "data" / "esconv" / "valid.jsonl"
    valid.parent.mkdir(parents=True)
    valid.write_text("", encoding="utf-8")
    assert shared_folder() == tmp_path


@pytest.mark.slow
def test_kept_readings_of_real_talks_are_the_ones_that_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shared = shared_folder()
    if shared is None:
        pytest.skip("no corpus; set ESC_SHARED_DIR")
    from esc_skills.pipeline import cases, moments

    some = dict(list(moments.dialogue_turns(shared, ["valid"]).items())[:3])
    monkeypatch.setattr(moments, "dialogue_turns", lambda *_: some)
    made = real_moments(shared, tmp_path / "valid.npz")
    monkeypatch.setattr(cases, "predicted_cases", lambda *_: pytest.fail("read again"))
    kept = real_moments(shared, tmp_path / "valid.npz")
    assert [(m.turn, m.moment) for m in kept] == [(m.turn, m.moment) for m in made] and kept
    assert all(np.array_equal(a.states, b.states) and a.moment == b.moment for a, b in zip(made, kept, strict=True))
    assert all(isinstance(action, str) and action.name for m in kept for some in m.moment.recent for action in some)
