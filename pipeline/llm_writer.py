"""A skill written by a model: the dossier in, SKILL.md out, checked as a whole and sent back with every problem."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from ..skills_bank.errors import InputError, SkillParseError, SkillWriteError
from ..skills_bank.models import Skill
from ..skills_bank.skillmd import parse_skill
from ..skills_bank.validate import problems_in_skill
from .llm.client import LLMClient, LLMMessage, LLMRequest, Role
from .llm.prompts import load_prompt
from .overlap import RUN, copied, corpus_runs
from .writers import DossierFacts, signed, skill_files

REPAIRS = 2
MAX_TOKENS = 8_000
"""The longest page has about 5,000 tokens; the rest is room."""
_FENCE = re.compile(r"\A\s*```[a-z]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_QUOTED = re.compile(r"^\s*> (?:Seeker|Supporter): (.*)$", re.MULTILINE)
_SHOWN_RUNS = 5


class LLMWriter:
    """A `SkillWriter` that asks a model. It sees one cluster's dossier and the names of its neighbours."""

    def __init__(
        self,
        client: LLMClient,
        model: str,
        *,
        corpus: frozenset[int] = frozenset(),
        repairs: int = REPAIRS,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        """Set up the writer.

        Args:
            client: Answers the requests.
            model: Name of the model on the server.
            corpus: Hashes of the corpus's runs of words (`corpus_runs`), none of which may stand in a skill; the
                snippets of the dossier count as corpus in any case.
            repairs: How often a draft goes back with its problems.
            max_tokens: The longest answer.
        """
        self._client, self._model = client, model
        self._corpus, self._repairs, self._max_tokens = corpus, repairs, max_tokens
        task, rules = load_prompt("llm_writer.prompt.md"), load_prompt("author.prompt.md")
        self._system = f"{task.text}\n{rules.text}"
        self.prompt = f"{task.label}+{rules.label}"

    async def write(self, facts: DossierFacts, taken: Collection[str] = ()) -> Skill:
        """Return the skill that the model wrote from a dossier.

        Raises:
            InputError: The facts hold no dossier text (`gather` was called without units).
            SkillWriteError: The last draft still has problems.
            LLMError: The model gave no answer.
        """
        if not facts.text:
            raise InputError(f"Cluster {facts.cluster.id} has no dossier text; pass units and moments to `gather`.")
        guarded = self._corpus | corpus_runs(_QUOTED.findall(facts.text))
        messages = [LLMMessage(role="user", content=_task(facts, taken))]
        problems: list[str] = []
        for _ in range(self._repairs + 1):
            text = _bare(await self._client.text(self._request(facts, messages)))
            skill, problems = self._read(text, facts, taken, guarded)
            if skill is not None and not problems:
                return skill
            messages += [LLMMessage(role="assistant", content=text), LLMMessage(role="user", content=_listed(problems))]
        raise SkillWriteError(facts.cluster.id, problems)

    def _request(self, facts: DossierFacts, messages: Iterable[LLMMessage]) -> LLMRequest:
        return LLMRequest(
            role=Role.WRITER,
            model=self._model,
            prompt=self.prompt,
            system=self._system,
            messages=tuple(messages),
            max_tokens=self._max_tokens,
            subject=facts.cluster.id,
        )

    def _read(
        self, text: str, facts: DossierFacts, taken: Collection[str], guarded: frozenset[int]
    ) -> tuple[Skill | None, list[str]]:
        """Return the skill of a draft, if it can be read, and all of its problems."""
        problems = _copied(text, guarded)
        try:
            skill = signed(parse_skill(text, "your page"), facts, f"{self._model} {self.prompt}")
        except SkillParseError as error:
            return None, [*error.problems, *problems]
        return skill, [*_strict(skill, facts), *_outside(skill, facts), *_taken(skill, taken), *problems]


def _task(facts: DossierFacts, taken: Collection[str]) -> str:
    names = ", ".join(sorted(taken))
    return facts.text + (f"\nNames already taken by other skills: {names}.\n" if names else "")


def _listed(problems: Iterable[str]) -> str:
    return "\n".join(["The page has these problems:", "", *(f"- {problem}" for problem in problems)])


def _bare(text: str) -> str:
    """Return the page without a code fence round it."""
    match = _FENCE.match(text)
    return (match[1] if match else text).strip() + "\n"


def _strict(skill: Skill, facts: DossierFacts) -> list[str]:
    """Return what the strict check of a bank says of the skill, evidence included, as it will be served."""
    try:
        files = skill_files(skill, facts)
    except SkillParseError as error:
        return list(error.problems)
    with TemporaryDirectory() as scratch:
        for name, content in files.items():
            path = Path(scratch) / skill.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        found = problems_in_skill(Path(scratch) / skill.name, strict=True)
    return [problem.detail for problem in found]


def _outside(skill: Skill, facts: DossierFacts) -> list[str]:
    """Return the steps that stand on no prototype of this cluster."""
    cells = set(facts.cluster.prototypes)
    return [
        f"{step.action.value!r} in {plan.state.value!r} has no prototype in this dossier; take the step out."
        for plan in skill.plans
        for step in plan.steps
        if (plan.state, step.action) not in cells
    ]


def _taken(skill: Skill, taken: Collection[str]) -> list[str]:
    return [f"The name {skill.name!r} is taken; choose another."] if skill.name in taken else []


def _copied(text: str, guarded: frozenset[int]) -> list[str]:
    runs = copied(text, guarded)
    told = [
        f"{RUN} words in a row are copied from the corpus; say it in your own: {run!r}." for run in runs[:_SHOWN_RUNS]
    ]
    return told + ([f"So are {len(runs) - _SHOWN_RUNS} more runs of words."] if len(runs) > _SHOWN_RUNS else [])
