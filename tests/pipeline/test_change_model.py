"""The change model: features of three turns, a regression applied in numpy, a file with a checksum."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from esc_skills.pipeline.change_model import (
    CHANGES,
    POLARITIES,
    WIDTH,
    ChangeModel,
    change_features,
    decide,
    fit_change,
    interventions,
    polarity_chances,
)
from esc_skills.pipeline.corpus import Dialogue, Utterance
from esc_skills.pipeline.reading import DialogueReading, read_whole
from esc_skills.skills_bank.errors import ModelError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.taxonomy import ResponseChange

LINES = [
    ("supporter", "Hello there."),
    ("seeker", "I am worried about the talk tomorrow."),
    ("supporter", "That makes sense. What worries you most?"),
    ("seeker", "Thanks, it feels lighter to say it."),
    ("supporter", "Take care."),
]


def read(lines=LINES) -> DialogueReading:
    said = tuple(Utterance.model_validate({"speaker": s, "content": c}) for s, c in lines)
    return read_whole(FakeEncoder(), Dialogue(id="d", source="other", split="chats", utterances=said))


def some_model(seed: int = 0) -> ChangeModel:
    rng = np.random.default_rng(seed)
    return ChangeModel(rng.normal(0, 0.1, (WIDTH, len(CHANGES))), np.zeros(len(CHANGES)))


def test_only_supporter_turns_between_two_seeker_turns_are_interventions():
    assert interventions(read()) == [2]
    assert interventions(read(LINES[1:3])) == []


def test_features_speak_of_the_three_turns_alone():
    row = change_features(read(), [2])
    assert row.shape == (1, WIDTH)
    other_end = [*LINES[:4], ("supporter", "Something else altogether, at some length.")]
    assert np.array_equal(row, change_features(read(other_end), [2]))
    other_after = [*LINES[:3], ("seeker", "Whatever."), LINES[4]]
    assert not np.array_equal(row, change_features(read(other_after), [2]))
    assert change_features(read(), []).shape == (0, WIDTH)


def test_saved_weights_give_the_same_chances_and_bytes(tmp_path: Path):
    model = some_model()
    data = model.to_bytes()
    assert data == model.to_bytes()
    path = tmp_path / "change_model.npz"
    path.write_bytes(data)
    again = ChangeModel.load(path, hashlib.sha256(data).hexdigest())
    features = change_features(read(), [2])
    chances = model.chances(features)
    assert chances.sum() == pytest.approx(1.0)
    assert again.chances(features) == pytest.approx(chances, abs=1e-5)


def test_a_changed_or_missing_file_is_refused_with_the_fix(tmp_path: Path):
    data = some_model().to_bytes()
    path = tmp_path / "change_model.npz"
    with pytest.raises(ModelError, match="fit change"):
        ChangeModel.load(path, hashlib.sha256(data).hexdigest())
    path.write_bytes(data[:-1] + b"x")
    with pytest.raises(ModelError, match="expected"):
        ChangeModel.load(path, hashlib.sha256(data).hexdigest())


def test_weights_of_another_shape_are_refused():
    with pytest.raises(ModelError, match="shape"):
        ChangeModel(np.zeros((3, len(CHANGES))), np.zeros(len(CHANGES)))


def test_the_polarity_is_decided_before_the_change():
    chances = np.zeros((1, len(CHANGES)))
    at = {change: i for i, change in enumerate(CHANGES)}
    chances[0, at[ResponseChange.NO_OBSERVABLE_CHANGE]] = 0.4
    chances[0, at[ResponseChange.INCREASED_HOPE]] = 0.35
    chances[0, at[ResponseChange.READINESS_TO_ACT]] = 0.25
    assert decide(chances) == [ResponseChange.INCREASED_HOPE]
    assert dict(zip(POLARITIES, polarity_chances(chances)[0], strict=True)) == pytest.approx(
        {"positive": 0.6, "negative": 0.0, "neutral": 0.4}
    )


def test_the_fit_learns_what_the_features_tell_and_never_gives_an_unseen_change():
    rng = np.random.default_rng(1)
    changes = np.array([0, 3] * 60)
    features = rng.normal(0, 1, (120, WIDTH))
    features[:, 5] += np.where(changes == 0, 4.0, -4.0)
    model = fit_change(features, changes, strength=1.0)
    chances = model.chances(features)
    assert (chances.argmax(axis=1) == changes).mean() > 0.95
    assert chances[:, [i for i in range(len(CHANGES)) if i not in (0, 3)]].max() < 1e-6
