"""SKILL.md text ⇄ Skill."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esc_skills.skills_bank.errors import SkillParseError
from esc_skills.skills_bank.models import ActionStep, Example, Message, Pitfall, Skill, StatePlan
from esc_skills.skills_bank.skillmd import parse_skill, read_skill_text, render_skill
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
    return text.replace(old, new)


def faults(text: str) -> list[str]:
    return [problem.detail for problem in read_skill_text(text)[1]]


def test_every_part_is_read(skill_text: str):
    skill = parse_skill(skill_text)
    assert skill.name == "calming-dread"
    assert skill.states == (SeekerState.ANXIETY_AND_FEAR, SeekerState.EMOTIONAL_DISTRESS)
    assert skill.scenarios == (Scenario.WORKPLACE_STRESS,)
    assert skill.parent is None
    assert skill.extra_metadata == {"esc-cluster": "c1"}
    assert skill.title == "Calming the talk"
    assert skill.overview.count("\n\n") == 1
    assert len(skill.when) == 3
    assert skill.when_not == ("The seeker has calmed down and plans ahead.",)
    assert [plan.state for plan in skill.plans] == list(skill.states)
    first, second = skill.plans[0].steps
    assert first.how == "Call the fear sound."
    assert first.say == "Of course the talk scares you."
    assert second == ActionStep(action=SupportAction.OPEN_EXPLORATION, how="Ask what the worst part is.")
    assert skill.pitfalls[0].action is SupportAction.PRACTICAL_SUGGESTION
    assert skill.pitfalls[1].action is None
    assert skill.pitfalls[1].signal == "The seeker repeats it louder."
    assert [example.kind for example in skill.examples] == ["good", "good", "bad"]
    assert skill.examples[0].lines[1].role == "supporter"
    assert skill.examples[2].comment == "The fear stayed unheard."
    assert skill.risks.startswith("If the talk")


def test_render_then_parse_gives_the_same_skill(skill_text: str):
    skill = parse_skill(skill_text)
    assert parse_skill(render_skill(skill)) == skill


def test_render_is_stable(skill_text: str):
    once = render_skill(parse_skill(skill_text))
    assert render_skill(parse_skill(once)) == once


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_other_line_endings_and_a_bom_read_the_same(skill_text: str, ending: str):
    assert parse_skill("\ufeff" + skill_text.replace("\n", ending)) == parse_skill(skill_text)


def test_three_dashes_inside_a_value_do_not_end_the_head(skill_text: str):
    text = edited(skill_text, 'esc-written-by: "test"', 'esc-written-by: "a --- b"')
    text = edited(text, "description: ", "description: First---second --- ")
    skill = parse_skill(text)
    assert skill.written_by == "a --- b"
    assert skill.description.startswith("First---second --- ")


def test_unknown_sections_are_kept_in_order(skill_text: str):
    skill = parse_skill(skill_text + "\n## Sources\nA book.\n\n### Deep\n- x\n\n## Later\nText.\n")
    assert skill.extra_sections == (("Sources", "A book.\n\n### Deep\n- x"), ("Later", "Text."))
    assert parse_skill(render_skill(skill)) == skill


def test_headings_inside_a_code_fence_are_text(skill_text: str):
    skill = parse_skill(skill_text + "\n## Sources\n```\n## Pitfalls\n# x\n```\n")
    assert skill.extra_sections == (("Sources", "```\n## Pitfalls\n# x\n```"),)


def test_wrapped_items_are_joined(skill_text: str):
    text = edited(
        skill_text, "- The seeker fears the talk and says so.", "- The seeker fears\n  the talk and\nsays so."
    )
    assert parse_skill(text) == parse_skill(skill_text)


def test_curly_quotes_around_a_line_are_understood(skill_text: str):
    text = edited(skill_text, 'Say: "Of course the talk scares you."', "Say: “Of course the talk scares you.”")
    assert parse_skill(text) == parse_skill(skill_text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("---\nname", "name", "does not begin with a line '---'"),
        ("name: calming-dread\n", "", "has no 'name'"),
        ("name: calming-dread", "name: Calming_Dread", "'Calming_Dread' is no valid name"),
        ("name: calming-dread", "name: 7", "The value is not a string"),
        ("license:", "allowed-tools: Bash\nlicense:", "'allowed-tools' is not in the profile"),
        ("license:", "name: twice\nlicense:", "'name' stands twice"),
        ("license: CC", "license: [CC", "no valid YAML"),
        ('esc-version: "1"', "esc-version: 1", "esc-version: The value is not a string"),
        ("emotional_distress\"\n", "emotional_distres\"\n", "Did you mean 'emotional_distress'?"),
        ('  esc-scenarios: "workplace_stress"', '  esc-scenarios: "zzz"', "Use one of: depressed_mood"),
        ("# Calming the talk", "Calming the talk", "There is no title"),
        ("## Overview", "# Overview", "second title"),
        ("## Pitfalls", "## Traps", "Pitfalls: The section is missing"),
        ("## Expected outcome", "## Overview", "The section stands twice"),
        ("- The seeker fears the talk and says so.", "The seeker fears the talk.", "belongs to no list item"),
        ("- The seeker fears the talk and says so.", "- The seeker\n  - fears", "Use one flat list"),
        ("(`anxiety_and_fear`)", "", "names no state"),
        ("2. **Open exploration** (`open_exploration`):", "2. Ask.", "names no action"),
        ("(`emotional_validation`)", "(`emotional_validaton`)", "Did you mean 'emotional_validation'?"),
        ('scares you."', 'scares you." Then wait.', "'Say:' part is not understood"),
        (" Signal: A flat yes.", "", "lacks its text or its signal"),
        ("**Cheering up**: The", "The", "no bold title"),
        ("### Bad: Tips too soon", "### Tips too soon", "tells neither good nor bad"),
        ("What went wrong: ", "Why it works: ", "'Tips too soon' has no comment"),
        ("> Seeker: I cannot", "> I cannot", "A line has no speaker"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_fix(skill_text: str, old: str, new: str, message: str):
    found = faults(edited(skill_text, old, new))
    assert any(message in fault for fault in found), found
    assert all(" Fix: " in fault for fault in found)


def test_all_faults_are_named_at_once(skill_text: str):
    text = edited(skill_text, "name: calming-dread", "name: Bad Name")
    text = edited(text, "## Pitfalls", "## Traps")
    text = edited(text, "(`anxiety_and_fear`)", "(`fear`)")
    with pytest.raises(SkillParseError) as caught:
        parse_skill(text, "x/SKILL.md")
    assert {fault.split(":")[0] for fault in caught.value.problems} == {"name", "Pitfalls", "What to do"}
    assert str(caught.value).startswith("x/SKILL.md: ")


def test_the_line_of_a_fault_is_told(skill_text: str):
    text = edited(skill_text, "- **Cheering up**: The", "- The")
    line = next(n for n, content in enumerate(text.split("\n"), 1) if content.startswith("- The fear was"))
    assert [problem.line for problem in read_skill_text(text)[1]] == [line]


def test_a_skill_that_the_text_cannot_carry_is_refused(skill_text: str):
    skill = parse_skill(skill_text)
    with pytest.raises(SkillParseError, match="overview"):
        render_skill(skill.model_copy(update={"overview": "One.\n\n## Sources\nTwo."}))
    with pytest.raises(SkillParseError, match=r"when: .*cannot carry"):
        render_skill(skill.model_copy(update={"when": ("two  spaces",)}))


words = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=8)
sentence = st.lists(words, min_size=1, max_size=6).map(" ".join)


@st.composite
def skills(draw: st.DrawFn) -> Skill:
    step = st.builds(ActionStep, action=st.sampled_from(list(SupportAction)), how=sentence, say=st.none() | sentence)
    states = draw(st.lists(st.sampled_from(list(SeekerState)), min_size=1, max_size=3, unique=True))
    line = st.builds(Message, role=st.sampled_from(["seeker", "supporter"]), content=sentence)
    return Skill(
        name=draw(st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,3}", fullmatch=True)),
        description=draw(sentence),
        version=draw(sentence),
        parent=draw(st.none() | sentence),
        states=tuple(states),
        actions=tuple(draw(st.lists(st.sampled_from(list(SupportAction)), min_size=1, max_size=4, unique=True))),
        title=draw(sentence),
        overview=draw(sentence),
        when=tuple(draw(st.lists(sentence, min_size=1, max_size=3))),
        plans=tuple(StatePlan(state=state, steps=(draw(step), draw(step))) for state in states),
        pitfalls=(draw(st.builds(Pitfall, title=sentence, text=sentence, signal=sentence)),),
        examples=(
            Example(kind="bad", title=draw(sentence), lines=(draw(line), draw(line)), comment=draw(sentence)),
        ),
        expected_outcome=draw(sentence),
        risks=draw(sentence),
    )  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(skills())
def test_what_is_rendered_reads_back_equal_or_is_refused(skill: Skill):
    try:
        text = render_skill(skill)
    except SkillParseError as error:
        assert error.problems
    else:
        assert parse_skill(text) == skill


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_any_text_gives_a_skill_or_named_faults(text: str):
    skill, problems = read_skill_text(text)
    assert (skill is None) == bool(problems)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_skill_gives_a_skill_or_named_faults(skill_text: str, data: st.DataObject):
    start = data.draw(st.integers(0, len(skill_text)))
    end = data.draw(st.integers(start, min(len(skill_text), start + 80)))
    junk = data.draw(st.sampled_from(["", "---\n", "## ", "`", '"', ": ", "\n- ", "&a *a", "\x00", "\t", "> "]))
    skill, problems = read_skill_text(skill_text[:start] + junk + skill_text[end:])
    assert (skill is None) == bool(problems)


def test_the_reference_validator_accepts_what_is_rendered(skill_text: str, tmp_path: Path):
    from skills_ref.validator import validate

    folder = tmp_path / "calming-dread"
    folder.mkdir()
    skill = parse_skill(skill_text).model_copy(update={"description": "Calms: it's #1, 'quoted' and \"double\"."})
    (folder / "SKILL.md").write_text(render_skill(skill), encoding="utf-8")
    assert validate(folder) == []
