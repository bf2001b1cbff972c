"""Settings from the environment (prefix `ESC_`): built in entry points only, passed on as plain arguments."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Shipped = Literal["S0", "S1"]
"""The banks in the package."""


class Settings(BaseSettings):
    """Everything a user can set from outside; each field is read from `ESC_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="ESC_", env_ignore_empty=True, extra="ignore", frozen=True)

    bank_dir: Path | None = Field(
        default=None,
        description="Bank folder: a bank with versions, or a plain folder of skills. Default: the user's data folder; "
        "where nothing is there yet, the shipped bank is served.",
    )
    shipped_bank: Shipped = Field(
        default="S0", description="Which bank of the package is served where the bank folder holds none: S0 or S1."
    )
    region: str = Field(
        default="international", description="Region of the helplines shown at risk, e.g. 'US', 'GB', 'international'."
    )
    helplines: Path | None = Field(
        default=None, description="Your own file of helplines, in the form of helplines.yaml; replaces regions of it."
    )
    threads: int = Field(
        default=1, ge=1, le=64, description="CPU threads of one reading by the encoder; more pay on idle cores only."
    )
    host: str = Field(default="127.0.0.1", description="Address the HTTP server listens on.")
    port: int = Field(default=8765, ge=0, le=65535, description="Port the HTTP server listens on; 0 takes a free one.")
    token: SecretStr | None = Field(
        default=None, description="Bearer token for HTTP; required when `host` is not a loopback address."
    )
    min_score: float | None = Field(
        default=None, ge=0, le=1, description="Least score of a selected skill; default: the fitted one."
    )
    watch: bool = Field(default=True, description="Whether edits of the bank on disk go live at once.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level of the log on stderr."
    )
    max_request_bytes: int = Field(default=262_144, ge=1024, description="Largest HTTP request body.")
    requests_per_minute: int = Field(default=240, ge=1, description="HTTP requests allowed a minute and client.")
