import hashlib
import json

import mcp_types
import pytest
from fastmcp import Client
from fastmcp.skills.models import (
    GetSkillParams,
    GetSkillRequest,
    GetSkillResult,
    ListSkillsParams,
    ListSkillsRequest,
    ListSkillsResult,
)
from mcp.shared.exceptions import MCPError

from esc_skills.server.app import create_server
from esc_skills.skills_bank.taxonomy import Scenario, SeekerState


async def read(client: Client, uri: str) -> str:
    return (await client.read_resource(uri))[0].text


async def test_every_skill_is_listed_with_its_own_description(client, live):
    skills = (await live.view()).bank.skills
    listed = {str(resource.uri): resource for resource in await client.list_resources()}
    for name, skill in skills.items():
        assert listed[f"skill://{name}/SKILL.md"].description == skill.description
        assert listed[f"skill://{name}/SKILL.md"].mime_type == "text/markdown"
    assert {"bank://manifest", "bank://taxonomy"} <= set(listed)


async def test_a_skill_is_read_verbatim(client, folder):
    text = await read(client, "skill://company-in-grief/SKILL.md")
    assert text == (folder / "company-in-grief" / "SKILL.md").read_text(encoding="utf-8")


async def test_support_files_are_read_and_listed_in_the_manifest(folder, live, era):
    references = folder / "company-in-grief" / "references"
    references.mkdir()
    (references / "notes.md").write_text("Composed notes.\n", encoding="utf-8")
    (folder / "company-in-grief" / "assets").mkdir()
    (folder / "company-in-grief" / "assets" / "dot.bin").write_bytes(b"\x00\xff\x01")
    async with Client(create_server(live), mode=era) as client:
        assert await read(client, "skill://company-in-grief/references/notes.md") == "Composed notes.\n"
        blob = (await client.read_resource("skill://company-in-grief/assets/dot.bin"))[0]
        assert blob.blob == "AP8B"
        manifest = json.loads(await read(client, "skill://company-in-grief/_manifest"))
    assert [file["path"] for file in manifest["files"]] == ["SKILL.md", "assets/dot.bin", "references/notes.md"]


@pytest.mark.parametrize(
    "uri",
    [
        "skill://nobody/SKILL.md",
        "skill://company-in-grief/../rolling-with-resistance/SKILL.md",
        "skill://company-in-grief/%2e%2e/bank.json",
        "skill://company-in-grief//etc/passwd",
        "skill://company-in-grief/",
        "bank://nothing",
    ],
)
async def test_what_is_not_there_is_not_found(client, uri):
    with pytest.raises(MCPError):
        await client.read_resource(uri)


async def test_evidence_of_a_skill_without_any_says_so(client):
    with pytest.raises(MCPError, match="carries no evidence"):
        await client.read_resource("bank://skill/company-in-grief/evidence")
    with pytest.raises(MCPError, match="Known skills"):
        await client.read_resource("bank://skill/nobody/evidence")


async def test_manifest_and_taxonomy(client, live):
    manifest = json.loads(await read(client, "bank://manifest"))
    assert manifest["bank_version"] == (await live.view()).bank.version
    assert manifest["problems"] == []
    assert len(manifest["skills"]) == 3
    taxonomy = json.loads(await read(client, "bank://taxonomy"))
    assert {entry["id"] for entry in taxonomy["seeker_states"]} == set(SeekerState)
    assert {len(taxonomy[key]) for key in ("scenarios", "support_actions", "response_changes")} == {18, 17, 14}


async def test_the_skills_extension_lists_verbatim_frontmatter_and_digests(live, folder):
    async with Client(create_server(live)) as client:
        assert "io.modelcontextprotocol/skills" in (client.server_capabilities.extensions or {})
        listed = await client.session.send_request(ListSkillsRequest(params=ListSkillsParams()), ListSkillsResult)
        uri = "skill://company-in-grief/SKILL.md"
        got = await client.session.send_request(GetSkillRequest(params=GetSkillParams(uri=uri)), GetSkillResult)
    assert [entry.frontmatter.name for entry in listed.skills] == sorted(path.name for path in folder.iterdir())
    content = (folder / "company-in-grief" / "SKILL.md").read_bytes()
    file = got.skill.resources[0]
    assert (file.digest, file.size) == (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
    assert got.skill.frontmatter.metadata["esc-version"] == "1"


async def test_the_prompt_names_the_tools_and_the_situation(client):
    prompt = await client.get_prompt("support_session", {"scenario": "loss_and_grief", "region": "UK"})
    text = prompt.messages[0].content.text
    assert "select_skill" in text
    assert "read_skill" in text
    assert "grief" in text.lower()
    assert "UK" in text
    assert "{" not in (await client.get_prompt("support_session")).messages[0].content.text


async def test_arguments_are_completed(client):
    prompt = mcp_types.PromptReference(type="ref/prompt", name="support_session")
    found = await client.complete(prompt, {"name": "scenario", "value": "anx"})
    assert found.values == ["anxiety_and_panic"]
    everything = await client.complete(prompt, {"name": "scenario", "value": ""})
    assert set(everything.values) == set(Scenario)
    template = mcp_types.ResourceTemplateReference(type="ref/resource", uri="bank://skill/{name}/evidence")
    names = await client.complete(template, {"name": "name", "value": "grief"})
    assert names.values == ["company-in-grief"]
