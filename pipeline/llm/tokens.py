"""Token counts of a call: what the server reports, and what to expect before it is sent."""

from typing import Any, NamedTuple


class Tokens(NamedTuple):
    """Tokens of one answer, as the server bills them; the four kinds do not overlap."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def total(self) -> int:
        """All tokens, in and out."""
        return self.input + self.output + self.cache_read + self.cache_write


class Range(NamedTuple):
    """A count that is not known yet."""

    low: int
    high: int


def expected_tokens(text: str) -> Range:
    """Say how many tokens `text` may be, without a tokenizer (each model has its own).

    English runs at 3.5 to 4.5 characters a token. The upper end, two bytes a token, holds for other scripts and for
    tokenizers finer than today's: the caps count with it, so that they are not overrun.
    """
    return Range(round(len(text) / 4.5), -(-len(text.encode()) // 2))


def billed_tokens(usage: dict[str, Any] | None) -> Tokens | None:
    """Read the `usage` of a Messages API answer; `None` where the server does not report it."""
    if not usage or "input_tokens" not in usage or "output_tokens" not in usage:
        return None
    return Tokens(
        input=usage["input_tokens"] or 0,
        output=usage["output_tokens"] or 0,
        cache_read=usage.get("cache_read_input_tokens") or 0,
        cache_write=usage.get("cache_creation_input_tokens") or 0,
    )
