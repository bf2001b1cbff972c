"""A dry run: the calls a simulation would make, in number, tokens and money, before one is made.

Every talk is rehearsed to its last round with a client that answers at once, as long as answers usually are, and moves
nobody. Real talks often end sooner, so the upper end is one; the caps count what is really spent.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ..pipeline.llm.call import schema_dict
from ..pipeline.llm.client import LLMRequest, Role, T
from .casting import CastRecipe
from .engine import Task, hold
from .sources import BankSource, load_selector

if TYPE_CHECKING:
    from ..pipeline.llm.plan import Plan
    from ..pipeline.llm.settings import LLMSettings

FILLER = "It has been like this for weeks, and every evening I go over it again and do not get anywhere. "
LENGTH = {Role.SUPPORTER: 3, Role.SEEKER: 2, Role.SCORER: 2}
"""How often the filler stands in an answer."""


class Rehearser:
    """An `LLMClient` that remembers what it was asked and answers with filler."""

    def __init__(self) -> None:
        self.asked: list[tuple[LLMRequest, type[BaseModel] | None]] = []

    async def text(self, request: LLMRequest) -> str:
        """Answer with filler, each time another."""
        self.asked.append((request, None))
        return f"{len(self.asked)}. " + FILLER * LENGTH.get(request.role, 1)

    async def structured(self, request: LLMRequest, schema: type[T]) -> T:
        """Answer with the least object that fits."""
        self.asked.append((request, schema))
        whole = schema_dict(schema)
        return schema.model_validate(filled(whole, whole, FILLER.strip()))


async def rehearse(recipe: CastRecipe, tasks: Iterable[Task], settings: "LLMSettings") -> "Plan":
    """Return what the talks of `tasks` would take at most.

    Raises:
        InputError: There is a cap on money and a model's price is unknown.
    """
    from ..pipeline.llm.budget import Caps
    from ..pipeline.llm.plan import make_plan
    from ..pipeline.llm.prices import load_prices
    from .casting import WITH_BANK, shared_reader

    client = Rehearser()
    source: Any = None
    if recipe.agent in WITH_BANK:
        source = BankSource(load_selector(recipe.bank, shared_reader(), recipe.region))
    cast = recipe.cast(client, source)
    for task in tasks:
        await hold(cast, task)
    caps = Caps(calls=settings.llm_cap_calls, tokens=settings.llm_cap_tokens, usd=settings.llm_cap_usd)
    return make_plan(client.asked, load_prices(settings.llm_prices), caps=caps)


def filled(schema: dict[str, Any], root: dict[str, Any], text: str) -> Any:
    """Return a small value that fits a JSON schema; `root` holds the definitions."""
    if "$ref" in schema:
        return filled(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, text)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "allOf"):
        if key in schema:
            return filled(schema[key][0], root, text)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: filled(fields[name], root, text) for name in schema.get("required", ())}
        case "array":
            return [filled(schema["items"], root, text)] * schema.get("minItems", 0)
        case "string":
            return text[: schema.get("maxLength", len(text))]
        case "integer" | "number":
            return min(max(0, schema.get("minimum", 0)), schema.get("maximum", 0) or 0)
        case "boolean":
            return False
    return None
