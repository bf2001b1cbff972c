"""Support agents that are a language model: with a plain prompt, or with the selected skills put into it each turn.

With skills the agent does what a host of Agent Skills does (DeerFlow, for one): the SKILL.md texts that fit the moment
stand in the instructions of that turn. At high risk no model is asked: the fixed text is said.
"""

import random
from collections.abc import Sequence
from string import Template

from ..pipeline.llm.client import LLMClient, LLMMessage, LLMRequest, Role
from ..pipeline.llm.prompts import Prompt, load_prompt
from ..skills_bank.models import Message
from ..skills_bank.results import Selection
from .agent import AgentReply, Rail, UsedSkill
from .agents_local import SAFETY
from .sources import SkillSource

PACKAGE = "esc_skills.simulator"
MAX_TOKENS = 400
SKILLS_IN_PROMPT = 2
"""A skill is about 3,000 tokens; a third one hardly ever says something that the first two do not."""


class LLMSupporter:
    """An `Agent` that asks a model for each reply; with a `source`, the bank's skills stand in its instructions."""

    def __init__(
        self, client: LLMClient, model: str, source: SkillSource | None = None, name: str = "no-skill"
    ) -> None:
        """Ask `client` for `model`; take skills from `source`, if there is one."""
        self._client, self._model, self._source, self._name = client, model, source, name
        self._plain = load_prompt("supporter.prompt.md", PACKAGE)
        self._skills = load_prompt("supporter_skills.prompt.md", PACKAGE)
        self._risk = load_prompt("supporter_risk.prompt.md", PACKAGE)

    @property
    def name(self) -> str:
        """Name, model and prompts."""
        prompts = [self._plain] if self._source is None else [self._plain, self._skills, self._risk]
        return f"{self._name} ({self._model}, {', '.join(prompt.label for prompt in prompts)})"

    async def reply(self, talk: Sequence[Message], rng: random.Random) -> AgentReply:
        """Ask the model for the next reply."""
        if self._source is None:
            return AgentReply(text=await self._ask(talk, self._plain.text, self._plain))
        selection = await self._source.select(talk)
        chosen = selection.skills[:SKILLS_IN_PROMPT]
        base = AgentReply(
            text="",
            skills=tuple(UsedSkill(name=s.name, score=s.score, uri=s.uri) for s in chosen),
            followed=chosen[0].name if chosen else None,
            risk=selection.risk.level,
            bank_version=selection.bank_version,
        )
        if selection.risk.level == "high":
            return base.model_copy(update={"text": selection.risk.say, "actions": (SAFETY,), "rail": "fixed"})
        rail: Rail = "check" if _to_ask(selection) else "none"
        text = await self._ask(talk, await self._instructions(selection, self._source), self._skills)
        return base.model_copy(update={"text": text, "rail": rail})

    async def _instructions(self, selection: Selection, source: SkillSource) -> str:
        # In order of name: the same skills give the same text, which the provider's cache then knows.
        parts = [self._plain.text]
        if selection.skills:
            chosen = selection.skills[:SKILLS_IN_PROMPT]
            texts = {skill.name: await source.text(skill.name) for skill in chosen}
            blocks = [f'<skill name="{name}">\n{texts[name].strip()}\n</skill>' for name in sorted(texts)]
            first = f"The first one for this moment: {chosen[0].name}."
            parts.append(Template(self._skills.text).substitute(skills="\n\n".join((first, *blocks))))
        if _to_ask(selection):
            risk = selection.risk
            parts.append(Template(self._risk.text).substitute(guidance=risk.guidance, say=risk.say))
        return "\n".join(parts)

    async def _ask(self, talk: Sequence[Message], system: str, prompt: Prompt) -> str:
        request = LLMRequest(
            role=Role.SUPPORTER,
            model=self._model,
            prompt=prompt.label,
            system=system,
            messages=tuple(_message(message) for message in talk),
            max_tokens=MAX_TOKENS,
        )
        return (await self._client.text(request)).strip()


def _to_ask(selection: Selection) -> bool:
    """Whether the safety question comes before all else: it has not been settled since the last sign."""
    return selection.risk.level == "elevated" and not selection.risk.asked


def _message(message: Message) -> LLMMessage:
    return LLMMessage(role="user" if message.role == "seeker" else "assistant", content=message.content)
