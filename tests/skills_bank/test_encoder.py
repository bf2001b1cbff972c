"""The shipped encoder: its checks, its shapes, and that a turn reads the same in company as alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from esc_skills.skills_bank import encoder as module
from esc_skills.skills_bank.encoder import RISK_OUTPUTS, Encoder, Limits, Speller, Turn
from esc_skills.skills_bank.errors import ModelError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction

MODEL = Path(module.__file__).parent / "model"

TURNS = [
    Turn("seeker", "I am so scared of the results next week, what if it is bad?", (("supporter", "How are you?"),)),
    Turn("supporter", "What has this week been like for you?", (("seeker", "Hi"), ("supporter", "Hi there"))),
    Turn("seeker", "ok"),
    Turn("seeker", "He took the credit for all my shifts again and I am furious. " * 12),
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


@pytest.fixture
def speller() -> Speller:
    return Speller.from_file(MODEL / "tokenizer.json", Limits())


def test_reading_has_one_row_per_turn_and_one_column_per_label(encoder: Encoder) -> None:
    reading = encoder.read(TURNS)
    widths = {"embedding": 384, "states": 15, "actions": 17, "scenarios": 18, "risk": len(RISK_OUTPUTS)}
    assert {name: getattr(reading, name).shape for name in widths} == {name: (4, n) for name, n in widths.items()}
    assert all(values.dtype == np.float32 for values in reading)


def test_probabilities_are_probabilities_and_embeddings_have_length_one(encoder: Encoder) -> None:
    reading = encoder.read(TURNS)
    assert np.allclose(reading.states.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(reading.scenarios.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(reading.embedding, axis=1), 1, atol=1e-5)
    assert ((reading.risk >= 0) & (reading.risk <= 1)).all()
    assert ((reading.actions >= 0) & (reading.actions <= 1)).all()


def test_no_turns_read_as_no_rows(encoder: Encoder) -> None:
    reading = encoder.read([])
    assert [values.shape for values in reading] == [(0, 384), (0, 15), (0, 17), (0, 18), (0, len(RISK_OUTPUTS))]
    assert encoder.embed([]).shape == (0, 384)


def test_plain_cases_are_read_as_a_person_would(encoder: Encoder) -> None:
    reading = encoder.read(TURNS)
    states, actions = list(SeekerState), list(SupportAction)
    assert states[reading.states[0].argmax()] == SeekerState.ANXIETY_AND_FEAR
    assert states[reading.states[3].argmax()] == SeekerState.ANGER_AND_FRUSTRATION
    assert actions[reading.actions[1].argmax()] == SupportAction.OPEN_EXPLORATION


def test_dialogue_is_read_for_its_scenario_from_the_seekers_lines(encoder: Encoder) -> None:
    said = [("supporter", "Hello"), ("seeker", "My boyfriend of four years left me on Sunday and moved out.")]
    found = encoder.read_dialogue(said)
    assert found.shape == (18,)
    assert list(Scenario)[found.argmax()] == Scenario.ROMANTIC_BREAKUP
    assert np.array_equal(found, encoder.read_dialogue([*said, ("supporter", "Did you fail your exam?")]))


def test_dialogue_without_a_seeker_line_still_gives_a_distribution(encoder: Encoder) -> None:
    assert encoder.read_dialogue([("supporter", "Hello?")]).sum() == pytest.approx(1, abs=1e-5)


def test_reading_twice_gives_the_same_numbers(encoder: Encoder) -> None:
    first, second = encoder.read(TURNS), encoder.read(TURNS)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_turn_reads_alone_as_in_a_batch(encoder: Encoder) -> None:
    # Activations are quantised with one scale a batch, so that company moves a number a little, and no more.
    together = encoder.read(TURNS)
    for i, turn in enumerate(TURNS):
        alone = encoder.read([turn])
        assert np.abs(alone.states[0] - together.states[i]).max() < 0.1
        assert float(alone.embedding[0] @ together.embedding[i]) > 0.97
        assert alone.states[0].argmax() == together.states[i].argmax()


def test_embeddings_of_like_lines_are_nearer_than_of_unlike_ones(encoder: Encoder) -> None:
    rows = encoder.embed(
        ["My dog died last night", "Our old cat passed away yesterday", "The boss cut my hours at work"]
    )
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1


def test_missing_folder_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No encoder at"):
        Encoder.load(tmp_path)


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json"])
def test_altered_file_is_a_model_error_that_names_it(tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(MODEL, tmp_path / "model")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ModelError, match=rf"{name} has sha256"):
        Encoder.load(folder)


def test_card_of_another_taxonomy_is_a_model_error(tmp_path: Path) -> None:
    folder = shutil.copytree(MODEL, tmp_path / "model")
    card = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    card["labels"]["states"] = card["labels"]["states"][::-1]
    (folder / "encoder.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ModelError, match="other states than the taxonomy's"):
        Encoder.load(folder)


def test_shipped_files_stay_under_the_size_limit() -> None:
    assert sum(file.stat().st_size for file in MODEL.iterdir()) <= 46_000_000


def test_long_turn_keeps_its_beginning_and_its_end(speller: Speller) -> None:
    words = " ".join(f"w{i}" for i in range(500))
    (long,) = speller.turns([Turn("seeker", f"first {words} last", (("supporter", f"early {words} late"),))])
    spelled = speller._tokenizer.decode(long.ids, skip_special_tokens=False)
    assert len(long.ids) == 3 + 64 + 1 + 28 + 1
    assert "first" in spelled and "last" in spelled and "late" in spelled and "early" not in spelled


def test_special_tokens_typed_by_a_person_are_text(speller: Speller) -> None:
    (typed,) = speller.turns([Turn("seeker", "[SEP] hello [CLS]")])
    assert typed.ids.count(speller._sep) == 1 and typed.ids.count(speller._cls) == 1


def test_segment_types_tell_the_turn_from_its_context(speller: Speller) -> None:
    (item,) = speller.turns([Turn("seeker", "yes", (("seeker", "Hello"), ("supporter", "Are you safe?")))])
    assert item.types == sorted(item.types) and item.types.count(0) == 4


def test_runs_are_cut_so_that_short_turns_are_not_padded_to_a_long_one() -> None:
    assert module._cuts([10, 10, 10, 80]) == [(0, 3), (3, 4)]
    assert module._cuts([10, 11, 12]) == [(0, 3)]


def test_fake_encoder_has_the_shapes_of_the_real_one() -> None:
    fake = FakeEncoder()
    reading = fake.read(TURNS)
    assert [values.shape for values in reading] == [(4, 384), (4, 15), (4, 17), (4, 18), (4, len(RISK_OUTPUTS))]
    assert fake.read_dialogue([("seeker", "my exam")]).shape == (18,)
    assert list(SeekerState)[reading.states[0].argmax()] == SeekerState.ANXIETY_AND_FEAR
