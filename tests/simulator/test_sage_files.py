"""Recorded SAGE runs: composed records with one fault each, and the five published files."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from esc_skills.server.__main__ import app
from esc_skills.simulator.emotion import RLVER, moved, state_of
from esc_skills.simulator.needs import NEED_INFO, Character, HiddenNeed
from esc_skills.simulator.sage_files import read_talks, replay
from esc_skills.skills_bank.errors import InputError


def record(*changes: int, id: str = "a1", tail: bool = True, **more: Any) -> dict[str, Any]:
    """Compose a record as published; `tail` adds the supporter reply that is never scored."""
    points = 40
    history: list[dict[str, Any]] = [{"role": "user", "content": "It rains in.", "emotion-point": points}]
    for change in changes:
        points = moved(points, change)
        history.append({"role": "assistant", "content": "Tell me."})
        history.append(
            {
                "role": "user",
                "content": "Still raining.",
                "thinking": f"now {state_of(points).recorded}",
                "emotion-point": points,
                "planning": {"change": change, "analyse": "fine"},
            }
        )
    if tail:
        history.append({"role": "assistant", "content": "And now?"})
    return {
        "id": id,
        "task": f"({NEED_INFO[HiddenNeed.DEEP_EMPATHY].chinese})",
        "character": "回避型",
        "emo_point": points,
        "emo_state": state_of(points).recorded,
        "history": history,
    } | more


def write(path: Path, *records: Any) -> Path:
    lines = [entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False) for entry in records]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


NINE = (5, -5, 10, -10, 5, 5, -5, 10, 5)


def test_a_sound_record_replays_without_deviation(tmp_path: Path):
    found = replay(write(tmp_path / "run.jsonl", record(*NINE), record(*[10] * 6, id="a2", tail=False)))
    assert found.deviations == () and found.skipped == ()
    assert found.ends == {"rounds": 1, "success": 1}
    assert (found.figures.talks, found.figures.success, found.figures.failure) == (2, 1, 0)
    assert found.figures.mean == (60 + 100) / 2
    assert found.figures.turns == 15 and found.figures.negative_share == 3 / 15
    assert list(found.by_need) == [HiddenNeed.DEEP_EMPATHY] and list(found.by_character) == [Character.AVOIDANT]
    assert found.turns_with_state == 15


def test_figures_come_from_the_replayed_values_not_from_the_recorded_ones(tmp_path: Path):
    wrong = record(*NINE, emo_point=99)
    assert replay(write(tmp_path / "run.jsonl", wrong)).figures.mean == 60


def broken(change: dict[str, Any], where: int) -> dict[str, Any]:
    entry = record(*NINE)
    entry["history"][where] |= change
    return entry


@pytest.mark.parametrize(
    ("entry", "what", "reason"),
    [
        (record(*NINE, emo_point=61), "emo_point 61", "last scored turn has 60"),
        (record(*NINE, emo_state="Emotion-A"), "emo_state Emotion-A", "60 is Emotion-B"),
        (broken({"emotion-point": 35}, 0), "starts at 35", "sage starts at 40"),
        (broken({"planning": {"change": 25}}, 6), "change +25", "beyond ±10"),
        (broken({"thinking": "now Emotion-F"}, 4), "thinking names Emotion-F", "40 is Emotion-B"),
        (record(5, 5), "stops after 3 replies", "cut off"),
        (record(*[10] * 7), "the talk goes on", "over by success"),
        (record(*[-10] * 6), "the talk goes on", "over by failure"),
        (record(*NINE, 5), "11 supporter replies", "allows 10"),
    ],
)
def test_a_fault_is_named_with_its_reason(tmp_path: Path, entry: dict[str, Any], what: str, reason: str):
    found = replay(write(tmp_path / "run.jsonl", entry)).deviations
    assert any(what in d.what and reason in d.reason and d.talk == "a1" for d in found), found


def test_one_wrong_value_is_named_where_it_stands_and_where_the_talk_comes_back(tmp_path: Path):
    found = replay(write(tmp_path / "run.jsonl", broken({"emotion-point": 43, "thinking": ""}, 2))).deviations
    assert [(d.message, d.what) for d in found] == [(3, "emo_point 43"), (5, "emo_point 40")]


def test_a_goodbye_ends_a_talk_early_without_deviation(tmp_path: Path):
    entry = record(5, 5, tail=False)
    entry["history"][-1]["content"] = "就这样，拜拜。"
    found = replay(write(tmp_path / "run.jsonl", entry))
    assert found.deviations == () and found.ends == {"goodbye": 1}


def test_odd_forms_are_listed_and_are_no_deviation(tmp_path: Path):
    entry = record(*NINE)
    entry["history"][1]["think"] = "aside"
    entry["history"][2]["planning"]["analyse"] = "fine\nChange:\n+5"
    found = replay(write(tmp_path / "run.jsonl", entry))
    assert found.deviations == ()
    assert found.oddities == {
        "assistant messages carry 'think'": ("a1",),
        "parts of the appraisal run into each other": ("a1",),
    }


def test_other_rules_show_as_deviations(tmp_path: Path):
    found = replay(write(tmp_path / "run.jsonl", record(*NINE)), RLVER)
    assert any(d.reason == "rlver starts at 30" for d in found.deviations)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "a JSON list"),
        (record(*NINE, task="weather"), "No single hidden need"),
        (record(*NINE, character="cheerful"), "No character is named 'cheerful'"),
        (record(*NINE, emo_point="60"), "field 'emo_point' is missing or no int"),
        (record(*NINE, history=[]), "'history' is empty"),
        (broken({"role": "assistant"}, 2), "message 3 is not one of role 'user'"),
        (broken({"planning": {"change": "+5"}}, 2), "message 3: field 'change'"),
        (record(*NINE, id="good"), "stands in the file twice"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_and_left_out(tmp_path: Path, entry: Any, reason: str):
    talks, skipped = read_talks(write(tmp_path / "run.jsonl", record(*NINE, id="good"), entry))
    assert [talk.id for talk in talks] == ["good"]
    assert len(skipped) == 1 and skipped[0].where == "run.jsonl, line 2" and reason in skipped[0].reason


def test_no_file_and_no_talk_are_errors(tmp_path: Path):
    with pytest.raises(InputError, match="No recorded SAGE file"):
        read_talks(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r"holds no recorded SAGE talk.*line 1: not JSON"):
        read_talks(write(tmp_path / "run.jsonl", "{"))


def test_the_command_exits_1_on_a_deviation_and_0_without(tmp_path: Path):
    good, bad = write(tmp_path / "good.jsonl", record(*NINE)), write(tmp_path / "bad.jsonl", record(5))
    right = CliRunner().invoke(app, ["sage", "score", str(good)])
    wrong = CliRunner().invoke(app, ["sage", "score", str(good), str(bad)])
    assert right.exit_code == 0 and "60.00" in right.output
    assert wrong.exit_code == 1 and "a1: stops after 2 replies" in wrong.output
    both = CliRunner().invoke(app, ["sage", "score", str(good), str(bad), "--json"])
    assert [entry["file"] for entry in json.loads(both.output)] == ["good.jsonl", "bad.jsonl"]


TABLE = [
    ("deepseek-v3-seeker__gpt-4.1", 68.15, 35, 13, 848, 3.32, 0.27),
    ("deepseek-v3-seeker__claude3.7", 54.8, 19, 24, 823, 1.80, 0.38),
    ("deepseek-v3-seeker__qwen2.5-72b", 19.1, 4, 70, 641, -3.26, 0.71),
    ("gpt-4o-seeker__gpt-4o-0806", 52.13, 14, 18, 861, 1.41, 0.44),
    ("gpt-4o-seeker__llama3.3-70b", 49.43, 15, 25, 856, 1.10, 0.47),
]
"""Mean, Success and Failure as in reference/esc.md; turns, mean change and negative share counted from the files."""


@pytest.mark.parametrize(("name", "mean", "success", "failure", "turns", "change", "negative"), TABLE)
def test_the_published_files_replay_exactly(
    shared_dir: Path, name: str, mean: float, success: int, failure: int, turns: int, change: float, negative: float
):
    found = replay(shared_dir / "data" / "sage" / f"{name}.jsonl")
    figures = found.figures
    assert (figures.talks, figures.mean, figures.success, figures.failure) == (100, mean, success, failure)
    assert (figures.turns, round(figures.mean_change, 2), round(figures.negative_share, 2)) == (turns, change, negative)
    assert figures.zero_share <= 0.004
    assert found.deviations == () and found.skipped == ()
    assert found.turns_with_state > 90
