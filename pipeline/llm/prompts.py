"""Prompts as files beside their module: `annotate.prompt.md` is the prompt `annotate`, versioned by its text."""

import hashlib
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ...skills_bank.errors import InputError

_VERSION_DIGITS = 6


class Prompt(BaseModel):
    """A prompt file's text with its name and version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    text: str
    version: str

    @property
    def label(self) -> str:
        """Name and version, e.g. `annotate@3f2a9c`: what `LLMRequest.prompt` carries."""
        return f"{self.name}@{self.version}"


def load_prompt(file: str | Path, package: str = "esc_skills.pipeline") -> Prompt:
    """Read a prompt file of `package`, e.g. `load_prompt("annotate.prompt.md")`; an absolute path is read as it is.

    The version is the first six hex digits of the text's SHA-256, so that an edited prompt is a new one everywhere:
    in the journal, in the reports and in what a resumed run asks again.

    Raises:
        InputError: There is no such file.
    """
    source = files(package).joinpath(str(file))
    try:
        text = source.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"No prompt file {str(file)!r} in {package}; add it to the package data.") from None
    version = hashlib.sha256(text.encode()).hexdigest()[:_VERSION_DIGITS]
    return Prompt(name=Path(file).name.split(".", 1)[0], text=text, version=version)
