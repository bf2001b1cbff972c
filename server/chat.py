"""`esc-skills chat`: a talk in the terminal, with what the bank reads in it and advises at each turn.

The person at the keyboard plays the seeker and, with `/s`, the supporter. Nothing is stored.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from ..skills_bank.errors import EscError, SkillNotFound
from ..skills_bank.models import Message
from .terminal import show_selection, show_state

if TYPE_CHECKING:
    from ..skills_bank.results import Selection
    from ..skills_bank.select import Selector

HELP = """\
Type as the person who seeks support; each line is read and a skill is chosen.
  /s TEXT      what the supporter answers, so that the advice follows the talk
  /why         why these skills: matched state, closest facet, evidence
  /skill NAME  a skill in full (the chosen one without NAME)
  /new         forget the talk and begin again
  /quit        leave"""


class Chat:
    """One talk. `handle` takes a line and prints; it returns False when the talk is over."""

    def __init__(self, selector: "Selector", out: Console) -> None:
        self._selector, self._out = selector, out
        self._messages: list[Message] = []
        self._last: Selection | None = None

    def handle(self, line: str) -> bool:
        """Take one typed line."""
        line = line.strip()
        try:
            return self._command(line) if line.startswith("/") else self._seeker(line)
        except EscError as error:
            self._out.print(escape(str(error)), style="red")
            return True

    def _command(self, line: str) -> bool:
        name, _, rest = line.partition(" ")
        match name:
            case "/quit" | "/q" | "/exit":
                return False
            case "/s":
                self._supporter(rest.strip())
            case "/why":
                self._why()
            case "/skill":
                self._skill(rest.strip())
            case "/new":
                self._messages, self._last = [], None
                self._out.print("A new talk.", style="dim")
            case _:
                self._out.print(HELP, style="dim", markup=False)
        return True

    def _seeker(self, text: str) -> bool:
        if not text:
            return True
        messages = [*self._messages, Message(role="seeker", content=text)]
        state = self._selector.classify(messages)
        self._last = self._selector.select(messages)
        self._messages = messages
        if state.risk.level == "high":
            show_selection(self._out, self._last)
        else:
            show_state(self._out, state)
            show_selection(self._out, self._last)
        return True

    def _supporter(self, text: str) -> None:
        if not text:
            self._out.print("Write the supporter's words after /s.", style="dim")
            return
        self._messages.append(Message(role="supporter", content=text))

    def _why(self) -> None:
        if self._last is None:
            self._out.print("Nothing has been chosen yet: type a line first.", style="dim")
        elif self._last.risk.level == "high":
            self._out.print(f"High risk was read in: {escape(self._last.risk.trigger or '')}", style="bold")
        else:
            for choice in self._last.skills:
                self._out.print(f"[bold]{choice.name}[/bold] {choice.score:.2f}: {escape(choice.why)}")

    def _skill(self, name: str) -> None:
        if not name and self._last is not None and self._last.skills:
            name = self._last.skills[0].name
        texts = self._selector.bank.texts
        if name not in texts:
            raise SkillNotFound(name, texts)
        body = texts[name].split("\n---", 1)[-1].removeprefix("\n")
        self._out.print(Markdown(body))


def run(selector: "Selector", out: Console, lines: Iterable[str], *, echo: bool) -> None:
    """Hold a talk over `lines`; `echo` repeats each one, for input that comes from a pipe."""
    chat = Chat(selector, out)
    for line in lines:
        if echo:
            out.print(f"[dim]>[/dim] {escape(line.rstrip())}")
        if not chat.handle(line):
            break
        if echo and line.strip():
            out.print()
