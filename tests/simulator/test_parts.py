"""Parts: each fault of the schema is named; what ships is complete and our own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from esc_skills.pipeline.corpus import read_corpus
from esc_skills.pipeline.overlap import copied, corpus_runs
from esc_skills.simulator.coherence import misfits, odd_tags, taken_for_granted
from esc_skills.simulator.compose import fits
from esc_skills.simulator.parts import Persona, Situation, load_parts, shortfalls
from esc_skills.simulator.profiles_report import copies
from esc_skills.simulator.tags import Tag
from esc_skills.skills_bank.errors import InputError

MakePart = Callable[..., dict[str, Any]]


def folder_of(tmp_path: Path, situations: list[dict[str, Any]], personas: list[dict[str, Any]]) -> Path:
    (tmp_path / "situations").mkdir()
    (tmp_path / "situations" / "workplace_stress.yaml").write_text(yaml.safe_dump(situations), encoding="utf-8")
    (tmp_path / "personas.yaml").write_text(yaml.safe_dump(personas), encoding="utf-8")
    return tmp_path


def situation(make: MakePart, **more: Any) -> Situation:
    return Situation.model_validate(make(**more) | {"scenario": "workplace_stress"})


def persona(make: MakePart, **more: Any) -> Persona:
    return Persona.model_validate(make(**more))


def test_a_complete_folder_is_read_without_shortfalls(parts_folder: Path):
    parts = load_parts(parts_folder)
    assert (len(parts.situations), len(parts.personas)) == (144, 62)
    assert shortfalls(parts) == []
    assert len(parts.situations_of("evaluation")) == 36


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"id": "loneliness-x"}, "does not begin with the scenario of its file"),
        ({"id": "Night Shift"}, "String should match pattern"),
        ({"split": "test"}, "Input should be 'evolution' or 'evaluation'"),
        ({"fits_needs": ["to_be_heard", "no_fault"]}, "at least 3 items"),
        ({"fits_needs": ["to_be_heard", "no_fault", "no_fault"]}, "a need stands in it twice"),
        ({"fits_needs": ["to_be_heard", "no_fault", "a_hug"]}, "fits_needs.2"),
        ({"first": {"negative": "No.", "passive": "Hm."}}, "no opening for avoidant"),
        ({"ages": [40, 30]}, "no range within"),
        ({"needs_tags": ["wealthy"]}, "needs_tags.0"),
        ({"needs_tags": ["works"], "bars_tags": ["works"]}, "works needed and barred at once"),
        ({"risk": "high"}, "Input should be 'elevated'"),
        ({"background": "Short."}, "at least 120 characters"),
        ({"mood": "low"}, "Extra inputs are not permitted"),
    ],
)
def test_a_fault_of_a_situation_is_named(
    tmp_path: Path, make_situation: MakePart, make_persona: MakePart, more: dict[str, Any], fault: str
):
    folder = folder_of(tmp_path, [make_situation() | more], [make_persona()])
    with pytest.raises(InputError) as caught:
        load_parts(folder)
    assert fault in str(caught.value) and "workplace_stress.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"age": 16, "tags": ["retired"]}, "retired at 16"),
        ({"tags": ["works", "unemployed"]}, "unemployed and works at once"),
        ({"age": 30, "tags": ["young_children"]}, "young_children without children"),
        ({"age": 17, "tags": ["divorced"]}, "divorced at 17"),
        ({"traits": ["dry"]}, "at least 3 items"),
        ({"gender": "female"}, "gender"),
        ({"age": 9}, "greater than or equal to 12"),
    ],
)
def test_a_fault_of_a_persona_is_named(
    tmp_path: Path, make_situation: MakePart, make_persona: MakePart, more: dict[str, Any], fault: str
):
    folder = folder_of(tmp_path, [make_situation()], [make_persona() | more])
    with pytest.raises(InputError) as caught:
        load_parts(folder)
    assert fault in str(caught.value) and "personas.yaml, persona-1" in str(caught.value)


def test_all_faults_are_named_at_once(tmp_path: Path, make_situation: MakePart, make_persona: MakePart):
    folder = folder_of(
        tmp_path, [make_situation() | {"risk": "high", "split": "x"}], [make_persona(), make_persona(), {"id": "p"}]
    )
    (folder / "situations" / "weather.yaml").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_parts(folder)
    for fault in ("risk", "split", "id 'persona-1' stands 2 times", "weather.yaml: no scenario", "speech"):
        assert fault in str(caught.value)


def test_text_shared_between_splits_is_named(tmp_path: Path, make_situation: MakePart, make_persona: MakePart):
    twin = make_situation(number=7) | {"background": make_situation()["background"].replace(" ", "  ")}
    with pytest.raises(InputError, match=r"workplace_stress-matter-7 and workplace_stress-matter-1 share a text"):
        load_parts(folder_of(tmp_path, [make_situation(), twin], [make_persona()]))


def test_files_that_are_missing_or_no_list_are_errors(tmp_path: Path, make_situation: MakePart):
    with pytest.raises(InputError, match=r"No file 'personas\.yaml'"):
        load_parts(tmp_path)
    folder = folder_of(tmp_path, [make_situation()], [])
    (folder / "personas.yaml").write_text("name: Ada", encoding="utf-8")
    with pytest.raises(InputError, match="not a list of parts"):
        load_parts(folder)
    (folder / "personas.yaml").write_text("- [", encoding="utf-8")
    with pytest.raises(InputError, match="is not YAML"):
        load_parts(folder)


def test_shortfalls_name_the_scenario_and_the_personas(
    tmp_path: Path, make_situation: MakePart, make_persona: MakePart
):
    found = shortfalls(load_parts(folder_of(tmp_path, [make_situation()], [make_persona()])))
    assert "workplace_stress: 1 of 6 evolution situations" in found
    assert "loneliness: 0 of 2 evaluation situations" in found
    assert "1 of 60 personas" in found


@pytest.mark.parametrize(
    ("rules", "who", "why"),
    [
        ({"ages": [30, 40]}, {"age": 29}, "is 29"),
        ({"needs_tags": ["married"]}, {}, "has not the tags married"),
        ({"bars_tags": ["works"]}, {}, "is works, which"),
        ({"tried": "You wrote to your daughter twice."}, {}, "'your daughter'"),
        ({"high": "You laugh about your boss."}, {"tags": ["student"]}, "'your boss'"),
        ({"low": "You say your wife is right."}, {"tags": ["single"]}, "'your wife'"),
        ({"tried": "You hold out from Monday to Friday."}, {"work": "night nurse in a clinic"}, "works at night"),
        ({"middling": "You tell how Abab came late."}, {}, "is named Abab"),
    ],
)
def test_what_cannot_have_happened_to_a_person_is_said(
    make_situation: MakePart, make_persona: MakePart, rules: dict[str, Any], who: dict[str, Any], why: str
):
    one = situation(make_situation, **rules)
    two = persona(make_persona, **{"number": 1, "name": "Abab"} | who)
    assert any(why in problem for problem in misfits(one, two)), list(misfits(one, two))
    assert not fits(one, two)


def test_words_that_the_tags_cover_take_nothing_more_for_granted(make_situation: MakePart):
    said = situation(make_situation, tried="You told your wife all of it.", needs_tags=["married"])
    assert taken_for_granted(said) == []


def test_a_person_of_the_other_split_never_fits(make_situation: MakePart, make_persona: MakePart):
    assert not fits(situation(make_situation), persona(make_persona, split="evaluation"))
    assert fits(situation(make_situation), persona(make_persona, split="evolution"))


def test_a_seventeen_year_old_has_no_divorce_and_a_grandmother_may_study():
    assert list(odd_tags(17, [Tag.DIVORCED]))
    assert not list(odd_tags(70, [Tag.STUDENT, Tag.WIDOWED, Tag.GROWN_CHILDREN, Tag.CHILDREN]))


def test_the_shipped_parts_are_sound_and_complete():
    parts = load_parts()
    assert shortfalls(parts) == []
    assert not copies(parts)
    assert {persona.split for persona in parts.personas} == {"evolution", "evaluation"}


@pytest.mark.slow
def test_the_shipped_parts_repeat_no_line_of_the_corpus(shared_dir: Path):
    esconv = shared_dir / "data" / "esconv"
    dialogues = [d for split in ("train", "valid", "failed") for d in read_corpus(esconv / f"{split}.jsonl").dialogues]
    lines = [turn.content for dialogue in dialogues for turn in dialogue.turns()]
    run = 10  # first lines are written as people talk, where eight everyday words in a row are no copy
    corpus = corpus_runs(lines, run)
    parts = load_parts()
    texts = [text for situation in parts.situations for text in situation.texts()]
    texts += [text for persona in parts.personas for text in (persona.work, persona.speech, persona.habits)]
    assert not [hit for text in texts for hit in copied(text, corpus, run)]
