"""One request as it goes out: scrubbed, with its schema, and with the hash it is known by."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from ..scrub import scrub
from .client import LLMMessage, LLMRequest
from .tokens import Range, Tokens, expected_tokens

_MESSAGE_FRAME = 10
"""Tokens a server may put around a message."""
_SCHEMA_FRAME = 700
"""Tokens a server may add to explain a schema or a tool to the model; Claude's tool prompt takes about half of it."""


@dataclass(frozen=True)
class Call:
    """A request whose messages are scrubbed of contact details, and the schema of the answer if there is one."""

    request: LLMRequest
    schema: type[BaseModel] | None
    hash: str
    """SHA-256 of what decides the answer; what is said of the request in reports does not count."""
    root: str
    """The hash of the call that this one mends; its own where it mends none."""

    @classmethod
    def of(cls, request: LLMRequest, schema: type[BaseModel] | None) -> "Call":
        """Scrub and hash `request`."""
        return cls._hashed(request.model_copy(update={"messages": tuple(map(_scrubbed, request.messages))}), schema)

    def with_messages(self, *messages: LLMMessage) -> "Call":
        """Return the call with `messages` at its end."""
        scrubbed = (*self.request.messages, *map(_scrubbed, messages))
        return self._hashed(self.request.model_copy(update={"messages": scrubbed}), self.schema, self.root)

    def with_room(self, max_tokens: int) -> "Call":
        """Return the call with another longest answer."""
        return self._hashed(self.request.model_copy(update={"max_tokens": max_tokens}), self.schema, self.root)

    @property
    def name(self) -> str:
        """What the call is called in errors and logs."""
        return f"{self.request.prompt} on {self.request.subject or self.hash[:12]}"

    def expected_input(self) -> Range:
        """Say how many tokens the call may take in."""
        parts = [self.request.system, *(message.content for message in self.request.messages)]
        if self.schema is not None:
            parts.append(schema_text(self.schema))
        ranges = [expected_tokens(part) for part in parts]
        frame = _MESSAGE_FRAME * (1 + len(self.request.messages)) + (_SCHEMA_FRAME if self.schema is not None else 0)
        return Range(sum(r.low for r in ranges), sum(r.high for r in ranges) + frame)

    def worst(self) -> Tokens:
        """Return the most tokens the call can take."""
        return Tokens(input=self.expected_input().high, output=self.request.max_tokens)

    @classmethod
    def _hashed(cls, request: LLMRequest, schema: type[BaseModel] | None, root: str | None = None) -> "Call":
        parts = [
            request.model,
            request.system,
            [(message.role, message.content) for message in request.messages],
            request.max_tokens,
            request.temperature,
            schema_text(schema) if schema is not None else None,
            *([request.draw] if request.draw else []),
        ]
        text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
        hash_ = hashlib.sha256(text.encode()).hexdigest()
        return cls(request, schema, hash_, root or hash_)


@lru_cache(maxsize=64)
def schema_text(schema: type[BaseModel]) -> str:
    """Return the JSON schema of `schema` as text, the same for the same model on every run."""
    return json.dumps(schema_dict(schema), sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=64)
def schema_dict(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of `schema`; shared, not to be changed."""
    return schema.model_json_schema()


def _scrubbed(message: LLMMessage) -> LLMMessage:
    text, counts = scrub(message.content)
    return LLMMessage(role=message.role, content=text) if counts else message
