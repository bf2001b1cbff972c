"""Takes out of a skill what the screen refuses: steps in the library's words, prose without the sentence."""

import re
from collections.abc import Iterator

from ..skills_bank.models import ActionStep, Example, Skill, StatePlan
from ..skills_bank.taxonomy import SupportAction
from .screen import Kind, hits
from .words import Words

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def mended(skill: Skill, words: Words) -> Skill:
    """Return the skill without what is unsafe in it; one that is clean comes back as it is."""
    plans = tuple(
        plan.model_copy(update={"steps": steps})
        for plan in skill.plans
        if (steps := tuple(_steps(skill, plan, words)))
    )  # fmt: skip
    planned = {plan.state for plan in plans}
    return skill.model_copy(
        update={
            "plans": plans,
            "states": tuple(state for state in skill.states if state in planned),
            "description": _safe(skill.description, "when") or skill.description,
            "overview": _safe(skill.overview),
            "expected_outcome": _safe(skill.expected_outcome),
            "risks": _safe(skill.risks),
            "when": tuple(line for line in skill.when if not hits(line, "when")),
            "when_not": tuple(line for line in skill.when_not if not hits(line, "named")),
            "pitfalls": tuple(p for p in skill.pitfalls if not hits(f"{p.text} {p.signal}", "named")),
            "examples": tuple(one for one in skill.examples if not _unsafe(one)),
        }
    )


def _steps(skill: Skill, plan: StatePlan, words: Words) -> Iterator[ActionStep]:
    for step in plan.steps:
        kind: Kind = "told" if step.action == SupportAction.SELF_DISCLOSURE else "spoken"
        if not (step.say and hits(step.say, kind)) and not hits(step.how, "told"):
            yield step
        elif (new := words.step(skill, plan.state, step.action)) is not None:
            yield new


def _safe(text: str, kind: Kind = "told") -> str:
    if not hits(text, kind):
        return text
    return "\n\n".join(
        " ".join(sentence for sentence in _SENTENCE.split(part) if not hits(sentence, kind))
        for part in text.split("\n\n")
    )


def _unsafe(example: Example) -> bool:
    good = example.kind == "good"
    said: list[tuple[Kind, str]] = [
        ("spoken" if good and m.role == "supporter" else "named", m.content) for m in example.lines
    ]
    said.append(("told" if good else "named", example.comment))
    return any(hits(text, kind) for kind, text in said)
