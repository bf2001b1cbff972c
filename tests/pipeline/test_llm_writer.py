"""A model writes the skill: what it is shown, what is checked, and what happens when it will not do."""

import pytest

from esc_skills.pipeline.clusters import load_clusters
from esc_skills.pipeline.llm.client import LLMRequest, Role
from esc_skills.pipeline.llm.scripted import ScriptedClient
from esc_skills.pipeline.llm_writer import REPAIRS, LLMWriter
from esc_skills.pipeline.local_writer import LocalWriter
from esc_skills.pipeline.overlap import corpus_runs
from esc_skills.pipeline.prototypes import prototypes
from esc_skills.pipeline.units import units
from esc_skills.pipeline.writers import DossierFacts, gather
from esc_skills.skills_bank.errors import InputError, LLMRefused, SkillWriteError
from esc_skills.skills_bank.skillmd import render_skill

SNIPPET = "the lantern in the boathouse was still swinging when my uncle came up from the jetty"


@pytest.fixture(scope="module")
def every() -> list[DossierFacts]:
    found = units()
    return gather(load_clusters(), prototypes(found), units=found)


@pytest.fixture(scope="module")
def facts(every: list[DossierFacts]) -> DossierFacts:
    """The facts of hearing out anger, with one composed snippet."""
    one = next(one for one in every if one.cluster.id == "c07")
    return one.model_copy(update={"text": one.text + f"\n   > Seeker: {SNIPPET}\n"})


@pytest.fixture
async def page(facts: DossierFacts) -> str:
    """A page that passes, as a model could have written it."""
    skill = await LocalWriter().write(facts)
    return render_skill(skill.model_copy(update={"written_by": "a model", "name": "hearing-anger"}))


def script(*answers: str) -> ScriptedClient:
    """Return a client that gives the answers in turn and breaks the test when there are no more."""
    left = iter(answers)
    return ScriptedClient(lambda _: next(left))


async def test_a_good_page_is_taken_at_once(facts: DossierFacts, page: str):
    client = script(page)
    writer = LLMWriter(client, "some-model")
    skill = await writer.write(facts, {"meeting-hopelessness"})
    assert skill.name == "hearing-anger" and skill.extra_metadata == {"esc-cluster": "c07"}
    assert skill.written_by == f"some-model {writer.prompt}"
    assert writer.prompt.startswith("llm_writer@") and "+author@" in writer.prompt
    (request,) = client.requests
    assert (request.role, request.model, request.subject) == (Role.WRITER, "some-model", "c07")
    assert "The grammar of SKILL.md" in request.system
    assert request.messages[0].content.startswith(facts.text)
    assert "meeting-hopelessness" in request.messages[0].content


async def test_the_long_instructions_are_the_same_for_every_cluster(every: list[DossierFacts], page: str):
    client = ScriptedClient(lambda _: page)
    for one in every[:2]:
        with pytest.raises(SkillWriteError):
            await LLMWriter(client, "m", repairs=0).write(one)
    first, second = client.requests
    assert first.system == second.system
    assert first.messages != second.messages and "The grammar of SKILL.md" not in first.messages[0].content


async def test_a_model_sees_no_other_clusters_content(every: list[DossierFacts], page: str):
    clustering = load_clusters()
    for one in every:
        table = one.text.split("## Prototypes")[1].split("Base rates")[0]
        rows = {tuple(c.strip() for c in line.split("|")[1:3]) for line in table.splitlines() if line.startswith("| ")}
        assert rows == {(s.value, a.value) for s, a in one.cluster.prototypes} | {("state", "action"), ("---", "---")}
        assert one.text.count(one.cluster.label) == 1
        assert {c.label for c in clustering.clusters if c.label in one.text} == {
            one.cluster.label, *(n.label for n in one.neighbours),
        }  # fmt: skip


async def test_a_code_fence_is_taken_off(facts: DossierFacts, page: str):
    assert (await LLMWriter(script(f"```markdown\n{page}```"), "m").write(facts)).name == "hearing-anger"


async def test_all_problems_go_back_at_once_and_the_repair_is_taken(facts: DossierFacts, page: str):
    first = page.replace("## Overview\n", f"## Overview\nYou may think that {SNIPPET}. It helps 9 of 10. ")
    first = first.replace("### When not to use", "### When not to use\n", 1).replace(
        "1. **Open exploration** (`open_exploration`)", "1. **Summarizing** (`summarizing`)"
    )
    client = script(first, page)
    skill = await LLMWriter(client, "m").write(facts, {"other"})
    assert skill.name == "hearing-anger"
    assert len(client.requests) == 2
    draft, problems = client.requests[1].messages[1:]
    assert draft.role == "assistant" and draft.content.strip() == first.strip()
    assert "the lantern in the boathouse was still swinging" in problems.content
    assert "A number stands in the prose" in problems.content
    assert "'summarizing' in 'anger_and_frustration' has no prototype" in problems.content


async def test_a_page_that_cannot_be_read_goes_back_with_its_faults(facts: DossierFacts, page: str):
    broken = page.replace("## Pitfalls", "## Traps").replace("(`anger_and_frustration`)", "(`anger`)")
    client = script(broken, page)
    await LLMWriter(client, "m").write(facts)
    told = client.requests[1].messages[-1].content
    assert "Add '## Pitfalls'" in told and "'anger' is no SeekerState" in told


async def test_a_taken_name_goes_back(facts: DossierFacts, page: str):
    client = script(page, page.replace("name: hearing-anger", "name: hearing-anger-out"))
    assert (await LLMWriter(client, "m").write(facts, {"hearing-anger"})).name == "hearing-anger-out"


async def test_the_corpus_given_is_guarded_beside_the_snippets(facts: DossierFacts, page: str):
    line = "she keeps the spare keys under a cracked blue flowerpot by the gate"
    client = script(page.replace("## Overview\n", f"## Overview\nThey say {line}. "), page)
    await LLMWriter(client, "m", corpus=corpus_runs([line])).write(facts)
    assert "cracked blue flowerpot" in client.requests[1].messages[-1].content


async def test_when_repairs_are_used_up_the_error_names_the_cluster(facts: DossierFacts):
    client = ScriptedClient(lambda _: "I would rather not.")
    with pytest.raises(SkillWriteError, match="c07") as caught:
        await LLMWriter(client, "m").write(facts)
    assert len(client.requests) == REPAIRS + 1
    assert caught.value.cluster == "c07" and caught.value.problems


async def test_an_error_of_the_server_passes_through(facts: DossierFacts):
    def refuse(_: LLMRequest) -> str:
        raise LLMRefused("no such model")

    with pytest.raises(LLMRefused):
        await LLMWriter(ScriptedClient(refuse), "m").write(facts)


async def test_without_a_dossier_nothing_is_asked(facts: DossierFacts):
    client = script()
    with pytest.raises(InputError, match="c07 has no dossier text"):
        await LLMWriter(client, "m").write(facts.model_copy(update={"text": ""}))
    assert client.requests == []


async def test_evidence_and_signature_are_codes_not_the_models(facts: DossierFacts, page: str):
    boast = (
        page.replace('esc-written-by: "a model"', 'esc-written-by: "a famous clinician"') + "\n## Evidence\nIt works.\n"
    )
    skill = await LLMWriter(script(boast), "m").write(facts)
    assert skill.evidence == "" and skill.written_by.startswith("m llm_writer@")
