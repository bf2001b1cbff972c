"""The shape of a call to a language model: who is asked, what is asked, what comes back."""

from enum import StrEnum
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T", bound=BaseModel)


class Role(StrEnum):
    """What a model is asked to be; each role has a model setting of its own, `ESC_MODEL_<ROLE>`."""

    ANNOTATOR = "annotator"
    WRITER = "writer"
    SEEKER = "seeker"
    SCORER = "scorer"
    SUPPORTER = "supporter"
    ANALYZER = "analyzer"
    GENERATOR = "generator"


class LLMMessage(BaseModel):
    """One message of the conversation with the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["user", "assistant"]
    content: str


class LLMRequest(BaseModel):
    """One call. What the server does not see (`role`, `prompt`, `subject`) is for the journal and the reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    model: str = Field(min_length=1, description="The model's name on the server.")
    prompt: str = Field(description="Name and version of the prompt, e.g. `annotate@3f2a9c`; see `load_prompt`.")
    system: str = Field(description="The long instructions: the same text over many calls, cached by the provider.")
    messages: tuple[LLMMessage, ...] = Field(min_length=1)
    max_tokens: int = Field(ge=1, description="The longest answer.")
    temperature: float | None = Field(default=None, ge=0, le=2)
    subject: str = Field(default="", description="What the call is about, e.g. a dialogue id; for reports, not sent.")
    draw: str = Field(default="", description="Of two calls that ask the same, each draw is answered anew; not sent.")


class LLMClient(Protocol):
    """Anything that answers requests: a server that speaks the Messages API, or a script."""

    async def text(self, request: LLMRequest) -> str:
        """Return the answer as text.

        Raises:
            LLMRefused: The server does not take the request; asking again will not help.
            LLMUnavailable: The server failed or could not be reached until the retries were used up.
            LLMAnswerError: The answer is empty or was cut off at `max_tokens`, twice.
            BudgetError: A cap is reached.
        """
        ...

    async def structured(self, request: LLMRequest, schema: type[T]) -> T:
        """Return the answer as a `schema`; one that does not fit is asked for once more with the validation error.

        Raises:
            LLMRefused: The server does not take the request; asking again will not help.
            LLMUnavailable: The server failed or could not be reached until the retries were used up.
            LLMAnswerError: The second answer does not fit either.
            BudgetError: A cap is reached.
        """
        ...
