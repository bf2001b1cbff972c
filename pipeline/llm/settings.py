"""Settings of everything that talks to a language model; built in entry points only, passed on as an argument."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ...skills_bank.errors import InputError
from .client import Role

Structured = Literal["native", "tool", "text"]


class LLMSettings(BaseSettings):
    """Which models, which server, how fast and how much; each field is read from `ESC_<NAME>` or the names given."""

    model_config = SettingsConfigDict(
        env_prefix="ESC_", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    model_annotator: str | None = Field(default=None, description="Model that labels dialogues.")
    model_writer: str | None = Field(default=None, description="Model that writes skills.")
    model_seeker: str | None = Field(default=None, description="Model that plays a seeker.")
    model_scorer: str | None = Field(default=None, description="Model that scores a talk.")
    model_supporter: str | None = Field(default=None, description="Model that plays the supporter.")
    model_analyzer: str | None = Field(default=None, description="Model that looks for what went wrong.")
    model_generator: str | None = Field(default=None, description="Model that rewrites skills and writes new ones.")

    api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        description="Key of the server; may be left out where ESC_LLM_BASE_URL names a server that needs none.",
    )
    llm_base_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("ESC_LLM_BASE_URL", "ANTHROPIC_BASE_URL"),
        description="A server that speaks the Messages API, without `/v1/messages`. Default: Anthropic's.",
    )
    llm_auth: Literal["bearer", "x-api-key"] = Field(
        default="bearer", description="How the key is sent: `Authorization: Bearer`, as the SDK does, or `x-api-key`."
    )
    llm_structured: Structured = Field(
        default="native",
        description="How a schema is asked for: `native` structured outputs, a forced `tool`, or as `text` in the "
        "instructions. Servers other than Anthropic's often know only one; see docs/models.md.",
    )
    llm_cache: bool = Field(
        default=True, description="Mark the instructions for prompt caching; off for a server that refuses the mark."
    )
    llm_in_flight: int = Field(default=64, ge=1, le=1000, description="Most requests at once.")
    llm_retries: int = Field(default=6, ge=0, le=20, description="Repeats of a request that failed in passing.")
    llm_timeout: float = Field(default=600, gt=0, description="Seconds until a request without an answer is given up.")
    llm_batch: bool = Field(default=False, description="Send bulk work through the Message Batches API (half price).")
    llm_batch_poll: float = Field(default=30, gt=0, description="Seconds between two looks at a batch.")
    llm_cap_calls: int | None = Field(default=None, ge=0, description="Most calls of a run.")
    llm_cap_tokens: int | None = Field(default=None, ge=0, description="Most tokens of a run, in and out together.")
    llm_cap_usd: float | None = Field(default=None, ge=0, description="Most money of a run, in US dollars.")
    llm_prices: Path | None = Field(
        default=None, description="Your own file of prices, in the form of prices.yaml; its lines come first."
    )

    def model_for(self, role: Role) -> str:
        """Return the model set for `role`; there is no default, because a model costs money or has to be served.

        Raises:
            InputError: None is set; the message names the variable.
        """
        model: str | None = getattr(self, f"model_{role}")
        if model is None:
            raise InputError(f"No model for the {role}: set ESC_MODEL_{role.upper()} to a model name of your server.")
        return model

    def key(self) -> SecretStr:
        """Return the key to send.

        Raises:
            InputError: There is none, and the server is Anthropic's.
        """
        if self.api_key is not None:
            return self.api_key
        if self.llm_base_url is None:
            raise InputError("No key: set ANTHROPIC_API_KEY, or ESC_LLM_BASE_URL to a server that needs none.")
        # The SDK insists on one; servers without keys ignore it.
        return SecretStr("none")
