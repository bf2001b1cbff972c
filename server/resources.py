"""The resources about the bank itself, the prompt, and completion of their arguments."""

import json
from typing import TYPE_CHECKING, Annotated

from fastmcp import FastMCP
from fastmcp.exceptions import ResourceError
from mcp_types import CompletionArgument, CompletionContext, PromptReference, ResourceTemplateReference
from pydantic import Field

from ..skills_bank.errors import SkillNotFound
from ..skills_bank.helplines import load_helplines
from ..skills_bank.taxonomy import (
    ACTION_INFO,
    CHANGE_INFO,
    ESCONV_STRATEGIES,
    SCENARIO_INFO,
    STATE_INFO,
    TAXONOMY_VERSION,
    Scenario,
)
from .uris import EVIDENCE, MANIFEST, TAXONOMY, skill_uri

if TYPE_CHECKING:
    from .watch import LiveBank, View

JSON = "application/json"

SUPPORT_SESSION = """\
You are supporting a person who is having a hard time{about}. Work with the esc-skills tools like this:

1. Before each reply call `select_skill` with the whole talk so far, newest message last.
2. Read `risk` first. If its level is "high", no skill comes: follow `risk.guidance`, say `risk.say` as it stands, stay
   with the person and bring in a human{region}. If it is "elevated", do the safety check before anything else,
   unless `risk.asked` says that the question was put and answered: then go on, and listen for a new sign.
3. Otherwise follow `next_actions` of the first skill in order, one or two of them in a reply, in your own words and in
   the person's language. Mind the `pitfall`. Call `read_skill` when you want its wording or examples.
4. If `skills` is empty, do what `note` says; usually: listen, and ask one open question.
5. Keep replies short. Understanding comes before advice; one question at a time; never diagnose.

You are not a clinician, and these skills are no treatment. Say so if you are asked."""


def add_resources(mcp: FastMCP, live: "LiveBank") -> None:
    """Register `bank://...` on `mcp`, answering from `live`."""

    @mcp.resource(
        MANIFEST,
        mime_type=JSON,
        description="The live bank: version, skills with versions, and problems of edits that were refused.",
    )
    async def manifest() -> str:
        return json.dumps(manifest_of(await live.view()), indent=2)

    @mcp.resource(
        TAXONOMY,
        mime_type=JSON,
        description="Definitions of the scenarios, seeker states, support actions and response changes.",
    )
    async def taxonomy() -> str:
        return taxonomy_json()

    @mcp.resource(
        EVIDENCE,
        mime_type=JSON,
        description="What is behind a skill: how often each action was followed by which change, with intervals.",
    )
    async def evidence(name: Annotated[str, Field(description="Skill name.")]) -> str:
        bank = (await live.view()).bank
        if name not in bank.skills:
            raise ResourceError(str(SkillNotFound(name, bank.skills)))
        if name not in bank.evidence:
            raise ResourceError(f"The skill {name!r} carries no evidence (references/evidence.json is absent).")
        return bank.evidence[name].model_dump_json(indent=2)


def add_prompts(mcp: FastMCP, live: "LiveBank") -> None:
    """Register the prompt and the completion of arguments on `mcp`."""

    @mcp.prompt(title="Support session", description="How to hold a supportive talk with these tools, in a few lines.")
    def support_session(
        scenario: Annotated[str, Field(description="What the talk is about (a taxonomy id), if known.")] = "",
        region: Annotated[
            str, Field(description="Where the person is, for helplines, e.g. 'US' or 'international'.")
        ] = "",
    ) -> str:
        info = SCENARIO_INFO.get(Scenario(scenario)) if scenario in set(Scenario) else None
        about = f" ({info.name.lower()}: {info.definition})" if info else f" ({scenario})" if scenario else ""
        place = f" (region: {region})" if region else ""
        return SUPPORT_SESSION.format(about=about, region=place)

    @mcp.completion
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> list[str]:
        if isinstance(ref, ResourceTemplateReference):
            names = sorted((await live.view()).bank.skills) if argument.name == "name" else []
            return _starting(names, argument.value)
        values = {"scenario": [str(s) for s in Scenario], "region": sorted(load_helplines().regions)}
        return _starting(values.get(argument.name, []), argument.value)


def _starting(values: list[str], prefix: str) -> list[str]:
    """Values that begin with `prefix`; then those that contain it."""
    wanted = prefix.casefold()
    first = [value for value in values if value.casefold().startswith(wanted)]
    return first + [value for value in values if wanted in value.casefold() and value not in first]


def manifest_of(view: "View") -> dict[str, object]:
    """Return what `bank://manifest` says about `view`."""
    bank = view.bank
    return {
        "bank_version": bank.version,
        "loaded": view.loaded,
        "encoder": view.encoder,
        "skills": [
            {
                "name": skill.name,
                "version": skill.version,
                "uri": skill_uri(skill.name),
                "states": list(skill.states),
                "written_by": skill.written_by,
            }
            for skill in (bank.skills[name] for name in sorted(bank.skills))
        ],
        "problems": list(view.problems),
    }


def taxonomy_json() -> str:
    """Return what `bank://taxonomy` says."""
    sections = {
        "scenarios": SCENARIO_INFO,
        "seeker_states": STATE_INFO,
        "support_actions": ACTION_INFO,
        "response_changes": CHANGE_INFO,
    }
    tables = {title: [info.model_dump(mode="json") for info in infos.values()] for title, infos in sections.items()}
    return json.dumps({"version": TAXONOMY_VERSION, "esconv_strategies": list(ESCONV_STRATEGIES), **tables}, indent=2)
