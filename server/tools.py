"""The tools: typed functions, described for the model that calls them; the work is done elsewhere."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import anyio
import anyio.to_thread
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field, WithJsonSchema

from ..skills_bank.errors import EscError
from ..skills_bank.results import Classification, Selection
from ..skills_bank.taxonomy import Scenario, SeekerState, SupportAction
from .answers import BankHistory, Rollback, SkillList, SkillSummary, SkillText
from .sections import skill_text
from .uris import skill_uri

if TYPE_CHECKING:
    from ..skills_bank.models import Skill
    from .watch import LiveBank

T = TypeVar("T")

WORKERS = 2
"""Selections that run at the same time; each is a few milliseconds of CPU, so more would only queue for the cores."""

_RISK_RULE = (
    "Read `risk` first. At level 'high' no skill comes: follow `risk.guidance`, say `risk.say` as it stands, stay with "
    "the person and bring in a human. At 'elevated' do the safety check before anything else, unless `risk.asked`. "
)

_MESSAGES_SCHEMA: dict[str, Any] = {
    "description": (
        'The conversation so far, newest message last: [{"role": "seeker", "content": "..."}, ...]. The person in '
        "need is 'seeker' ('user' also works), the one who helps is 'supporter' (or 'assistant'); leave out system "
        "and tool messages. Pass the whole talk, verbatim: what the supporter has already done changes the advice. "
        "A plain string is one line of the seeker. At most 20,000 characters a message."
    ),
    "anyOf": [
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "role": {"type": "string", "enum": ["seeker", "supporter", "user", "assistant"]},
                    "content": {"type": "string"},
                },
                "required": ["role", "content"],
            },
        },
        {"type": "string", "minLength": 1},
    ],
}
Messages = Annotated[Any, WithJsonSchema(_MESSAGES_SCHEMA)]
"""Checked by `skills_bank.conversation`, so that every way in gives the same error; hence `Any` here."""

StateHint = Annotated[
    SeekerState | None,
    Field(
        description=(
            "The seeker's state if you have read it from the talk yourself; it then outweighs the encoder's and the "
            "answer says so. Leave it out when unsure."
        )
    ),
]
ScenarioHint = Annotated[
    Scenario | None,
    Field(description="What the talk is about, if you know it (as for `state`). Leave it out when unsure."),
]
SkillName = Annotated[str, Field(min_length=1, max_length=64, description="Skill name, as `select_skill` gives it.")]

READ = {"read_only_hint": True, "open_world_hint": False, "idempotent_hint": True}


@contextmanager
def expected_errors() -> Iterator[None]:
    """Pass errors meant for a person on to the client; anything else stays masked."""
    try:
        yield
    except EscError as error:
        raise ToolError(str(error), log_level=logging.INFO) from error


def add_tools(mcp: FastMCP, live: "LiveBank") -> None:
    """Register the six tools on `mcp`, answering from `live`."""
    limiter = anyio.CapacityLimiter(WORKERS)

    async def in_thread(work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=limiter)

    async def classify_seeker_state(messages: Messages) -> Classification:
        view = await live.view()
        return await in_thread(lambda: view.selector.classify(as_messages(messages)))

    async def select_skill(
        messages: Messages,
        k: Annotated[
            int, Field(ge=1, le=10, description="How many skills at most; 1 to 3 is what a reply can use.")
        ] = 3,
        state: StateHint = None,
        scenario: ScenarioHint = None,
        exclude: Annotated[
            list[str] | None,
            Field(max_length=1000, description="Names of skills not to return, e.g. one that was just tried in vain."),
        ] = None,
        min_score: Annotated[
            float | None,
            Field(ge=0, le=1, description="Skills below this score are left out; the default suits most talks."),
        ] = None,
    ) -> Selection:
        view = await live.view()

        def work() -> Selection:
            return view.selector.select(
                as_messages(messages),
                k=k,
                state=state,
                scenario=scenario,
                exclude=tuple(exclude or ()),
                min_score=min_score,
            )

        return await in_thread(work)

    async def list_skills(
        state: Annotated[SeekerState | None, Field(description="Only skills for this seeker state.")] = None,
        action: Annotated[SupportAction | None, Field(description="Only skills that recommend this action.")] = None,
        scenario: Annotated[Scenario | None, Field(description="Only skills that lean to this situation.")] = None,
        offset: Annotated[int, Field(ge=0, description="Skip so many; `next_offset` of the page before.")] = 0,
        limit: Annotated[int, Field(ge=1, le=100, description="Skills on a page.")] = 50,
    ) -> SkillList:
        bank = (await live.view()).bank
        found = [bank.skills[name] for name in sorted(bank.skills) if _fits(bank.skills[name], state, action, scenario)]
        page = found[offset : offset + limit]
        after = offset + len(page)
        return SkillList(
            skills=tuple(_summary(skill) for skill in page),
            total=len(found),
            next_offset=after if page and after < len(found) else None,
            bank_version=bank.version,
        )

    async def read_skill(
        name: SkillName,
        section: Annotated[
            str | None,
            Field(description="One heading of the skill, e.g. 'What to do' or 'Pitfalls'; leave it out for the whole."),
        ] = None,
    ) -> SkillText:
        bank = (await live.view()).bank
        return skill_text(bank.texts, name, section, bank.version)

    async def bank_history(
        limit: Annotated[int, Field(ge=1, le=100, description="How many versions, newest first.")] = 20,
    ) -> BankHistory:
        return await in_thread(lambda: live.history(limit))

    async def rollback_bank(
        version: Annotated[str, Field(min_length=1, description="Version id, as `bank_history` gives it.")],
    ) -> Rollback:
        return await live.rollback(version)

    for function, title, description, annotations in (
        (
            classify_seeker_state,
            "Read the seeker's state",
            "Tell what state a person in distress is in (15 states), what the talk is about (18 situations) and "
            "whether there is a risk. Call it when you want to know where the person stands, without advice on what to "
            "do; `select_skill` gives the states as well. "
            + _RISK_RULE
            + "Probabilities are calibrated: below about 0.5 "
            "treat the state as a guess and explore.",
            READ,
        ),
        (
            select_skill,
            "Choose a support skill",
            "Choose emotional-support skills for the next reply. Call it before every reply to a person who is upset, "
            "afraid, grieving, lonely or stuck, with the whole talk so far. " + _RISK_RULE + "Then follow "
            "`next_actions` of the first skill in order, in your own words, and mind its `pitfall`. If `skills` is "
            "empty, do what `note` says. Call it again after each seeker message: the advice follows the talk.",
            READ,
        ),
        (
            list_skills,
            "List the bank's skills",
            "List the skills of the bank by name, with what each is for. Call it to browse or to answer what there is; "
            "to find the right one for a talk call `select_skill` instead.",
            READ,
        ),
        (
            read_skill,
            "Read a skill",
            "Read one emotional-support skill, whole or one section. Call it when `select_skill` has named a skill and "
            "you want its wording, examples or escalation rules; follow its body in your next reply, do not recite it.",
            READ,
        ),
        (
            bank_history,
            "History of the bank",
            "List the versions of the skill bank. Call it only when a person who looks after the bank asks; it is of "
            "no use for a talk.",
            READ,
        ),
        (
            rollback_bank,
            "Roll the bank back",
            "Make an earlier version of the skill bank the active one, for every client of this server. Call it only "
            "when a person who looks after the bank asks for that version. The versions after it stay in the history.",
            {"read_only_hint": False, "destructive_hint": True, "idempotent_hint": True, "open_world_hint": False},
        ),
    ):
        mcp.tool(expecting(function), description=description, annotations=ToolAnnotations(title=title, **annotations))


def expecting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with its expected errors turned into `ToolError`; the signature stays the same."""
    from functools import wraps

    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with expected_errors():
            return await function(*args, **kwargs)

    return wrapper


def as_messages(messages: Any) -> Any:
    """Undo one habit of models: a list of messages handed over as JSON text. Everything else passes as it is."""
    if isinstance(messages, str) and messages.lstrip().startswith('[{"') and '"role"' in messages:
        try:
            parsed = json.loads(messages)
        except ValueError:
            return messages
        return parsed if isinstance(parsed, list) else messages
    return messages


def _fits(skill: "Skill", state: SeekerState | None, action: SupportAction | None, scenario: Scenario | None) -> bool:
    return (
        (state is None or state in skill.states)
        and (action is None or action in skill.actions)
        and (scenario is None or scenario in skill.scenarios)
    )


def _summary(skill: "Skill") -> SkillSummary:
    return SkillSummary(
        name=skill.name,
        description=skill.description,
        states=skill.states,
        actions=skill.actions,
        scenarios=skill.scenarios,
        version=skill.version,
        uri=skill_uri(skill.name),
    )
