"""The stream every annotator keeps: order, bounded look-ahead, failures in their place; the streaming reader."""

import asyncio
import json
from pathlib import Path

import pytest

from esc_skills.pipeline.annotator import in_order, split_of, stream
from esc_skills.pipeline.corpus import CorpusReader, Dialogue, Utterance, iter_corpus
from esc_skills.pipeline.labels import OTHER_SPLIT, DialogueLabels, write_labels
from esc_skills.pipeline.units import units
from esc_skills.skills_bank.errors import CorpusError


def dialogue(name: str = "own-1", *, source: str = "other", split: str = "chats") -> Dialogue:
    lines = (Utterance(speaker="seeker", content="I am worn out."), Utterance(speaker="supporter", content="I see."))
    return Dialogue.model_validate({"id": name, "source": source, "split": split, "utterances": lines})


async def numbers(count: int, read: list[int] | None = None):
    for i in range(count):
        if read is not None:
            read.append(i)
        yield i


async def test_results_come_in_order_though_the_first_takes_longest():
    async def work(i: int) -> int:
        await asyncio.sleep(0.02 if i == 0 else 0)
        return i

    assert [i async for i in in_order(numbers(6), work, 3)] == list(range(6))


async def test_no_more_is_read_than_is_at_work():
    read: list[int] = []

    async def work(i: int) -> int:
        return i

    found = in_order(numbers(100, read), work, 4)
    assert await anext(found) == 0
    assert read == [0, 1, 2, 3]
    await found.aclose()


async def test_leaving_early_cancels_what_is_still_at_work():
    cancelled: list[int] = []

    async def work(i: int) -> int:
        if i == 0:
            return i
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(i)
            raise
        return i

    found = in_order(numbers(3), work, 3)
    assert await anext(found) == 0
    await asyncio.sleep(0)
    await found.aclose()
    assert cancelled == [1, 2]


async def test_an_error_let_out_ends_the_stream_after_the_results_before_it():
    async def work(i: int) -> int:
        if i == 2:
            raise CorpusError("stop")
        return i

    found: list[int] = []
    with pytest.raises(CorpusError, match="stop"):
        async for i in in_order(numbers(9), work, 4):
            found.append(i)
    assert found == [0, 1]


async def test_stream_hands_on_a_plain_iterable():
    assert [d.id async for d in stream([dialogue("a"), dialogue("b")])] == ["a", "b"]


@pytest.mark.parametrize(
    ("source", "split", "expected"),
    [
        ("ESConv", "valid", "valid"),
        ("FailedESConv", "failed", "failed"),
        ("other", "chats", "chats"),
        ("other", "train", OTHER_SPLIT),
        ("ESConv", "chats", OTHER_SPLIT),
    ],
)
def test_labels_never_claim_a_source_the_dialogue_is_not_from(source: str, split: str, expected: str):
    assert split_of(dialogue(source=source, split=split)) == expected


def test_units_of_a_foreign_corpus_say_so(make_labels):
    labels: DialogueLabels = make_labels(
        "hopelessness", "open_exploration", "increased_hope", "calm_or_hopeful", split="chats"
    )
    (unit,) = units([labels], {"chats"})
    assert (unit.source, unit.split) == ("other", "chats")
    assert units([labels]) == []  # the build's own splits do not hold it


def test_foreign_labels_do_not_pass_into_the_shipped_file(make_labels, tmp_path: Path):
    labels = make_labels("hopelessness", "open_exploration", "increased_hope", "calm_or_hopeful", split="chats")
    with pytest.raises(CorpusError, match="chats"):
        write_labels([labels], tmp_path / "labels.parquet")


def record(i: int, **more: object) -> str:
    lines = [{"speaker": "seeker", "content": "I am worn out."}, {"speaker": "supporter", "content": "I see."}]
    return json.dumps({"id": f"d{i}", "dialog": lines} | more)


def test_a_file_of_lines_is_read_one_dialogue_at_a_time(tmp_path: Path):
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(record(i) for i in range(3)) + "\n", encoding="utf-8")
    found = iter_corpus(path)
    assert next(found).id == "d0"
    with path.open("a", encoding="utf-8") as file:  # seen, since the file's end was not read yet
        file.write(record(3) + "\n")
    assert [d.id for d in found] == ["d1", "d2", "d3"]


def test_the_reader_counts_what_it_leaves_out_while_it_streams(tmp_path: Path):
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join([record(0), "{broken", record(0), record(1)]), encoding="utf-8")
    reader = CorpusReader()
    assert [d.id for d in reader.read(path)] == ["d0", "d1"]
    assert [s.reason for s in reader.skipped] == ["not an object", "an id that was read before"]


def test_a_file_without_a_usable_dialogue_is_an_error_at_its_end(tmp_path: Path):
    path = tmp_path / "chats.jsonl"
    path.write_text("{broken\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="no dialogue corpus"):
        list(iter_corpus(path))


@pytest.mark.parametrize("name", ["chats.jsonl", "my_train.jsonl", "chats.json"])
def test_somebodys_own_dialogues_do_not_pass_for_esconv(tmp_path: Path, name: str):
    path = tmp_path / name
    lines = json.loads(record(0, id=None))
    path.write_text(json.dumps([lines] if name.endswith(".json") else lines), encoding="utf-8")
    (found,) = iter_corpus(path)
    assert (found.id, found.source) == (f"{path.stem}-0000", "other")


def test_a_line_separator_within_a_message_does_not_end_the_line(tmp_path: Path):
    path = tmp_path / "chats.jsonl"
    text = json.dumps({"id": "d", "dialog": json.loads(record(0))["dialog"]}, ensure_ascii=False)
    path.write_text(text.replace("worn out", "worn\u2028out"), encoding="utf-8")
    (found,) = iter_corpus(path)
    assert "worn" in found.utterances[0].content
