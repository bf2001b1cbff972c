"""From a model's answer to a checked object, and what is said to the model when the answer does not fit."""

import re

from pydantic import ValidationError

from .client import LLMMessage, T

_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_MOST_PROBLEMS = 10
"""More would crowd the repair message; a model mends the first ones and the rest follow from them."""


def parse_answer(text: str, schema: type[T]) -> T:
    """Return `text` as a `schema`; a code fence, or prose around one JSON object, is taken off.

    Raises:
        ValidationError: The text is no JSON or does not fit.
    """
    return schema.model_validate_json(_json_part(text))


def says_no(error: ValidationError) -> str:
    """Say what does not fit, place by place, without quoting the values: they may hold a seeker's words."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, p['loc'])) or 'the answer'}: {p['msg']}" for p in problems[:_MOST_PROBLEMS]]
    if len(problems) > _MOST_PROBLEMS:
        lines.append(f"and {len(problems) - _MOST_PROBLEMS} more")
    return "; ".join(lines)


def repair_message(error: ValidationError) -> LLMMessage:
    """Ask for the whole answer again, with the validation error."""
    return LLMMessage(
        role="user",
        content=f"That answer does not fit the schema: {says_no(error)}. Give the whole answer again, mended.",
    )


def _json_part(text: str) -> str:
    fenced = _FENCE.match(text)
    if fenced:
        return fenced.group(1)
    first, last = text.find("{"), text.rfind("}")
    return text[first : last + 1] if 0 <= first < last else text
