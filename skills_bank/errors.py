"""Every error this project raises on purpose.

EscError
  SkillNotFound       no skill of that name is in the bank
  SkillParseError     a SKILL.md that cannot be read as a skill
  BankError           a bank folder that is missing, broken or locked
    VersionNotFound   no version of that id is in the bank's history
    BankLocked        another process is writing to the bank
  ModelError          the encoder's files are missing or do not match their checksum
  CorpusError         a file that is no dialogue corpus at all
  InputError          a caller's input that cannot be used, with the fix named
"""

from collections.abc import Iterable


class EscError(Exception):
    """Base of all errors that carry a message meant for a person."""


class SkillNotFound(EscError):
    """No skill of that name is in the bank."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"No skill {name!r}. Known skills: {', '.join(sorted(known)) or 'none'}.")


class SkillParseError(EscError):
    """A SKILL.md that cannot be read as a skill; `problems` names each fault with its fix."""

    def __init__(self, where: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{where}: " + "; ".join(self.problems))


class BankError(EscError):
    """A bank folder that is missing, broken or locked."""


class VersionNotFound(BankError):
    """No version of that id is in the bank's history."""

    def __init__(self, version: str, known: Iterable[str]) -> None:
        super().__init__(f"No bank version {version!r}. Known versions: {', '.join(known) or 'none'}.")


class BankLocked(BankError):
    """Another process is writing to the bank."""


class ModelError(EscError):
    """The encoder's files are missing or do not match their checksum."""


class CorpusError(EscError):
    """A file that is no dialogue corpus at all."""


class InputError(EscError):
    """A caller's input that cannot be used; the message names the thing and the fix."""
