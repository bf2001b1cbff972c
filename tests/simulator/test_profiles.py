"""Both forms of profiles are read to one model; what is broken is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from esc_skills.server.__main__ import app
from esc_skills.simulator.needs import (
    CHARACTER_INFO,
    NEED_INFO,
    Character,
    HiddenNeed,
    read_character,
    read_need,
)
from esc_skills.simulator.profiles import Person, Profile, Scene, dumped, load_profiles, parse_profiles, read_profile
from esc_skills.skills_bank.errors import InputError

PLAYER = "* 姓名：测试甲\n* 年龄：41岁\n* 性别：女性\n\n* 职业：钟表匠\n"


def foreign(**more: Any) -> dict[str, Any]:
    return {
        "id": "f1",
        "player": PLAYER,
        "scene": "一间漏雨的屋子。",
        "main_cha": "回避型",
        "cha_group": ["安静", "固执"],
        "task": f"甲{NEED_INFO[HiddenNeed.NO_FAULT].chinese}乙",
        "first_talk": "下雨了。",
    } | more


def ours(**more: Any) -> dict[str, Any]:
    return {
        "id": "own-1",
        "character": "passive",
        "need": "to_be_heard",
        "person": {"name": "Ilse", "age": 52, "gender": "woman", "work": "mends clocks"},
        "scene": {"background": "The roof leaks and nobody comes."},
        "first_line": "It drips.",
    } | more


def lines(*records: Any) -> str:
    return "\n".join(entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False) for entry in records)


def test_a_sage_record_keeps_its_text_and_maps_its_fields():
    profile = read_profile(lines(foreign()))
    assert (profile.source, profile.language, profile.character) == ("sage", "zh", Character.AVOIDANT)
    assert (profile.need, profile.traits, profile.first_line) == (HiddenNeed.NO_FAULT, ("安静", "固执"), "下雨了。")
    assert (profile.person.name, profile.person.age, profile.person.gender) == ("测试甲", 41, "woman")
    assert profile.person.work == "钟表匠"
    assert profile.person.described() == PLAYER and profile.scene.described() == "一间漏雨的屋子。"
    assert profile.wish == NEED_INFO[HiddenNeed.NO_FAULT].chinese


def test_an_rlver_record_has_no_first_line():
    record = foreign()
    del record["first_talk"]
    profile = read_profile(lines(record))
    assert (profile.source, profile.first_line) == ("rlver", None)


def test_our_own_form_is_described_from_its_fields():
    profile = read_profile(lines(ours()))
    assert "Ilse, 52, woman" in profile.person.described()
    assert "The roof leaks" in profile.scene.described()
    assert profile.wish.startswith("You want")


def test_what_is_written_is_read_back_the_same():
    profiles = (read_profile(lines(ours(risk="elevated", scenario="loneliness"))), read_profile(lines(foreign())))
    again = parse_profiles(dumped(profiles), "again")
    assert again.profiles == profiles
    assert again.digest == parse_profiles(dumped(profiles) + "\n\n", "more lines").digest


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{", "not JSON"),
        ("3", "a JSON int"),
        (foreign(main_cha="快乐型"), "No character is named"),
        (foreign(task="别的"), "No single hidden need"),
        (foreign(task=NEED_INFO[HiddenNeed.NO_FAULT].chinese + NEED_INFO[HiddenNeed.DEEP_EMPATHY].chinese), "several"),
        (foreign(scene="  "), "field 'scene' is missing or empty"),
        (foreign(player="* 姓名：甲\n"), "no labelled age"),
        (foreign(player=PLAYER.replace("女性", "?")), "gender '?'"),
        (foreign(player=PLAYER.replace("41", "410")), "age: Input should be less than or equal to 110"),
        (foreign(cha_group="安静"), "'cha_group' is not a list"),
        (foreign(first_talk=""), "'first_talk' is empty"),
        (ours(character="cheerful"), "character: Input should be"),
        (ours(mood="fine"), "mood: Extra inputs"),
        ({"id": "own-2"}, "need: Field required"),
        (ours(id="good"), "stands in the file twice"),
    ],
)
def test_a_bad_record_is_named_counted_and_left_out(entry: Any, reason: str):
    found = parse_profiles(lines(ours(id="good"), entry, foreign()), "mixed.jsonl")
    assert [profile.id for profile in found.profiles] == ["good", "f1"]
    assert len(found.skipped) == 1 and found.skipped[0].where == "mixed.jsonl, line 2"
    assert reason in found.skipped[0].reason


def test_a_reason_quotes_no_text_of_the_record():
    found = parse_profiles(lines(ours(), ours(id="own-2", first_line=["a secret sentence"])), "x")
    assert "secret" not in found.skipped[0].reason


def test_files_without_a_profile_are_errors(tmp_path: Path):
    with pytest.raises(InputError, match=r"No profiles at .*evolution, evaluation"):
        load_profiles(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(InputError, match="it is empty"):
        load_profiles(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(InputError, match="not UTF-8"):
        load_profiles(tmp_path / "latin.jsonl")


def test_an_unknown_id_is_answered_with_known_ones():
    found = parse_profiles(lines(ours()), "x.jsonl")
    assert found.get("own-1").person.name == "Ilse"
    with pytest.raises(InputError, match=r"No profile 'own-9' in x.jsonl.*own-1"):
        found.get("own-9")


def test_needs_and_characters_are_read_by_either_name():
    for need, info in NEED_INFO.items():
        assert read_need(need) == read_need(f"前{info.chinese}后") == need
    for character, info in CHARACTER_INFO.items():
        assert read_character(character) == read_character(info.chinese) == character


def test_no_words_of_a_need_hold_those_of_another():
    for need, info in NEED_INFO.items():
        assert [other for other in HiddenNeed if NEED_INFO[other].chinese in info.chinese] == [need]


def test_the_commands_list_and_show(tmp_path: Path):
    path = tmp_path / "some.jsonl"
    path.write_text(lines(ours(), foreign()), encoding="utf-8")
    listed = CliRunner().invoke(app, ["profiles", "show", str(path)])
    assert listed.exit_code == 0 and "own-1  passive  to_be_heard" in listed.output
    shown = CliRunner().invoke(app, ["profiles", "show", str(path), "f1"])
    assert "一间漏雨的屋子。" in shown.output and "Hidden need: No fault" in shown.output
    as_json = CliRunner().invoke(app, ["profiles", "show", str(path), "own-1", "--json"])
    assert Profile.model_validate_json(as_json.output) == load_profiles(path).get("own-1")


def test_described_never_leaves_a_field_out():
    person = Person(name="Ilse", age=52, gender="woman", work="W1", speech="S1", habits="H1")
    scene = Scene(background="b1", tried="t1", hurts_most="h1", high="up1", middling="mid1", low="down1")
    assert all(word in person.described() for word in ("Ilse", "52", "woman", "W1", "S1", "H1"))
    assert all(word in scene.described() for word in ("b1", "t1", "h1", "up1", "mid1", "down1"))


@pytest.mark.parametrize(("name", "source", "n"), [("sage_100", "sage", 100), ("rlver_500", "rlver", 500)])
def test_the_published_profiles_are_all_read(shared_dir: Path, name: str, source: str, n: int):
    found = load_profiles(shared_dir / "data" / "profiles" / f"{name}.jsonl")
    assert len(found.profiles) == n and found.skipped == ()
    assert {(profile.source, profile.language) for profile in found.profiles} == {(source, "zh")}
    assert {profile.need for profile in found.profiles} == set(HiddenNeed)
    assert {profile.character for profile in found.profiles} == set(Character)
    assert all(len(profile.traits) == 3 for profile in found.profiles)
