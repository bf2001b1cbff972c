"""The library of phrases: complete, without repeats, our own, and free of what a program cannot claim."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from esc_skills.pipeline.corpus import read_corpus
from esc_skills.pipeline.overlap import copied, corpus_runs
from esc_skills.pipeline.phrasebook import MIN_REPLIES, NEGATIVE, Cell, Never, Phrasebook, load_phrases, read_phrases
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.taxonomy import ResponseChange, Scenario, SeekerState, SupportAction, is_key

FOLDER = Path(__file__).parents[2] / "pipeline" / "phrases"
MIN_SEEKER_LINES = 8
MOST_WORDS = 50
INVENTED_LIFE = re.compile(
    r"\b(when I was|I once|I used to|happened to me|my (own )?(wife|husband|mother|father|mum|dad|boss|children))\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def book() -> Phrasebook:
    return load_phrases()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "phrases"))


def cells(book: Phrasebook) -> list[tuple[SupportAction, SeekerState, Cell]]:
    return [(a, s, c) for a, p in book.actions.items() for s, c in p.cells.items() if isinstance(c, Cell)]


def test_every_action_in_every_state_has_its_phrases_or_says_why_not(book: Phrasebook):
    assert set(book.actions) == set(SupportAction)
    assert all(set(phrases.cells) == set(SeekerState) for phrases in book.actions.values())
    senseless = {(a, s) for a, p in book.actions.items() for s, c in p.cells.items() if isinstance(c, Never)}
    assert senseless == {
        (SupportAction.COGNITIVE_REFRAMING, SeekerState.WITHDRAWAL),
        (SupportAction.COLLABORATIVE_PLANNING, SeekerState.WITHDRAWAL),
    }


@pytest.mark.parametrize("state", SeekerState)
def test_each_state_has_seeker_lines_enough(book: Phrasebook, state: SeekerState):
    moments = [cell.seeker for _, s, cell in cells(book) if s == state]
    phrases = book.states[state]
    assert len({*phrases.early.lines, *phrases.late.lines}) >= MIN_SEEKER_LINES
    assert len(set(moments)) >= len(SupportAction) - 2
    assert len({cell.scenario for _, s, cell in cells(book) if s == state}) >= 4, "varied life situations"


def test_every_scenario_has_moments(book: Phrasebook):
    assert {cell.scenario for _, _, cell in cells(book)} == set(Scenario)


@pytest.mark.parametrize("change", ResponseChange)
def test_each_change_has_replies_enough(book: Phrasebook, change: ResponseChange):
    assert len(set(book.changes[change].replies)) >= MIN_REPLIES
    shown = [c for _, _, cell in cells(book) for c in (cell.change, cell.harm)]
    assert (change in shown) == is_key(change), "examples show every change that counts, and no other"


def test_each_action_goes_wrong_in_each_way(book: Phrasebook):
    for phrases in book.actions.values():
        assert list(phrases.pitfalls) == list(NEGATIVE)


def test_no_line_stands_twice(book: Phrasebook):
    counts = Counter(" ".join(re.findall(r"[\w']+", line.lower())) for _, line in book.lines())
    assert [line for line, n in counts.items() if n > 1] == []


def test_advice_is_written_for_each_cell_alone(book: Phrasebook):
    for field in ("how", "why", "wrong"):
        texts = Counter(getattr(cell, field) for _, _, cell in cells(book))
        assert [text for text, n in texts.items() if n > 1] == []


def test_supporter_turns_are_short(book: Phrasebook):
    long = [line for place, line in book.lines() if place.endswith(("say", "also")) and len(line.split()) > MOST_WORDS]
    assert long == []


def test_no_line_to_say_tells_of_a_life_that_a_program_does_not_have(book: Phrasebook):
    told = [line for _, _, cell in cells(book) for line in (cell.say, cell.also) if INVENTED_LIFE.search(line)]
    assert told == []


def test_no_cliche_and_no_dashes(book: Phrasebook):
    text = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.yaml"))
    assert len(re.findall(r"\bI hear you\b", text)) <= 1
    assert "—" not in text and "–" not in text


def test_version_follows_the_text(folder: Path, book: Phrasebook):
    assert read_phrases(folder).version == book.version
    path = folder / "actions" / "restatement.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("Saying it back", "Giving it back", 1), encoding="utf-8")
    assert read_phrases(folder).version != book.version


def edit(path: Path, change) -> None:
    data = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    change(data)
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("actions/restatement.yaml", lambda d: d["cells"].pop("withdrawal"), "restatement: cells lack withdrawal"),
        ("actions/restatement.yaml", lambda d: d["cells"]["withdrawal"].pop("also"), r"withdrawal.*also"),
        ("actions/restatement.yaml", lambda d: d["cells"]["withdrawal"].update(change="topic_shift"), "neutral"),
        ("actions/restatement.yaml", lambda d: d["cells"]["withdrawal"].update(say="all 3 of them"), "say"),
        ("actions/restatement.yaml", lambda d: d["pitfalls"].pop("increased_confusion"), "lack increased_confusion"),
        ("states.yaml", lambda d: d.pop("resistance"), "states lack resistance"),
        ("scenarios.yaml", lambda d: d.pop("loneliness"), "scenarios lack loneliness"),
        ("changes.yaml", lambda d: d["topic_shift"]["replies"].pop(), "topic_shift.replies"),
    ],
)
def test_a_gap_is_named(folder: Path, file: str, change, told: str):
    edit(folder / file, change)
    with pytest.raises(InputError, match=told):
        read_phrases(folder)


def test_a_missing_file_is_named(folder: Path):
    (folder / "actions" / "summarizing.yaml").unlink()
    with pytest.raises(InputError, match="actions lack summarizing"):
        read_phrases(folder)
    (folder / "states.yaml").unlink()
    with pytest.raises(InputError, match=r"states\.yaml cannot be read"):
        read_phrases(folder)


def test_a_bare_no_is_a_line(folder: Path):
    edit(folder / "actions" / "restatement.yaml", lambda d: d["cells"]["withdrawal"].update(answer="no"))
    cell = read_phrases(folder).cell(SeekerState.WITHDRAWAL, SupportAction.RESTATEMENT)
    assert cell is not None and cell.answer == "no"


@pytest.mark.slow
def test_no_run_of_eight_words_is_the_corpuss(shared_dir: Path):
    corpus = corpus_runs(
        turn.content
        for split in ("train", "valid", "failed")
        for dialogue in read_corpus(shared_dir / "data" / "esconv" / f"{split}.jsonl").dialogues
        for turn in dialogue.turns()
    )
    hits = {path.name: copied(path.read_text(encoding="utf-8"), corpus) for path in sorted(FOLDER.rglob("*.yaml"))}
    assert {name: found for name, found in hits.items() if found} == {}
