"""A fault found in a skill or a bank: where it is, what it is, and what to do about it."""

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """One fault. Validation returns a list of these, so that one run names everything there is to fix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(description="The file or folder the fault is in.")
    field: str = Field(description="The frontmatter key or section.")
    message: str = Field(description="What is wrong.")
    fix: str = Field(description="What to do about it.")
    line: int | None = Field(default=None, description="Line in the file, from 1, where it is known.")

    def __str__(self) -> str:
        return f"{self.file}{f':{self.line}' if self.line else ''}: {self.detail}"

    @property
    def detail(self) -> str:
        """The fault without its file and line."""
        return f"{self.field}: {self.message} Fix: {self.fix}"


class ProblemLog:
    """Collects the problems of one file while it is read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def add(self, field: str, message: str, fix: str, line: int | None = None) -> None:
        """Note one problem."""
        self.problems.append(Problem(file=self.file, field=field, message=message, fix=fix, line=line))
