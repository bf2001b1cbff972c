"""Every known form of ESConv is read to the same dialogues; what is broken is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from esc_skills.pipeline.corpus import Dialogue, misfits, read_corpus
from esc_skills.pipeline.labels import load_labels
from esc_skills.skills_bank.errors import CorpusError

LINES = [
    ("seeker", "My shift plan changed again.", None),
    ("seeker", "I am worn out.", None),
    ("supporter", "That sounds like a lot at once.", "Reflection of feelings"),
    ("seeker", "It is.", None),
]


def ours(**more: Any) -> dict[str, Any]:
    dialog = [{"speaker": s, "content": c} | ({"strategy": t} if t else {}) for s, c, t in LINES]
    return {"id": "own-1", "source": "ESConv", "split": "train", "situation": "work", "dialog": dialog} | more


def original(roles: dict[str, str]) -> dict[str, Any]:
    dialog = [
        {"speaker": roles[s], "annotation": {"strategy": t} if t else {"feedback": "4"}, "content": c + "\n"}
        for s, c, t in LINES
    ]
    return {"situation": "work", "problem_type": "job crisis", "emotion_type": "sadness", "dialog": dialog}


def hugging_face() -> dict[str, Any]:
    roles = {"seeker": "usr", "supporter": "sys"}
    dialog = [{"text": c, "speaker": roles[s]} | ({"strategy": t} if t else {}) for s, c, t in LINES]
    return {"situation": "work", "dialog": dialog}


def write(path: Path, records: list[Any], *, whole: bool = False) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text(json.dumps(records) if whole else "\n".join(lines), encoding="utf-8")
    return path


def said(dialogue: Dialogue) -> list[tuple[str, str, str | None]]:
    return [(u.speaker, u.content, u.strategy) for u in dialogue.utterances]


def test_our_jsonl_is_read_with_its_own_id(tmp_path: Path):
    corpus = read_corpus(write(tmp_path / "train.jsonl", [ours()]))
    assert corpus.forms == {"train.jsonl": "jsonl"}
    assert corpus.dialogues[0].id == "own-1"
    assert said(corpus.dialogues[0]) == LINES


def test_original_file_numbers_dialogues_as_the_labels_do(tmp_path: Path):
    records = [original({"seeker": "seeker", "supporter": "supporter"})] * 2
    corpus = read_corpus(write(tmp_path / "ESConv.json", records, whole=True))
    splits = {d.id: d.split for d in load_labels()}
    assert [d.id for d in corpus.dialogues] == ["esconv-0000", "esconv-0001"]
    assert [d.split for d in corpus.dialogues] == [splits.get(d.id, "test") for d in corpus.dialogues]
    assert said(corpus.dialogues[0]) == LINES
    assert [u.feedback for u in corpus.dialogues[0].utterances] == [4, 4, None, 4]


def test_failed_file_with_speaker_and_listener_is_read(tmp_path: Path):
    records = [original({"seeker": "speaker", "supporter": "listener"})]
    dialogue = read_corpus(write(tmp_path / "FailedESConv.json", records, whole=True)).dialogues[0]
    assert (dialogue.id, dialogue.source, dialogue.split) == ("esconv-failed-000", "FailedESConv", "failed")
    assert said(dialogue) == LINES


def test_hugging_face_lines_take_the_ids_of_their_split(tmp_path: Path):
    train = [d.id for d in load_labels() if d.split == "train"]
    corpus = read_corpus(write(tmp_path / "train.txt", [hugging_face()] * 2))
    assert corpus.forms == {"train.txt": "hugging-face"}
    assert [d.id for d in corpus.dialogues] == train[:2]
    assert said(corpus.dialogues[0]) == LINES


def test_hugging_face_test_split_has_no_labels_and_ids_of_its_own(tmp_path: Path):
    corpus = read_corpus(write(tmp_path / "test.txt", [hugging_face()]))
    assert (corpus.dialogues[0].id, corpus.dialogues[0].split) == ("test-0000", "test")


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("Questions", "Question"),
        ("Other", "Others"),
        ("Approval and Reassurance", "Affirmation and Reassurance"),
        ("Direct Guidance", "Providing Suggestions"),
        ("Restatement", "Restatement or Paraphrasing"),
        ("self-disclosure", "Self-disclosure"),
        (" Reflection  of Feelings", "Reflection of feelings"),
    ],
)
def test_strategy_variant_is_brought_to_the_name_of_esconv(tmp_path: Path, variant: str, name: str):
    record = ours()
    record["dialog"][2]["strategy"] = variant
    corpus = read_corpus(write(tmp_path / "train.jsonl", [record]))
    assert corpus.dialogues[0].utterances[2].strategy == name
    assert list(corpus.renamed.values()) == [1]


def broken(**changes: Any) -> dict[str, Any]:
    record = ours(id="broken")
    record["dialog"][2] = {k: v for k, v in (record["dialog"][2] | changes).items() if v is not ...}
    return record


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("{not json", "not an object"),
        ([1, 2], "not an object"),
        (ours(id="broken", dialog="text"), "no list `dialog`"),
        (ours(id="broken", dialog=[]), "no seeker in it"),
        (ours(id="broken", dialog=ours()["dialog"][:2]), "no supporter in it"),
        (ours(id="broken", dialog=["hello"]), "an utterance that is not an object"),
        (broken(speaker="narrator"), "an unknown speaker"),
        (broken(content=...), "an utterance without text"),
        (broken(content=None), "an utterance without text"),
        (broken(strategy="Telepathy"), "an unknown strategy"),
        (ours(), "an id that was read before"),
    ],
)
def test_malformed_dialogue_is_skipped_and_named(tmp_path: Path, record: Any, reason: str):
    corpus = read_corpus(write(tmp_path / "train.jsonl", [ours(), record, ours(id="own-2")]))
    assert [d.id for d in corpus.dialogues] == ["own-1", "own-2"]
    assert [(s.where, s.reason) for s in corpus.skipped] == [("train.jsonl, dialogue 2", reason)]


def test_blank_utterance_is_dropped_and_the_dialogue_kept(tmp_path: Path):
    record = ours()
    record["dialog"].insert(1, {"speaker": "supporter", "content": "  \n"})
    assert said(read_corpus(write(tmp_path / "train.jsonl", [record])).dialogues[0]) == LINES


def test_rating_that_is_none_counts_as_not_given(tmp_path: Path):
    record = ours()
    for item, rating in zip(record["dialog"], ["5", "n/a", "3", 2], strict=True):
        item["feedback"] = rating
    dialogue = read_corpus(write(tmp_path / "train.jsonl", [record])).dialogues[0]
    assert [u.feedback for u in dialogue.utterances] == [5, None, None, 2]


def test_contact_details_are_masked_in_every_field(tmp_path: Path):
    record = ours(situation="mail me at a@b.example.com")
    record["dialog"][0]["content"] = "I am a@b.example.com, 212 555 0100"
    corpus = read_corpus(write(tmp_path / "train.jsonl", [record]))
    assert corpus.scrubbed == {"email": 2, "phone": 1}
    assert "example.com" not in corpus.model_dump_json()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jsonl", ""),
        ("page.json", "<html><body>404</body></html>"),
        ("list.json", "[]"),
        ("numbers.json", "[1, 2, 3]"),
        ("recipe.txt", "two eggs\nsome flour\n"),
    ],
)
def test_file_without_a_dialogue_is_an_error(tmp_path: Path, name: str, content: str):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match="is no dialogue corpus"):
        read_corpus(tmp_path / name)


def test_binary_file_is_an_error(tmp_path: Path):
    (tmp_path / "train.jsonl").write_bytes(b"\x80\x81\xff\x00")
    with pytest.raises(CorpusError, match="no text file"):
        read_corpus(tmp_path / "train.jsonl")


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_path_without_a_corpus_is_an_error(tmp_path: Path, name: str):
    with pytest.raises(CorpusError, match="No corpus at"):
        read_corpus(tmp_path / name)


def test_turns_join_the_utterances_of_a_speaker(tmp_path: Path):
    turns = read_corpus(write(tmp_path / "train.jsonl", [ours()])).dialogues[0].turns()
    assert [(t.number, t.speaker, t.utterances) for t in turns] == [
        (1, "seeker", (0, 2)),
        (2, "supporter", (2, 3)),
        (3, "seeker", (3, 4)),
    ]
    assert turns[0].content == "My shift plan changed again. I am worn out."


def test_labels_that_do_not_fit_the_text_are_named(tmp_path: Path):
    labelled = [d for d in load_labels() if d.split == "train"][:2]
    corpus = read_corpus(write(tmp_path / "train.jsonl", [ours(id=labelled[0].id)]))
    assert [(m.where, m.reason) for m in misfits(labelled, corpus.by_id())] == [
        (labelled[0].id, "turns differ from the labels"),
        (labelled[1].id, "not in the corpus"),
    ]


@pytest.mark.slow
def test_labels_fit_the_whole_shared_corpus(shared_dir: Path):
    corpus = read_corpus(shared_dir / "data" / "esconv")
    assert len(corpus.dialogues) == 1301
    assert corpus.skipped == ()
    assert misfits(load_labels(), corpus.by_id()) == []


@pytest.mark.slow
def test_labels_fit_the_original_and_the_hugging_face_form_of_the_shared_corpus(shared_dir: Path, tmp_path: Path):
    """The same dialogues, written the way the other sources spread them, find their labels by place alone."""
    raw = {
        split: [
            json.loads(x) for x in (shared_dir / f"data/esconv/{split}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for split in ("train", "valid", "failed")
    }
    by_place = {record["esconv_index"]: record for record in raw["train"] + raw["valid"]}
    roles = {"seeker": "seeker", "supporter": "supporter"}

    def turned(record: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
        return {"dialog": [{"speaker": names[u["speaker"]], "content": u["content"] + "\n"} for u in record["dialog"]]}

    whole = [turned(by_place[i], roles) if i in by_place else original(roles) for i in range(1300)]
    failed = [turned(record, {"seeker": "speaker", "supporter": "listener"}) for record in raw["failed"]]
    write(tmp_path / "ESConv.json", whole, whole=True)
    write(tmp_path / "FailedESConv.json", failed, whole=True)
    assert misfits(load_labels(), read_corpus(tmp_path).by_id()) == []

    names = {"seeker": "usr", "supporter": "sys"}
    lines = [
        {"dialog": [{"text": u["content"], "speaker": names[u["speaker"]]} for u in record["dialog"]]}
        for record in raw["train"]
    ]
    train = read_corpus(write(tmp_path / "train.txt", lines)).by_id()
    assert misfits([d for d in load_labels() if d.split == "train"], train) == []
