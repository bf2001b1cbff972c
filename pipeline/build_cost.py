"""What the model calls of a build would take, said before anything is sent."""

from pathlib import Path

from .build_parts import JOURNAL, annotation_requests
from .build_plan import DEFAULT_SKILLS, BuildPlan
from .corpus import CorpusReader
from .llm.budget import Caps
from .llm.client import Role
from .llm.journal import Journal
from .llm.plan import Plan, PlanLine, make_plan
from .llm.prices import Prices, load_prices
from .llm.settings import LLMSettings
from .llm.tokens import Range, Tokens

DOSSIER_TOKENS = Range(4_000, 14_000)
"""A dossier and the instructions; the dossiers of the shipped clusters lie within. The real ones exist only once the
corpus is annotated, so that a dry run can but guess the writer's part."""
PAGE_TOKENS = Range(2_000, 8_000)
ATTEMPTS = Range(1, 3)
"""A draft and up to two repairs, each of which repeats what came before."""


def estimate(plan: BuildPlan, settings: LLMSettings, root: Path) -> str:
    """Return the plan of calls as lines for a person.

    Args:
        plan: The build.
        settings: Models and caps, those of the plan included.
        root: Folder of the jobs, where the journal of earlier calls lies.
    """
    prices = load_prices(settings.llm_prices)
    caps = Caps(calls=settings.llm_cap_calls, tokens=settings.llm_cap_tokens, usd=settings.llm_cap_usd)
    lines: list[PlanLine] = []
    if plan.annotator == "llm":
        lines += _annotation(plan, settings, prices, root / JOURNAL, caps).lines
    if plan.writer == "llm":
        lines.append(_writing(plan, settings.model_for(Role.WRITER), prices))
    return Plan(lines=tuple(lines), batch=settings.llm_batch).text(caps)


def _annotation(plan: BuildPlan, settings: LLMSettings, prices: Prices, journal: Path, caps: Caps) -> Plan:
    requests = annotation_requests(settings.model_for(Role.ANNOTATOR), CorpusReader().read(*plan.paths))
    if not journal.is_file():
        return make_plan(requests, prices, batch=settings.llm_batch, caps=caps)
    known = Journal(journal)
    try:
        return make_plan(requests, prices, journal=known, batch=settings.llm_batch, caps=caps)
    finally:
        known.close()


def _writing(plan: BuildPlan, model: str, prices: Prices) -> PlanLine:
    """Return the writer's part; its upper end repeats the dossier and every earlier draft with each repair."""
    skills = DEFAULT_SKILLS if plan.skills == "auto" else plan.skills
    most = ATTEMPTS.high
    drafts = sum(range(most))
    low = Tokens(input=skills * DOSSIER_TOKENS.low, output=skills * PAGE_TOKENS.low)
    high = Tokens(
        input=skills * (most * DOSSIER_TOKENS.high + drafts * PAGE_TOKENS.high), output=skills * most * PAGE_TOKENS.high
    )
    price = prices.of(model)
    return PlanLine(
        role=Role.WRITER,
        model=model,
        prompt="llm_writer, a guess",
        calls=skills * most,
        known=0,
        input=Range(low.input, high.input),
        output=Range(low.output, high.output),
        usd=None if price is None else (price.cost(low), price.cost(high)),
    )
