"""The annotator without a model: labels in the shape `units` reads, the same whoever reads beside it."""

from pathlib import Path

import numpy as np
import pytest

from esc_skills.pipeline.annotator import NotAnnotated, stream
from esc_skills.pipeline.annotator_eval import Judged, compare, ratings, through_pipeline
from esc_skills.pipeline.change_model import CHANGES, WIDTH, ChangeModel
from esc_skills.pipeline.corpus import Dialogue, Utterance, read_corpus
from esc_skills.pipeline.labels import DialogueLabels, load_labels
from esc_skills.pipeline.local_annotator import (
    ACTIONS,
    CARD_FILE,
    MODEL_FILE,
    SCENARIOS,
    LocalAnnotator,
    LocalCard,
    chosen_actions,
    chosen_scenarios,
    data_folder,
    probe,
)
from esc_skills.pipeline.local_fit import best_other, best_thresholds, mean_places, put
from esc_skills.pipeline.units import units
from esc_skills.skills_bank.encoder import Encoder
from esc_skills.skills_bank.errors import ModelError
from esc_skills.skills_bank.fake_encoder import FakeEncoder
from esc_skills.skills_bank.risk import RiskDesk
from esc_skills.skills_bank.taxonomy import SupportAction

TALK = [
    ("seeker", "I am so worried about the exam,"),
    ("seeker", "I cannot stop shaking."),
    ("supporter", "That makes sense, anyone would be afraid. What frightens you most?"),
    ("seeker", "I want to kill myself when I think of failing."),
    ("supporter", "I am glad you told me. Are you safe right now?"),
    ("seeker", "Thank you, I feel calmer now and I will call my sister."),
    ("supporter", "Take care, bye!"),
]


def talk(name: str = "own-1", lines=TALK) -> Dialogue:
    said = tuple(Utterance.model_validate({"speaker": s, "content": c}) for s, c in lines)
    return Dialogue(id=name, source="other", split="chats", utterances=said)


def card(**more) -> LocalCard:
    even = dict.fromkeys(SupportAction, 0.5)
    told = {"encoder": "fake", "change_model": "0" * 64, "thresholds": even, "places": even, "other_scenarios": 0.2}
    return LocalCard.model_validate(told | {"probe": probe(FakeEncoder())} | more)


def annotator(encoder=None, workers: int = 2, **more) -> LocalAnnotator:
    weights = np.random.default_rng(0).normal(0, 0.1, (WIDTH, len(CHANGES)))
    model = ChangeModel(weights, np.zeros(len(CHANGES)))
    return LocalAnnotator(encoder or FakeEncoder(), RiskDesk.load(), model, card(**more), workers=workers)


async def labels_of(it: LocalAnnotator, *dialogues: Dialogue) -> list:
    return [found async for found in it.annotate(stream(dialogues))]


async def test_turns_carry_what_their_speaker_calls_for():
    (labels,) = await labels_of(annotator(), talk())
    assert isinstance(labels, DialogueLabels)
    assert [t.utterances for t in labels.turns] == [(0, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)]
    for turn in labels.turns:
        seeker = turn.speaker == "seeker"
        assert (turn.state is not None) == seeker
        assert bool(turn.actions) == (not seeker) and len(turn.actions) <= 3
    assert [t.change is not None for t in labels.turns] == [False, True, False, True, False, False]
    found = units([labels], {"chats"})
    assert {u.turn for u in found} == {2, 4}


async def test_danger_is_flagged_in_the_turn_that_tells_it():
    (labels,) = await labels_of(annotator(), talk())
    assert [t.turn for t in labels.turns if "self_harm" in t.flags] == [3]


async def test_labels_do_not_depend_on_neighbours_or_workers():
    one, other = (
        talk("a"),
        talk("b", [("seeker", "Hello!"), ("supporter", "Hi, welcome."), ("seeker", "My friends left.")]),
    )
    alone = await labels_of(annotator(workers=1), one)
    beside = await labels_of(annotator(workers=3), other, one, talk("c"))
    assert beside[1] == alone[0]
    assert [b.id for b in beside] == ["b", "a", "c"]


async def test_a_dialogue_that_breaks_the_reader_is_recorded_and_the_rest_goes_on():
    class Broken(FakeEncoder):
        def read(self, turns):
            if any("unreadable" in turn.content for turn in turns):
                raise RuntimeError("unreadable words of a seeker")
            return super().read(turns)

    broken = talk("bad", [("seeker", "unreadable"), ("supporter", "Hi.")])
    found = await labels_of(annotator(Broken()), talk("a"), broken, talk("b"))
    assert [type(f) for f in found] == [DialogueLabels, NotAnnotated, DialogueLabels]
    assert found[1] == NotAnnotated(dialogue="bad", reason="could not be read (RuntimeError)")


async def test_a_turn_without_words_and_one_without_end_are_labelled():
    odd = talk("odd", [("seeker", "\x00\x01"), ("supporter", "Hi."), ("seeker", "so worried " * 5000)])
    (labels,) = await labels_of(annotator(), odd)
    assert isinstance(labels, DialogueLabels)


def test_actions_are_those_over_their_threshold_the_likeliest_where_none_is():
    thresholds = np.full(len(ACTIONS), 0.5)
    chances = np.zeros(len(ACTIONS))
    chances[[1, 4, 6, 8]] = [0.6, 0.9, 0.7, 0.8]
    assert chosen_actions(chances, thresholds) == [4, 8, 6]
    assert chosen_actions(chances * 0.5, thresholds) == [4]
    thresholds[1] = 0.2
    assert chosen_actions(chances, thresholds) == [1, 4, 8]


def test_scenarios_are_the_primary_one_and_others_that_are_likely():
    chances = np.zeros(len(SCENARIOS))
    chances[[3, 5, 7, 9]] = [0.4, 0.3, 0.15, 0.15]
    assert chosen_scenarios(chances, 0.25) == (SCENARIOS[3], SCENARIOS[5])
    assert chosen_scenarios(chances, 0.1) == (SCENARIOS[3], SCENARIOS[5], SCENARIOS[7])
    assert chosen_scenarios(chances, 0.9) == (SCENARIOS[3],)


def test_actions_stand_in_the_order_of_their_usual_place():
    places = dict.fromkeys(SupportAction, 0.5) | {ACTIONS[4]: 0.9, ACTIONS[6]: 0.1}
    chances = np.zeros(len(ACTIONS), dtype=np.float32)
    chances[[4, 6]] = [0.9, 0.6]
    assert annotator(places=places)._actions(chances) == (ACTIONS[6], ACTIONS[4])


def test_thresholds_places_and_scenarios_are_fitted_from_labels():
    chances = np.full((40, len(ACTIONS)), 0.01)
    chances[:20, 0] = 0.3
    actions = [(ACTIONS[1], ACTIONS[0])] * 20 + [(ACTIONS[1],)] * 20
    thresholds = best_thresholds(chances, actions)
    assert 0.08 <= thresholds[0] <= 0.3
    places = mean_places(actions)
    assert (places[ACTIONS[1]], places[ACTIONS[0]], places[ACTIONS[2]]) == (0.0, 1.0, 0.5)
    row = np.zeros(len(SCENARIOS))
    row[[0, 1]] = [0.6, 0.4]
    assert best_other([(row, (SCENARIOS[0], SCENARIOS[1]))]) <= 0.4
    assert best_other([(row, (SCENARIOS[0],))]) > 0.4


def write_fitted(folder: Path, **more) -> None:
    import hashlib

    data = ChangeModel(np.zeros((WIDTH, len(CHANGES))), np.zeros(len(CHANGES))).to_bytes()
    put(folder / MODEL_FILE, data)
    told = card(change_model=hashlib.sha256(data).hexdigest(), **more)
    put(folder / CARD_FILE, told.model_dump_json().encode())


def test_an_encoder_that_reads_differently_is_refused(tmp_path: Path):
    write_fitted(tmp_path)
    LocalAnnotator.load(FakeEncoder(), folder=tmp_path)
    write_fitted(tmp_path, probe=tuple(p + 0.2 for p in probe(FakeEncoder())))
    with pytest.raises(ModelError, match="fit change"):
        LocalAnnotator.load(FakeEncoder(), folder=tmp_path)


def test_missing_and_broken_cards_are_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="fit change"):
        LocalAnnotator.load(FakeEncoder(), folder=tmp_path)
    (tmp_path / CARD_FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="no card"):
        LocalAnnotator.load(FakeEncoder(), folder=tmp_path)


def test_an_unmeasured_annotator_says_so(tmp_path: Path):
    write_fitted(tmp_path)
    assert "not measured" in LocalAnnotator.load(FakeEncoder(), folder=tmp_path).about()


def judged(gold: DialogueLabels, local: DialogueLabels, marks: list[int | None], polarity: dict[int, float]) -> Judged:
    said = tuple(
        Utterance(speaker=t.speaker, content="words", feedback=mark) for t, mark in zip(gold.turns, marks, strict=True)
    )
    return Judged(gold, local, Dialogue(id=gold.id, source="ESConv", split="train", utterances=said), polarity)


STEPS = ("hopelessness", "open_exploration", "increased_hope", "calm_or_hopeful", "practical_suggestion",
         "increased_resistance", "resistance")  # fmt: skip


def test_labels_that_are_the_same_agree_wholly(make_labels):
    gold = make_labels(*STEPS)
    found = compare("train", [judged(gold, gold, [3, None, 5, None, 2], {1: 0.9, 3: -0.5})])
    assert (found.state.accuracy, found.change.kappa, found.polarity.macro_f1, found.negative_f1) == (1, 1, 1, 1)
    assert found.actions.same == found.scenarios.same == 1


def test_ratings_pair_each_change_of_rating_with_the_turns_between(make_labels):
    gold = make_labels(*STEPS)
    rated = ratings([judged(gold, gold, [3, None, 5, None, 2], {1: 0.9, 3: -0.5})])
    assert rated is not None
    assert (rated.up, rated.down, rated.auc, rated.auc_of_labels) == (1, 1, 1.0, 1.0)
    against = ratings([judged(gold, gold, [3, None, 5, None, 2], {1: -0.9, 3: 0.5})])
    assert against is not None and against.auc == 0.0
    assert ratings([judged(gold, gold, [3, None, 3, None, 3], {1: 0.9, 3: -0.5})]) is None


def test_the_pipeline_finds_the_same_in_the_same_labels():
    gold = [d for d in load_labels() if d.split == "valid"][:80]
    found = through_pipeline("same", gold, gold)
    assert found.shared == found.prototypes[0] == found.prototypes[1] > 5
    assert (found.outcome, found.lift_positive) == (1.0, 1.0)


@pytest.fixture(scope="module")
def shipped() -> LocalAnnotator:
    return LocalAnnotator.load(Encoder.load(threads=1))


@pytest.mark.slow
def test_the_shipped_annotator_reads_a_composed_talk(shipped: LocalAnnotator):
    labels = shipped.one(talk())
    assert isinstance(labels, DialogueLabels)
    assert next(t.state for t in labels.turns if t.state) == "anxiety_and_fear"
    assert "emotional_validation" in labels.turns[1].actions
    assert labels.turns[-1].actions == ("rapport_and_closing",)
    assert labels.scenarios[0] == "academic_pressure"
    assert "self_harm" in labels.turns[2].flags


@pytest.mark.slow
def test_the_shipped_annotator_states_its_measured_accuracy(shipped: LocalAnnotator):
    told = shipped.about()
    assert "of the seeker states" in told and shipped.name in told
    assert (data_folder() / MODEL_FILE).stat().st_size < 100_000


@pytest.mark.slow
def test_agreement_on_a_few_dialogues_of_the_corpus(shipped: LocalAnnotator, shared_dir: Path):
    gold = {d.id: d for d in load_labels() if d.split == "valid"}
    some = read_corpus(shared_dir / "data" / "esconv" / "valid.jsonl").dialogues[:12]
    pairs = [(gold[d.id], shipped.one(d)) for d in some]
    states = [(a.state, b.state) for g, local in pairs for a, b in zip(g.turns, local.turns, strict=True) if a.state]
    assert sum(a == b for a, b in states) / len(states) > 0.55
