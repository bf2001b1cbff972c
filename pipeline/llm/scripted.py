"""A client that answers from a script: for tests and offline demos."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from ...skills_bank.errors import LLMAnswerError
from .answers import parse_answer, repair_message, says_no
from .client import LLMMessage, LLMRequest, T

Answer = str | BaseModel


class ScriptedClient:
    """An `LLMClient` whose answers come from a function, checked as a real server's answers are.

    The function may raise: an `LLMError` stands for a server that failed. `requests` keeps what was asked, in order.
    """

    def __init__(self, answers: Callable[[LLMRequest], Answer]) -> None:
        self._answers = answers
        self.requests: list[LLMRequest] = []

    async def text(self, request: LLMRequest) -> str:
        """Return the script's answer; a model is given as its JSON."""
        return _as_text(self._ask(request))

    async def structured(self, request: LLMRequest, schema: type[T]) -> T:
        """Return the script's answer as a `schema`; a misfit is put to the script once more with the error."""
        answer = self._ask(request)
        try:
            return _as_model(answer, schema)
        except ValidationError as error:
            answer = self._ask(_with_error(request, _as_text(answer), error))
        try:
            return _as_model(answer, schema)
        except ValidationError as error:
            raise LLMAnswerError(f"{request.prompt} on {request.subject or 'a request'}", says_no(error)) from None

    def _ask(self, request: LLMRequest) -> Answer:
        self.requests.append(request)
        return self._answers(request)


def _with_error(request: LLMRequest, answer: str, error: ValidationError) -> LLMRequest:
    said = LLMMessage(role="assistant", content=answer)
    return request.model_copy(update={"messages": (*request.messages, said, repair_message(error))})


def _as_text(answer: Answer) -> str:
    return answer if isinstance(answer, str) else answer.model_dump_json()


def _as_model(answer: Any, schema: type[T]) -> T:
    return answer if isinstance(answer, schema) else parse_answer(_as_text(answer), schema)
