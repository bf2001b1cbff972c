"""The response model: smoothing, what is fitted, what wears out."""

import json

import numpy as np
import pytest

from esc_skills.pipeline.labels import DialogueLabels, TurnLabels
from esc_skills.simulator.response import (
    ACTIONS,
    CHANGES,
    STATES,
    ResponseModel,
    fit_response,
    fit_wear,
    sameness,
    smoothed,
    tilted,
)
from esc_skills.skills_bank.errors import ModelError
from esc_skills.skills_bank.taxonomy import ResponseChange, SeekerState, SupportAction

SAD, CALM = SeekerState.SADNESS_AND_GRIEF, SeekerState.CALM_OR_HOPEFUL
ADVICE, ASKS = SupportAction.PRACTICAL_SUGGESTION, SupportAction.OPEN_EXPLORATION
RELIEF, RESISTS = ResponseChange.EMOTIONAL_RELIEF, ResponseChange.INCREASED_RESISTANCE


def talk(id: str, replies: list[tuple[SupportAction, ResponseChange]], state: SeekerState = SAD) -> DialogueLabels:
    turns = [TurnLabels(turn=1, speaker="seeker", utterances=(0, 1), state=state)]
    for action, change in replies:
        n = len(turns)
        turns.append(
            TurnLabels(turn=n + 1, speaker="supporter", utterances=(n, n + 1), actions=(action,), change=change)
        )
        turns.append(TurnLabels(turn=n + 2, speaker="seeker", utterances=(n + 1, n + 2), state=state))
    return DialogueLabels(id=id, split="train", scenarios=("loneliness",), turns=tuple(turns))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def model() -> ResponseModel:
    asked = [talk(f"a{i}", [(ASKS, RELIEF)] * 2 + [(ADVICE, RESISTS)]) for i in range(30)]
    return fit_response(asked, "composed")


def test_each_row_is_a_distribution_and_nothing_is_impossible(model: ResponseModel):
    for table in (model.change_table, model.next_table):
        assert np.allclose(table.sum(axis=-1), 1)
        assert (table > 0).all()


def test_a_cell_never_seen_falls_back_to_its_action(model: ResponseModel):
    asks = model.change_chances(CALM, {ASKS: 1.0})
    advises = model.change_chances(CALM, {ADVICE: 1.0})
    assert asks[CHANGES.index(RELIEF)] > 0.7
    assert advises[CHANGES.index(RESISTS)] > 0.7


def test_an_action_never_seen_falls_back_to_all(model: ResponseModel):
    never = model.change_chances(SAD, {SupportAction.SUMMARIZING: 1.0})
    assert never[CHANGES.index(RELIEF)] == pytest.approx(2 / 3, abs=0.02)


def test_more_counts_draw_a_cell_further_from_its_action():
    counts = np.zeros((2, 1, 2))
    counts[0, 0] = [40, 0]
    counts[1, 0] = [0, 4]
    table = smoothed(counts, 10.0)
    assert table[0, 0, 0] > 0.95
    assert 0.3 < table[1, 0, 0] < 0.75  # four counts against ten of the action's


def test_several_actions_are_a_mixture_by_weight(model: ResponseModel):
    mixed = model.change_chances(SAD, {ASKS: 0.5, ADVICE: 0.5})
    alone = [model.change_chances(SAD, {action: 1.0}) for action in (ASKS, ADVICE)]
    assert np.allclose(mixed, sum(alone) / 2)


def test_sameness_begins_above_the_usual_share_and_after_three_replies():
    assert sameness([ADVICE], [{ADVICE}, {ADVICE}]) == 0
    assert sameness([ADVICE], [{ADVICE}, {ADVICE}, {ADVICE}]) == 1
    assert sameness([ADVICE], [{ADVICE}, {ASKS}, {ASKS}, {ASKS}]) == 0
    assert sameness([], [{ADVICE}] * 3) == 0
    assert 0 < sameness([ADVICE, ASKS], [{ADVICE}, {ADVICE}, {ADVICE}]) < 1


def test_wear_is_found_where_repeated_advice_is_resisted():
    fresh = [talk(f"f{i}", [(a, RELIEF) for a in (ADVICE, ASKS, SupportAction.NORMALIZATION, SupportAction.RESTATEMENT,
                                                   ADVICE)]) for i in range(20)]  # fmt: skip
    worn = [talk(f"w{i}", [(ADVICE, RELIEF)] * 3 + [(ADVICE, RESISTS)] * 3) for i in range(20)]
    both = [*fresh, *worn]
    fitted = fit_response(both, "composed")
    assert fitted.wear < -0.5
    assert fit_wear(fitted, fresh)[0] <= 0


def test_wear_makes_what_is_repeated_worse(model: ResponseModel):
    tired = model.model_copy(update={"wear": -1.0})
    good = CHANGES.index(RELIEF)
    assert tired.change_chances(SAD, {ASKS: 1.0}, 1.0)[good] < tired.change_chances(SAD, {ASKS: 1.0})[good]


def test_a_tilt_moves_odds_by_its_exponent():
    even = np.full((1, len(CHANGES)), 1 / len(CHANGES))
    moved = tilted(even, np.array([1.0]))[0]
    good, none = CHANGES.index(RELIEF), CHANGES.index(ResponseChange.NO_OBSERVABLE_CHANGE)
    assert moved[good] / moved[none] == pytest.approx(np.e)
    assert moved[CHANGES.index(RESISTS)] / moved[none] == pytest.approx(1 / np.e)


def test_a_model_survives_its_file(model: ResponseModel, tmp_path):
    (tmp_path / "r.json").write_text(model.model_dump_json(), encoding="utf-8")
    again = ResponseModel.load(tmp_path / "r.json")
    assert np.array_equal(again.change_table, model.change_table)


@pytest.mark.parametrize("spoil", ["missing", "row", "format"])
def test_a_file_that_is_no_model_is_named(model: ResponseModel, tmp_path, spoil: str):
    path = tmp_path / "response.json"
    raw = json.loads(model.model_dump_json())
    if spoil == "row":
        raw["first_states"] = [1, 2]
    if spoil == "format":
        raw["format"] = 9
    if spoil != "missing":
        path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(ModelError, match="simulator"):
        ResponseModel.load(path)


def test_no_units_is_an_error():
    with pytest.raises(ValueError, match="No intervention unit"):
        fit_response([], "nothing")


def test_the_shipped_model_is_that_of_the_shipped_labels():
    from esc_skills.pipeline.units import units

    shipped = ResponseModel.load()
    assert shipped.units == len(units())
    assert len(shipped.first_states) == len(STATES)
    assert set(shipped.changes) <= set(STATES)
    assert {action for row in shipped.changes.values() for action in row} == set(ACTIONS)
