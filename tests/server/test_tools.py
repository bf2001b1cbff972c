import json
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esc_skills.server.app import create_server
from esc_skills.server.sections import MAX_TEXT_CHARS, skill_text, split_sections
from esc_skills.server.tools import as_messages
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState, SupportAction

WORRIED = "I am so anxious and scared about the exam deadline next week that I can't sleep."
GRIEVING = "My grandmother died last month and I am so sad, I cry and miss her every day."
CRISIS = "I want to kill myself tonight, I have the pills here."


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    return (await client.call_tool(tool, arguments)).structured_content


async def test_the_tools_are_described_for_a_model(client):
    tools = {tool.name: tool for tool in await client.list_tools()}
    assert set(tools) == {
        "classify_seeker_state", "select_skill", "list_skills", "read_skill", "bank_history", "rollback_bank",
        "build_bank", "build_status", "cancel_build",
        "evolve_bank", "evolve_status", "cancel_evolve", "propose_skill", "bank_diff",
    }  # fmt: skip
    for tool in tools.values():
        assert "Call it" in tool.description, tool.name
        assert tool.output_schema, tool.name
        assert tool.annotations.title and tool.annotations.open_world_hint is False
        for name, parameter in tool.input_schema["properties"].items():
            assert len(parameter.get("description", "")) > 15, f"{tool.name}.{name}"
    writing = {name for name, tool in tools.items() if not tool.annotations.read_only_hint}
    destructive = {"rollback_bank", "build_bank", "evolve_bank", "propose_skill"}
    assert writing == destructive | {"cancel_build", "cancel_evolve"}
    assert {name for name in writing if tools[name].annotations.destructive_hint} == destructive
    for name in ("classify_seeker_state", "select_skill"):
        assert "`risk` first" in tools[name].description


async def test_the_schema_of_messages_shows_both_forms(client):
    tools = {tool.name: tool for tool in await client.list_tools()}
    forms = tools["select_skill"].input_schema["properties"]["messages"]["anyOf"]
    assert [form["type"] for form in forms] == ["array", "string"]
    assert forms[0]["items"]["required"] == ["role", "content"]


async def test_selection_has_the_shape_hosts_rely_on(client):
    answer = await call(client, "select_skill", messages=[{"role": "seeker", "content": WORRIED}], min_score=0.0)
    assert {"risk", "states", "skills", "note", "bank_version"} <= set(answer)
    assert {"level", "kind", "trigger", "guidance"} <= set(answer["risk"])
    assert answer["risk"]["level"] == "none"
    first = answer["skills"][0]
    assert {"name", "score", "why", "next_actions", "pitfall", "uri"} <= set(first)
    assert {action["action"] for action in first["next_actions"]} <= set(SupportAction)
    assert first["uri"] == f"skill://{first['name']}/SKILL.md"
    assert {state["state"] for state in answer["states"]} <= set(SeekerState)
    assert len(answer["states"]) == 3


async def test_classification_has_the_shape_hosts_rely_on(client):
    answer = await call(client, "classify_seeker_state", messages=GRIEVING)
    assert {"risk", "states", "scenarios", "evidence", "language", "bank_version"} <= set(answer)
    assert answer["states"][0]["state"] == "sadness_and_grief"
    assert {scenario["scenario"] for scenario in answer["scenarios"]} <= set(Scenario)
    assert answer["language"] == "en"


async def test_a_line_a_list_and_json_text_give_the_same_answer(client):
    as_list = [{"role": "seeker", "content": WORRIED}]
    answers = [
        await call(client, "select_skill", messages=form)
        for form in (WORRIED, as_list, json.dumps(as_list), [{"role": "user", "content": WORRIED}])
    ]
    assert all(answer == answers[0] for answer in answers)


async def test_high_risk_brings_no_skill(client):
    answer = await call(client, "select_skill", messages=CRISIS, min_score=0.0)
    assert answer["risk"]["level"] == "high"
    assert answer["skills"] == []
    assert answer["risk"]["guidance"]
    assert answer["note"]


async def test_the_callers_state_and_exclusions_are_taken(client):
    answer = await call(
        client,
        "select_skill",
        messages=WORRIED,
        state="resistance",
        exclude=["steadying-before-a-deadline"],
        min_score=0.0,
    )
    assert answer["states_source"] == "caller"
    assert answer["states"][0]["state"] == "resistance"
    assert "steadying-before-a-deadline" not in [skill["name"] for skill in answer["skills"]]


async def test_every_answer_carries_the_bank_version(client, live):
    version = (await live.view()).bank.version
    for tool, arguments in (
        ("select_skill", {"messages": WORRIED}),
        ("classify_seeker_state", {"messages": WORRIED}),
        ("list_skills", {}),
        ("read_skill", {"name": "company-in-grief"}),
        ("bank_history", {}),
    ):
        assert (await call(client, tool, **arguments))["bank_version"] == version, tool


BAD_INPUTS = [
    ("select_skill", {"messages": []}, "empty"),
    ("select_skill", {"messages": "   "}, "no text"),
    ("select_skill", {"messages": 5}, "expected a list"),
    ("select_skill", {"messages": None}, "expected a list"),
    ("select_skill", {"messages": {"role": "seeker", "content": "hi"}}, "expected a list"),
    ("select_skill", {"messages": ["hi"]}, r"messages\[0\]"),
    ("select_skill", {"messages": [{"role": "seeker"}]}, "'content' missing"),
    ("select_skill", {"messages": [{"role": "system", "content": "x"}]}, "unknown role"),
    ("select_skill", {"messages": [{"role": "seeker", "content": 7}]}, "expected text"),
    ("select_skill", {"messages": [{"role": "seeker", "content": ["x"]}]}, "expected text"),
    ("select_skill", {"messages": [{"role": "supporter", "content": "hi"}]}, "none is from the seeker"),
    ("select_skill", {"messages": "x" * 20_001}, "20,000"),
    ("classify_seeker_state", {"messages": ""}, "no text"),
    ("classify_seeker_state", {}, "messages"),
    ("select_skill", {"messages": "hi", "k": 0}, "k: "),
    ("select_skill", {"messages": "hi", "k": 11}, "k: "),
    ("select_skill", {"messages": "hi", "k": "many"}, "k: "),
    ("select_skill", {"messages": "hi", "state": "grumpy"}, "state: .*'anxiety_and_fear'"),
    ("select_skill", {"messages": "hi", "scenario": "the moon"}, "scenario: "),
    ("select_skill", {"messages": "hi", "min_score": 2}, "min_score: "),
    ("select_skill", {"messages": "hi", "exclude": "company-in-grief"}, "exclude: "),
    ("select_skill", {"messages": "hi", "colour": "red"}, "colour: "),
    ("list_skills", {"limit": 0}, "limit: "),
    ("list_skills", {"offset": -1}, "offset: "),
    ("read_skill", {"name": "hug"}, "Known skills: company-in-grief"),
    ("read_skill", {"name": "../../etc/passwd"}, "Known skills"),
    ("read_skill", {"name": "company-in-grief", "section": "Recipes"}, "Sections: Overview"),
    ("rollback_bank", {"version": "v9999"}, "plain folder of skills without versions"),
]


@pytest.mark.parametrize(("tool", "arguments", "message"), BAD_INPUTS)
async def test_bad_input_names_the_thing(live, tool, arguments, message):
    async with Client(create_server(live)) as client:
        with pytest.raises(ToolError, match=message):
            await client.call_tool(tool, arguments)


async def test_an_error_does_not_repeat_what_the_seeker_said(client):
    secret = "my name is Rosalind and I live in the yellow house"
    for arguments in (
        {"messages": [{"role": secret, "content": secret}]},
        {"messages": [{"role": "seeker", "content": [secret]}]},
        {"messages": secret, "k": secret},
    ):
        result = await client.call_tool("select_skill", arguments, raise_on_error=False)
        assert result.is_error
        assert "Rosalind" not in result.content[0].text


async def test_an_unexpected_failure_is_masked(client, live):
    view = await live.view()

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a path on this machine: /home/somebody")

    view.selector.select = broken
    with pytest.raises(ToolError) as caught:
        await client.call_tool("select_skill", {"messages": "hi"})
    assert "/home/somebody" not in str(caught.value)


async def test_list_skills_filters_and_pages(client):
    names = [skill["name"] for skill in (await call(client, "list_skills"))["skills"]]
    assert names == ["company-in-grief", "rolling-with-resistance", "steadying-before-a-deadline"]
    first = await call(client, "list_skills", limit=2)
    assert (first["total"], first["next_offset"]) == (3, 2)
    second = await call(client, "list_skills", limit=2, offset=first["next_offset"])
    assert [skill["name"] for skill in second["skills"]] == names[2:]
    assert second["next_offset"] is None
    grief = await call(client, "list_skills", state="sadness_and_grief")
    assert [skill["name"] for skill in grief["skills"]] == ["company-in-grief"]
    assert (await call(client, "list_skills", scenario="parenting_and_caregiving"))["total"] == 0
    beyond = await call(client, "list_skills", offset=50)
    assert (beyond["skills"], beyond["next_offset"]) == ([], None)


async def test_read_skill_gives_the_whole_or_one_section(client):
    whole = await call(client, "read_skill", name="company-in-grief")
    assert whole["text"].startswith("---\nname: company-in-grief")
    assert not whole["truncated"]
    section = await call(client, "read_skill", name="company-in-grief", section="  pitfalls ")
    assert section["section"] == "Pitfalls"
    assert section["text"].startswith("## Pitfalls\n")
    assert "Overview" not in section["text"]


def test_a_text_beyond_what_hosts_take_is_cut_and_says_so():
    text = skill_text({"long": "## A\n" + "x" * (MAX_TEXT_CHARS + 1)}, "long", None, "v1")
    assert text.truncated
    assert len(text.text) == MAX_TEXT_CHARS


def test_sections_are_split_at_second_level_headings_only():
    assert split_sections("# T\nintro\n## One\n### Deep\ntext\n## Two\nend") == [
        ("One", "## One\n### Deep\ntext\n"),
        ("Two", "## Two\nend\n"),
    ]


@pytest.mark.parametrize("text", ["hello", '[{"broken', '[{"role": ', "[1, 2]", '{"role": "seeker"}'])
def test_text_that_is_no_list_of_messages_stays_text(text):
    assert as_messages(text) is text


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 50)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
message = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["seeker", "supporter", "user", "assistant", "system", ""]),
        "content": st.text(max_size=60),
    }
)


@pytest.mark.slow
async def test_no_input_breaks_a_tool(live):
    """Whatever is passed, a tool answers or says which argument is wrong; it never fails in the dark."""
    server = create_server(live)
    async with Client(server) as client:
        # `evolve_bank` takes no argument that it needs, so what is drawn for it may start a real evolution.
        names = [tool.name for tool in await client.list_tools() if tool.name != "evolve_bank"]
        properties = {tool.name: list(tool.input_schema["properties"]) for tool in await client.list_tools()}

        async def check(tool: str, arguments: dict[str, Any]) -> None:
            result = await client.call_tool(tool, arguments, raise_on_error=False)
            text = result.content[0].text
            if result.is_error:
                assert len(text) > 10
                assert f"Error calling tool {tool!r}" not in text, (tool, arguments)  # the masked text: unexpected
            else:
                assert result.structured_content["bank_version"]

        examples: list[tuple[str, dict[str, Any]]] = []

        @settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.data())
        def collect(data: st.DataObject) -> None:
            tool = data.draw(st.sampled_from(names))
            arguments = {name: data.draw(anything) for name in properties[tool] if data.draw(st.booleans())}
            if "messages" in properties[tool] and data.draw(st.booleans()):
                arguments["messages"] = data.draw(st.lists(message, max_size=5) | st.text(max_size=80))
            examples.append((tool, arguments))

        collect()
        for tool, arguments in examples:
            await check(tool, arguments)
