"""Lets a language model write the text that a proposal asks for: the page, the findings and bad talks in, SKILL.md out.

What the model is given is what Zhu et al. 2026 give it: for a refinement the original page, up to two talks in which it
went badly, and reports on the lowest profiles; for a new skill the template, up to two talks that asked for it, and the
reports; after a failed attempt its text and what came of it. The answer is checked as a whole; every fault is told back
once.
"""

import re
from collections.abc import Iterable, Sequence
from string import Template

from pydantic import BaseModel, ConfigDict, Field

from ..pipeline.llm.client import LLMClient, LLMMessage, LLMRequest, Role
from ..pipeline.llm.prompts import Prompt, load_prompt
from ..pipeline.overlap import RUN, copied, corpus_runs
from ..simulator.meter import Tally, tally
from ..simulator.session import Transcript
from ..skills_bank.bank import Bank
from ..skills_bank.errors import GenerationError, LLMAnswerError, SkillParseError
from ..skills_bank.models import Skill
from ..skills_bank.skillmd import parse_skill
from ..skills_bank.taxonomy import ACTION_INFO, SCENARIO_INFO, STATE_INFO
from .generation import Brief, candidate_of, complete, in_words, same_text
from .llm_analyzer import told
from .models import Candidate, Finding, Proposal, ProposalKind
from .screen import screen

PACKAGE = "esc_skills.evolve"
TASKS = {ProposalKind.REFINE: "refine.prompt.md", ProposalKind.CREATE: "create.prompt.md"}
RULES, GRAMMAR = "page_rules.prompt.md", "# The grammar of SKILL.md"
ANSWER_TOKENS = 10_000
"""The longest page has about 5,000 tokens; as JSON it grows, and the rest is room."""
REPAIRS = 1
MOST_PROBLEMS = 12
_FENCE = re.compile(r"\A\s*```[a-z]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_TAG = re.compile(r"</?(?=(?:page|findings|talk|seeker|report|attempt|pages)\b)")


class NewText(BaseModel):
    """What the model answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    skill_md: str = Field(min_length=1, description="The whole text of the SKILL.md, from its first --- to its end.")
    what_changed: str = Field(min_length=1, description="What was changed and why, in a few short lines.")


class LLMGenerator:
    """A `Generator` that asks a language model."""

    def __init__(
        self, client: LLMClient, model: str, *, max_tokens: int = ANSWER_TOKENS, temperature: float | None = None
    ) -> None:
        """Ask `client` for `model`."""
        self._client, self._model = client, model
        self._max_tokens, self._temperature = max_tokens, temperature
        rules = page_rules()
        self._tasks = {kind: load_prompt(file, PACKAGE) for kind, file in TASKS.items()}
        self._systems = {kind: f"{task.text}\n{rules.text}" for kind, task in self._tasks.items()}
        self._labels = {kind: f"{task.label}+{rules.label}" for kind, task in self._tasks.items()}

    @property
    def name(self) -> str:
        """The model with the versions of its prompts."""
        labels = "+".join(task.label for task in self._tasks.values())
        return f"llm:{self._model} {labels}"

    async def generate(self, brief: Brief, bank: Bank) -> Candidate:
        """Return the text that the model wrote.

        Raises:
            GenerationError: It gave no text, or the second one may not stand in the bank either.
            BudgetError: A cap is reached.
            LLMUnavailable: The server failed.
            LLMRefused: The server does not take the request.
        """
        proposal = brief.proposal
        if proposal.skill is not None and proposal.skill not in bank.skills:
            raise GenerationError(proposal.id, f"there is no skill {proposal.skill!r} in the bank")
        messages = [LLMMessage(role="user", content=task_of(brief, bank))]
        problems: list[str] = []
        with tally() as spent:
            for _ in range(REPAIRS + 1):
                request = self.request(brief, messages)
                answer = await self._ask(request, proposal)
                candidate, problems = self._candidate(brief, bank, answer)
                if candidate is not None and not problems:
                    return _counted(candidate, request, spent)
                messages += [
                    LLMMessage(role="assistant", content=answer.model_dump_json()),
                    LLMMessage(role="user", content=_listed(problems)),
                ]
        raise GenerationError(proposal.id, "the model's second text has problems too: " + "; ".join(problems))

    def request(self, brief: Brief, messages: Sequence[LLMMessage]) -> LLMRequest:
        """Return the call; its schema is `NewText`."""
        kind = brief.proposal.kind
        return LLMRequest(
            role=Role.GENERATOR,
            model=self._model,
            prompt=self._labels[kind],
            system=self._systems[kind],
            messages=tuple(messages),
            max_tokens=self._max_tokens,
            temperature=self._temperature,
            subject=f"{brief.proposal.id}.{brief.attempt}",
        )

    async def _ask(self, request: LLMRequest, proposal: Proposal) -> NewText:
        try:
            return await self._client.structured(request, NewText)
        except LLMAnswerError as error:
            raise GenerationError(proposal.id, f"the model gave no usable answer: {error.reason}") from error

    def _candidate(self, brief: Brief, bank: Bank, answer: NewText) -> tuple[Candidate | None, list[str]]:
        """Return the candidate, if the text can be read, and all its problems."""
        text = bare(answer.skill_md)
        problems = _quoted(text, brief.bad)
        try:
            page = parse_skill(text, "your page")
            problems += _misnamed(page, brief.proposal, bank)
            old = brief.proposal.skill
            if old is not None and same_text(page, bank.skills[old]):
                problems.append("The text is the old one. Change what the findings show to be wrong.")
            label = f"{self._model} {self._labels[brief.proposal.kind]}"
            skill, files = complete(page, bank, old=old, written_by=label)
        except SkillParseError as error:
            return None, [*error.problems, *problems]
        what = answer.what_changed.strip()
        candidate = candidate_of(brief, skill, files, what=what, generator=f"llm:{label}")
        return candidate, [*problems, *screen(candidate, bank)]


def page_rules() -> Prompt:
    """Return what every page keeps to, with the taxonomy and the template filled in."""
    prompt = load_prompt(RULES, PACKAGE)
    author = load_prompt("author.prompt.md")
    grammar = GRAMMAR + author.text.partition(GRAMMAR)[2]
    filled = Template(prompt.text).substitute(
        states=_ids(STATE_INFO), actions=_ids(ACTION_INFO), scenarios=_ids(SCENARIO_INFO), grammar=grammar
    )
    return prompt.model_copy(update={"text": filled})


def task_of(brief: Brief, bank: Bank) -> str:
    """Return what the model is given for one attempt."""
    proposal = brief.proposal
    parts = [f"<findings>\n{_listed_findings(proposal)}\n</findings>"]
    if proposal.skill is not None:
        parts.insert(0, f"<page>\n{bank.texts[proposal.skill]}\n</page>")
    else:
        parts.append(f"<pages>\n{_pages(bank)}\n</pages>")
    parts += [told(talk) for talk in brief.bad]
    parts += [f"<report>\n{_TAG.sub('(', report)}\n</report>" for report in brief.reports]
    if brief.last is not None:
        parts.append(f"<attempt>\n{brief.last.files.get('SKILL.md', '')}\n</attempt>")
    if brief.feedback is not None:
        parts.append(_feedback(brief))
    return "\n\n".join(parts)


def bare(text: str) -> str:
    """Return a page without a code fence round it."""
    match = _FENCE.match(text)
    return (match[1] if match else text).strip() + "\n"


def _ids(info: dict) -> str:
    return "\n".join(f"- `{member}`: {entry.definition}" for member, entry in info.items())


def _pages(bank: Bank) -> str:
    return "\n".join(f"- {name}: {skill.description}" for name, skill in bank.skills.items())


def _listed_findings(proposal: Proposal) -> str:
    lines = [f"Proposal: {proposal.title} ({proposal.talks} talks, {proposal.turns} replies)"]
    return "\n".join([*lines, *map(_finding, proposal.findings)])


def _finding(finding: Finding) -> str:
    text = f"- {finding.kind}: {finding.what} ({finding.turns} replies"
    text += f", {finding.effect:+.1f} points a reply)" if finding.effect is not None else ")"
    if finding.context.states:
        text += f" States: {', '.join(finding.context.states)}."
    if finding.avoid:
        text += f" Went badly: {', '.join(finding.avoid)}."
    if finding.favour:
        text += f" Went well: {', '.join(finding.favour)}."
    if finding.reword:
        text += f" Needs other words: {', '.join(finding.reword)}."
    return text


def _feedback(brief: Brief) -> str:
    assert brief.feedback is not None
    told_ = [f"Attempt {brief.feedback.attempt} was not taken: {brief.feedback.reason}"]
    if brief.feedback.worse_actions:
        told_.append(f"Its replies did worse by: {in_words(brief.feedback.worse_actions)}.")
    if brief.feedback.worse_profiles:
        told_.append(f"{len(brief.feedback.worse_profiles)} seekers ended lower with it.")
    return "\n".join(told_)


def _quoted(text: str, talks: Iterable[Transcript]) -> list[str]:
    """Return what a page repeats of the seekers' words it was shown."""
    said = [line for talk in talks for line in (talk.opening, *(turn.seeker or "" for turn in talk.turns))]
    runs = copied(text, corpus_runs(said))
    return [f"{RUN} words in a row are a seeker's of these talks; say it in your own: {run!r}." for run in runs[:3]]


def _misnamed(page: Skill, proposal: Proposal, bank: Bank) -> list[str]:
    if proposal.skill is not None and page.name != proposal.skill:
        return [f"The name is {page.name!r}; it has to stay {proposal.skill!r}."]
    if proposal.skill is None and page.name in bank.skills:
        return [f"The name {page.name!r} is taken; choose another."]
    return []


def _listed(problems: Sequence[str]) -> str:
    shown = [f"- {problem}" for problem in problems[:MOST_PROBLEMS]]
    more = [f"- and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
    return "\n".join(
        ["The page has these problems. Mend every one and answer with the whole page again.", *shown, *more]
    )


def _counted(candidate: Candidate, request: LLMRequest, spent: Tally) -> Candidate:
    sent = [("system", request.system), *((message.role, message.content) for message in request.messages)]
    return candidate.model_copy(
        update={
            "prompt": "\n\n".join(f"[{role}]\n{content}" for role, content in sent),
            "tokens": spent.tokens,
            "usd": spent.usd if spent.calls else None,
        }
    )
