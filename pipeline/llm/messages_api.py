"""One request to a server that speaks the Messages API, with our own retries; the SDK's are off."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from ...skills_bank.errors import InputError, LLMRefused, LLMUnavailable
from .call import Call, schema_dict, schema_text
from .journal import Reply
from .pace import Pace
from .settings import LLMSettings, Structured
from .tokens import Tokens, billed_tokens

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

R = TypeVar("R")

ANTHROPIC_URL = "https://api.anthropic.com"
_TOOL = "answer"
_SHORTEST_KEY = 6
"""Shorter ones, and the `none` of a server without keys, are words that an error may need."""
_FIRST_WAIT, _LONGEST_BACK_OFF = 0.5, 60.0
_LONGEST_WAIT = 900.0
"""A server that asks for a longer wait than this has a quota, not a busy minute."""
_PASSING = frozenset({408, 409, 425, 429})
_OVERLOADED = frozenset({429, 503, 529})
_QUOTE = 24
"""A server's message that shares so many characters with what was sent quotes it, and is left out of the error."""


class Trouble(NamedTuple):
    """Why a request failed and what to do about it."""

    text: str
    passing: bool
    overloaded: bool = False
    wait: float = 0.0
    """Seconds the server asks for."""


class MessagesAPI:
    """A server that speaks the Messages API. Make it inside a running event loop, and close it."""

    def __init__(self, settings: LLMSettings) -> None:
        self.pace = Pace(settings.llm_in_flight)
        self._structured: Structured = settings.llm_structured
        self._cache = settings.llm_cache
        self._retries = settings.llm_retries
        self._key = settings.key()
        url = settings.llm_base_url or ANTHROPIC_URL
        self._host = urlsplit(url).hostname or url
        self.sdk = _make_sdk(settings, self._key, url)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.sdk.close()

    async def send(self, call: Call) -> Reply:
        """Send one call until it is answered or the retries are used up.

        Raises:
            LLMRefused: The server does not take it.
            LLMUnavailable: The retries are used up.
        """
        body = self.body(call)

        async def once() -> Reply:
            start = time.perf_counter()
            response = await self.sdk.post("/v1/messages", cast_to=_raw(), body=body)
            return read_message(response.json(), call, time.perf_counter() - start)

        return await self.retrying(once, call.name, sent=call)

    async def retrying(
        self, once: Callable[[], Awaitable[R]], name: str, *, sent: Call | None = None, again: bool = True
    ) -> R:
        """Run `once` at the pace of all requests, and again after a failure that may pass.

        Args:
            once: Sends one request.
            name: What the request is called in errors.
            sent: What must not be quoted in an error.
            again: Whether to repeat it; off for a request whose repetition would be paid twice.

        Raises:
            LLMRefused: The server does not take it.
            LLMUnavailable: The retries are used up.
        """
        from anthropic import APIError

        attempt = 0
        while True:
            round_ = await self.pace.enter()
            answered, trouble = False, Trouble("", False)
            try:
                result = await once()
                answered = True
                return result
            except APIError as error:
                trouble = self._trouble(error, sent)
            except (ValueError, KeyError, TypeError, AttributeError):
                # A proxy's error page, or a cut body, with status 200. What it holds is not quoted.
                trouble = Trouble("the server's answer is not a Messages API answer", passing=True)
            finally:
                self.pace.leave(round_, answered=answered, overloaded=trouble.overloaded, wait=trouble.wait)
            if not trouble.passing:
                raise LLMRefused(f"{name}: {trouble.text}") from None
            if not again or attempt >= self._retries or trouble.wait > _LONGEST_WAIT:
                raise LLMUnavailable(f"{name}: {trouble.text}, after {attempt + 1} attempts") from None
            await asyncio.sleep(back_off(attempt, trouble.wait))
            attempt += 1

    def body(self, call: Call) -> dict[str, Any]:
        """Return the request's body."""
        request = call.request
        system = request.system
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.max_tokens,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if call.schema is not None:
            if self._structured == "native":
                body["output_config"] = {"format": {"type": "json_schema", "schema": native_schema(call.schema)}}
            elif self._structured == "tool":
                tool = {"name": _TOOL, "description": "Give the answer.", "input_schema": schema_dict(call.schema)}
                body["tools"], body["tool_choice"] = [tool], {"type": "tool", "name": _TOOL}
            else:
                schema = schema_text(call.schema)
                system += f"\n\nAnswer with one JSON object that fits this JSON schema, and nothing else:\n{schema}"
        if system:
            marked = [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}]
            body["system"] = marked if self._cache else system
        return body

    def _trouble(self, error: Exception, sent: Call | None) -> Trouble:
        from anthropic import APIStatusError, APITimeoutError

        if isinstance(error, APITimeoutError):
            return Trouble("no answer within ESC_LLM_TIMEOUT", passing=True)
        if not isinstance(error, APIStatusError):
            return Trouble(f"{self._host} cannot be reached", passing=True)
        status = error.status_code
        said = error.response.headers.get("x-should-retry")
        passing = said == "true" or (said != "false" and (status in _PASSING or status >= 500))
        text = f"status {status}"
        if isinstance(error.type, str):
            text += f" {error.type}"
        if isinstance(error.api_message, str):
            text += f": {_unquoted(error.api_message, sent)}"
        return Trouble(self._clean(text), passing, status in _OVERLOADED, wait_asked_for(error.response.headers))

    def _clean(self, text: str) -> str:
        key = self._key.get_secret_value()
        return text.replace(key, "***") if len(key) >= _SHORTEST_KEY else text


def read_message(message: dict[str, Any], call: Call | None, latency: float) -> Reply:
    """Read an answer of the Messages API; without a report of its tokens they are estimated, at the upper end."""
    text = answer_text(message["content"])
    tokens = billed_tokens(message.get("usage"))
    if tokens is None:
        tokens = Tokens(input=call.expected_input().high if call else 0, output=-(-len(text.encode()) // 2))
    return Reply(text, str(message.get("stop_reason") or ""), tokens, latency)


def answer_text(content: list[dict[str, Any]]) -> str:
    """Return what was answered: the input of our tool where it was used, else the text; thinking is left out."""
    for block in content:
        if block["type"] == "tool_use" and block["name"] == _TOOL:
            return json.dumps(block["input"], ensure_ascii=False)
    return "".join(block["text"] for block in content if block["type"] == "text")


def back_off(attempt: int, asked: float) -> float:
    """Return the seconds to wait: doubling with jitter, and never less than the server asks for."""
    wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_BACK_OFF) * random.uniform(0.5, 1.0)
    return max(wait, asked * random.uniform(1.0, 1.1))


def wait_asked_for(headers: Any) -> float:
    """Read `retry-after-ms` or `retry-after` (seconds or a date); 0 where there is none or it makes no sense."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        asked = headers.get("retry-after", "0")
        if asked.replace(".", "", 1).isdigit():
            return float(asked)
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


@lru_cache(maxsize=64)
def native_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the schema in the form native structured outputs take.

    Raises:
        InputError: The schema has a part that the form has no place for.
    """
    from anthropic import transform_schema

    try:
        return transform_schema(schema)
    except (ValueError, AssertionError) as error:
        raise InputError(
            f"{schema.__name__} cannot be asked for as a native structured output: {error} "
            "Give each field a type, or set ESC_LLM_STRUCTURED=tool."
        ) from None


def _make_sdk(settings: LLMSettings, key: SecretStr, url: str) -> "AsyncAnthropic":
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient, Omit

    from .lanes import Lanes

    # At DEBUG these loggers write whole requests, messages included.
    for name in ("anthropic", "httpx2", "httpcore2"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
    secret = key.get_secret_value()
    headers: dict[str, Any] = {}
    if settings.llm_auth == "x-api-key":
        headers = {"x-api-key": secret, "Authorization": Omit()}
    return AsyncAnthropic(
        api_key=secret,
        base_url=url,
        timeout=settings.llm_timeout,
        max_retries=0,
        default_headers=headers,
        http_client=DefaultAsyncHttpxClient(transport=Lanes(url), timeout=settings.llm_timeout),
    )


def _raw() -> Any:
    # The plain HTTP answer: building the SDK's own models of it would cost 0.4 ms of CPU a call.
    import httpx2

    return httpx2.Response


def _unquoted(message: str, sent: Call | None) -> str:
    """Return the server's message, unless it quotes what was sent: some servers print the input that they refuse."""
    message = " ".join(message.split())[:300]
    if sent is not None:
        texts = [" ".join(m.content.split()) for m in sent.request.messages]
        for start in range(max(1, len(message) - _QUOTE + 1)):
            if len(message) >= _QUOTE and any(message[start : start + _QUOTE] in text for text in texts):
                return "(the server's message quotes the request and is left out)"
    return message
