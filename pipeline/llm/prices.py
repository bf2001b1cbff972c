"""List prices by model name: ours from `prices.yaml`, and the user's own before them."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...skills_bank.errors import InputError
from .tokens import Tokens

BATCH_FACTOR = 0.5
"""What a call through the Message Batches API costs (platform.claude.com, models overview: 50% on input and output)."""
_MILLION = 1_000_000


class Price(BaseModel):
    """US dollars per million tokens for the models whose name fits the pattern."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="Name of the model; `*` stands for any characters.")
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_write: float | None = Field(default=None, ge=0, description="Default: the price of input.")
    cache_read: float | None = Field(default=None, ge=0, description="Default: the price of input.")

    def cost(self, tokens: Tokens, *, batch: bool = False) -> float:
        """Return what `tokens` cost."""
        write = self.input if self.cache_write is None else self.cache_write
        read = self.input if self.cache_read is None else self.cache_read
        total = tokens.input * self.input + tokens.output * self.output
        total += tokens.cache_write * write + tokens.cache_read * read
        return total * (BATCH_FACTOR if batch else 1) / _MILLION

    @property
    def dearest_input(self) -> float:
        """The most a million input tokens can cost."""
        return max(self.input, self.cache_write or 0.0)


class Prices:
    """Prices in order; the first whose pattern fits a model's name counts."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._prices = tuple(prices)

    def of(self, model: str) -> Price | None:
        """Return the price of `model`; `None` where none is known."""
        return next((p for p in self._prices if fnmatchcase(model, p.model)), None)

    def known(self, model: str) -> Price:
        """Return the price of `model`.

        Raises:
            InputError: None is known; the message says how to add it.
        """
        price = self.of(model)
        if price is None:
            raise InputError(
                f"The price of {model!r} is unknown, so a cap on money cannot be kept: name it in a file of prices "
                "(ESC_LLM_PRICES; `input: 0` and `output: 0` for a model of your own), or use ESC_LLM_CAP_TOKENS."
            )
        return price


def load_prices(user: Path | None = None) -> Prices:
    """Read the shipped prices, and those of `user` before them.

    Raises:
        InputError: The user's file cannot be read or holds something else.
    """
    shipped = files("esc_skills.pipeline.llm").joinpath("prices.yaml").read_text(encoding="utf-8")
    own: list[Price] = []
    if user is not None:
        try:
            own = _parse(user.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"The file of prices {user} cannot be read: {error.strerror}.") from None
        except (yaml.YAMLError, ValidationError, TypeError) as error:
            raise InputError(f"The file of prices {user} is not in the form of prices.yaml: {error}") from None
    return Prices([*own, *_parse(shipped)])


def _parse(text: str) -> list[Price]:
    held = yaml.safe_load(text)
    if not isinstance(held, dict) or not isinstance(held.get("prices"), list):
        raise TypeError("it needs a list `prices`")
    return [Price.model_validate(each) for each in held["prices"]]
