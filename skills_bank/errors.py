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
  JobError            a job that cannot be started, resumed or read; or the bank is being built by another
    JobNotFound       no job of that id is there
  SkillWriteError     no valid skill came about for a cluster; `cluster` and `problems` say which and why
  GenerationError     no text came about for a proposal; `reason` says why
  LLMError            a call to a language model gave no usable answer
    LLMRefused        the server said no (4xx): a key, a model name or a request it does not take
    LLMUnavailable    the server could not be reached or failed, and the retries are used up
    LLMAnswerError    it answered, twice, but not with what was asked for; `reason` says why
    BudgetError       a cap on calls, tokens or money is reached; nothing more is sent
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


class LLMError(EscError):
    """A call to a language model gave no usable answer."""


class LLMRefused(LLMError):
    """The server said no (a 4xx that does not pass by waiting): a key, a model name or a request it does not take."""


class LLMUnavailable(LLMError):
    """The server could not be reached, was over capacity or failed, and the retries are used up."""


class LLMAnswerError(LLMError):
    """The model answered, twice, but not with what was asked for; `reason` says why without quoting the dialogue."""

    def __init__(self, where: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{where}: {reason}")


class BudgetError(LLMError):
    """A cap on calls, tokens or money is reached; nothing more is sent until the cap is raised."""


class SkillWriteError(EscError):
    """No valid skill came about for a cluster; `problems` names each fault of the last draft."""

    def __init__(self, cluster: str, problems: Iterable[str]) -> None:
        self.cluster = cluster
        self.problems = tuple(problems)
        super().__init__(f"No valid skill for cluster {cluster}: " + "; ".join(self.problems))


class GenerationError(EscError):
    """No text came about for a proposal: nothing can be changed, or none that may stand; `reason` says which."""

    def __init__(self, proposal: str, reason: str) -> None:
        self.proposal = proposal
        self.reason = reason
        super().__init__(f"No text for {proposal}: {reason}")


class JobError(EscError):
    """A job that cannot be started, resumed or read; or another one is at work on the same bank."""


class JobNotFound(JobError):
    """No job of that id is there."""

    def __init__(self, job: str, known: Iterable[str]) -> None:
        super().__init__(f"No job {job!r}. Newest jobs: {', '.join(known) or 'none'}.")
