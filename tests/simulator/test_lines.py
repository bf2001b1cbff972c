"""The line bank: what it refuses, what it chooses, how slots are filled."""

import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from esc_skills.simulator.emotion import says_goodbye
from esc_skills.simulator.lines import Facts, Line, LineBank, filled
from esc_skills.simulator.needs import Character, HiddenNeed
from esc_skills.simulator.parts import load_parts
from esc_skills.simulator.profiles import Person, Profile, Scene
from esc_skills.simulator.response import ResponseModel
from esc_skills.skills_bank.errors import InputError
from esc_skills.skills_bank.models import Message
from esc_skills.skills_bank.taxonomy import ResponseChange, Scenario, SeekerState

SAD, CALM = SeekerState.SADNESS_AND_GRIEF, SeekerState.CALM_OR_HOPEFUL
RELIEF = ResponseChange.EMOTIONAL_RELIEF


def profile(
    character: Character = Character.PASSIVE, scenario: Scenario | None = Scenario.LONELINESS, scene: str = "s"
):
    return Profile(
        id="p1",
        scenario=scenario,
        character=character,
        need=HiddenNeed.TO_BE_HEARD,
        person=Person(name="Ada", age=40, gender="woman"),
        scene=Scene(id=scene),
        first_line="Hello.",
    )


def line(text: str, state: SeekerState = SAD, change: ResponseChange = RELIEF, **more: Any) -> Line:
    return Line(state=state, change=change, text=text, **more)


@lru_cache(maxsize=1)
def shipped() -> LineBank:
    return LineBank.load()


def bank(*lines: Line, facts: dict[str, Facts] | None = None) -> LineBank:
    return LineBank(lines, shipped().farewells, shipped().openings, facts or {})


def said(*texts: str) -> list[Message]:
    return [Message(role="seeker", content=text) for text in texts]


def test_no_line_comes_twice_while_another_fits():
    lines = bank(*(line(f"Number {i} of them.") for i in range(6)))
    talk: list[Message] = []
    for seed in range(6):
        talk += said(lines.choose(profile(), SAD, RELIEF, talk, random.Random(seed)).text)
    assert len({message.content for message in talk}) == 6


def test_when_all_are_said_one_is_said_again():
    lines = bank(line("Only this."))
    assert lines.choose(profile(), SAD, RELIEF, said("Only this."), random.Random(1)).text == "Only this."


def test_a_line_of_another_state_comes_before_a_repetition_and_tells_its_state():
    lines = bank(line("Sad one."), line("Calm one.", CALM))
    told = lines.choose(profile(), SAD, RELIEF, said("Sad one."), random.Random(1))
    assert (told.text, told.line.state) == ("Calm one.", CALM)


def test_lines_for_other_characters_and_scenarios_are_not_said():
    lines = bank(
        line("For a negative one.", characters=("negative",)),
        line("About grief.", scenarios=("loss_and_grief",)),
        line("For anybody."),
    )
    assert {lines.choose(profile(), SAD, RELIEF, [], random.Random(s)).text for s in range(20)} == {"For anybody."}


def test_a_close_line_is_likelier():
    lines = bank(line("For anybody."), line("Of being alone.", scenarios=("loneliness",), characters=("passive",)))
    close = sum("alone" in lines.choose(profile(), SAD, RELIEF, [], random.Random(s)).text for s in range(200))
    assert 140 < close < 190  # five to one


def test_a_slot_without_a_fact_keeps_its_line_unsaid():
    lines = bank(line("It's {hurts}."), line("Plain."), facts={"s": Facts(tried="a walk")})
    assert {lines.choose(profile(), SAD, RELIEF, [], random.Random(s)).text for s in range(20)} == {"Plain."}


def test_facts_fill_slots_with_a_capital_where_a_sentence_begins():
    facts = {"hurts": "that bowl", "tried": "", "other": "my sister"}
    assert filled("It's {hurts}. {other} said so, {other}!", facts) == "It's that bowl. My sister said so, my sister!"


def test_a_message_is_found_by_its_filled_words_and_others_are_not():
    lines = bank(line("I told {other}."), facts={"s": Facts(other="Jo")})
    found = lines.find(profile(), "I told Jo.")
    assert found is not None and found.state == SAD
    assert lines.find(profile(), "I told Ann.") is None
    assert lines.find(profile(scene="t"), "I told Jo.") is None


def test_lines_that_take_leave_are_kept_for_leaving():
    lines = bank(line("I'm off then. Bye."), line("I stay."))
    assert lines.choose(profile(), SAD, RELIEF, said("I stay."), random.Random(1)).text == "I stay."
    assert any(lines.farewell(profile(), "content", random.Random(s)) == "I'm off then. Bye." for s in range(60))


def test_nothing_to_say_is_an_error():
    with pytest.raises(InputError, match="none for increased_hope"):
        bank(line("x y")).choose(profile(), SAD, ResponseChange.INCREASED_HOPE, [], random.Random(1))


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({"change": "emotional_relief", "text": "Oh {why}."}, "unknown slots why"),
        ({"change": "relieved", "text": "Oh."}, "change"),
        ({"change": "emotional_relief", "text": ""}, "text"),
        ({"change": "emotional_relief", "text": "Oh.", "mood": 3}, "mood"),
        ("just text", "mapping"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, entry: Any, fault: str):
    folder = copied(tmp_path)
    (folder / "lines" / "self_doubt.yaml").write_text(yaml.safe_dump([entry]), encoding="utf-8")
    with pytest.raises(InputError, match=rf"self_doubt\.yaml, line 1: .*{fault}"):
        LineBank.load(folder)


def test_a_text_that_stands_twice_is_named(tmp_path: Path):
    folder = copied(tmp_path)
    entries = [{"change": "emotional_relief", "text": "The same."}, {"change": "increased_hope", "text": "the same"}]
    (folder / "lines" / "self_doubt.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    with pytest.raises(InputError, match="2 lines say the same"):
        LineBank.load(folder)


def test_a_farewell_must_take_leave(tmp_path: Path):
    folder = copied(tmp_path)
    (folder / "farewells.yaml").write_text("content: [{text: Thanks.}]\ngiven_up: [{text: Goodbye.}]", encoding="utf-8")
    with pytest.raises(InputError, match="does not take leave"):
        LineBank.load(folder)


def test_a_missing_file_is_named(tmp_path: Path):
    folder = copied(tmp_path)
    (folder / "facts.yaml").unlink()
    with pytest.raises(InputError, match=r"facts\.yaml is missing"):
        LineBank.load(folder)


def copied(tmp_path: Path) -> Path:
    """A small whole folder."""
    (tmp_path / "lines").mkdir()
    entries = [{"change": "emotional_relief", "text": "That is lighter."}]
    (tmp_path / "lines" / "hopelessness.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    (tmp_path / "openings.yaml").write_text(yaml.safe_dump({s.value: ["Hi."] for s in SeekerState}), encoding="utf-8")
    (tmp_path / "farewells.yaml").write_text("content: [{text: Bye.}]\ngiven_up: [{text: Bye.}]", encoding="utf-8")
    (tmp_path / "facts.yaml").write_text("{}", encoding="utf-8")
    return tmp_path


def test_shipped_lines_are_enough_and_each_cell_that_occurs_has_some():
    lines = shipped()
    occurs = ResponseModel.load().answers
    assert len(occurs) > 120
    assert not lines.shortfalls(occurs)
    few = LineBank(lines.lines[:50], lines.farewells, lines.openings, lines.facts)
    assert few.shortfalls(occurs)[0] == "50 of 1200 lines" and len(few.shortfalls(occurs)) > 100


def test_every_situation_has_facts_and_no_fact_is_of_another():
    lines = shipped()
    assert set(lines.facts) == {situation.id for situation in load_parts().situations}


def test_every_farewell_takes_leave_for_every_character():
    lines = shipped()
    for character in Character:
        for mood in ("content", "given_up"):
            assert says_goodbye(lines.farewell(profile(character), mood, random.Random(3)))
