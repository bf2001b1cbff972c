"""The shipped labels rebuild the units; a unit is one action between two seeker turns."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esc_skills.pipeline.labels import (
    SPLITS,
    DialogueLabels,
    load_labels,
    read_annotations,
    shipped_labels_path,
    write_labels,
)
from esc_skills.pipeline.report import count
from esc_skills.pipeline.units import units, units_of
from esc_skills.skills_bank.errors import CorpusError


def test_one_unit_per_action_with_its_surroundings(make_labels):
    dialogue = make_labels(
        "anxiety_and_fear",
        ["emotional_validation", "open_exploration"],
        "increased_openness",
        "self_awareness",
        scenario="sleep_problems",
    )
    first, second = units_of(dialogue)
    assert (first.state, first.action, first.change, first.state_after) == (
        "anxiety_and_fear",
        "emotional_validation",
        "increased_openness",
        "self_awareness",
    )
    assert (first.position, second.position, second.action) == (0, 1, "open_exploration")
    assert (first.dialogue, first.turn, first.source, first.scenario) == ("d1", 2, "ESConv", "sleep_problems")
    assert first.key and first.polarity == "positive"


def test_supporter_turn_at_either_end_yields_no_unit():
    turn = {"speaker": "supporter", "actions": ["rapport_and_closing"]}
    seeker = {"speaker": "seeker", "state": "neutral_narration"}
    numbered = [t | {"turn": i + 1, "utterances": (i, i + 1)} for i, t in enumerate([turn, seeker, turn])]
    labels = {"id": "d1", "split": "train", "scenarios": ["loneliness"], "turns": numbered}
    assert units_of(DialogueLabels.model_validate(labels)) == []


def test_only_the_chosen_splits_are_used(make_labels):
    steps = ("withdrawal", "restatement", "no_observable_change", "withdrawal")
    labels = [make_labels(*steps, name=split, split=split) for split in SPLITS]
    assert [u.dialogue for u in units(labels)] == ["train", "failed"]
    assert [(u.dialogue, u.source) for u in units(labels, ["valid", "failed"])] == [
        ("valid", "ESConv"),
        ("failed", "FailedESConv"),
    ]


def test_shipped_labels_give_the_reference_counts():
    counts = count(units())
    assert counts.model_dump() == {
        "units": 17554, "key": 11022, "positive": 9151, "negative": 1871, "prototypes": 217,
    }  # fmt: skip


def test_shipped_labels_hold_no_text():
    table = pq.read_table(shipped_labels_path())
    texts = [f.name for f in table.schema if not pa.types.is_integer(f.type)]
    assert texts == ["dialogue"]
    assert all(name.as_py().startswith("esconv-") for name in table.column("dialogue").unique())
    assert shipped_labels_path().stat().st_size < 200_000


def test_shipped_labels_equal_the_annotations(shared_dir: Path):
    assert list(load_labels()) == read_annotations(shared_dir / "data" / "annotations")


def test_labels_survive_the_parquet_file(tmp_path: Path, make_labels):
    one = make_labels("resistance", ["restatement"], "topic_shift", "help_seeking", name="x", split="failed")
    flagged = one.turns[0].model_copy(update={"flags": ("self_harm", "harm_or_abuse")})
    two = one.model_copy(update={"id": "y", "scenarios": one.scenarios * 3, "turns": (flagged, *one.turns[1:])})
    write_labels([one, two], tmp_path / "labels.parquet")
    assert load_labels(tmp_path / "labels.parquet") == (one, two)


def test_codes_are_read_by_the_files_own_lists(tmp_path: Path, make_labels):
    """A file written under another order of the taxonomy still says what it said."""
    labels = make_labels("resistance", "restatement", "topic_shift", "help_seeking")
    write_labels([labels], tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    state = table.schema.get_field_index("state")
    meta = (table.schema.metadata or {})[b"esc_codes"].decode()
    turned = (
        meta.replace('"resistance"', '"?"').replace('"help_seeking"', '"resistance"').replace('"?"', '"help_seeking"')
    )
    table = table.replace_schema_metadata({"esc_codes": turned})
    pq.write_table(table, tmp_path / "b.parquet")
    assert state >= 0
    assert [t.state for t in load_labels(tmp_path / "b.parquet")[0].turns] == ["help_seeking", None, "resistance"]


def test_absent_labels_name_the_command(tmp_path: Path):
    with pytest.raises(CorpusError, match="esc-skills build units"):
        load_labels(tmp_path / "none.parquet")


def test_file_that_is_no_labels_file_is_an_error(tmp_path: Path):
    (tmp_path / "text.parquet").write_text("not parquet", encoding="utf-8")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    for name in ("text", "other"):
        with pytest.raises(CorpusError, match="is no labels file"):
            load_labels(tmp_path / f"{name}.parquet")


def test_broken_annotation_names_file_and_line(tmp_path: Path):
    for split in SPLITS:
        (tmp_path / f"{split}.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "train.jsonl").write_text('{"id": "a", "scenarios": ["no_such"], "turns": []}\n', encoding="utf-8")
    with pytest.raises(CorpusError, match=r"train\.jsonl, line 1"):
        read_annotations(tmp_path)
    (tmp_path / "valid.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"valid\.jsonl"):
        read_annotations(tmp_path, ["valid"])
