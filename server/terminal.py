"""Showing answers in a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..skills_bank.results import Classification, Selection, SkillChoice
from ..skills_bank.risk import Risk

RISK_STYLE = {"none": "green", "elevated": "yellow", "high": "bold red"}
WIDTH = 100


def console() -> Console:
    """Return a console; where the output is no terminal it is plain text, `WIDTH` wide."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=WIDTH, no_color=True)


def show_state(out: Console, answer: Classification | Selection) -> None:
    """Print risk, then states and, where the answer has them, situations and the phrases that drove the state."""
    rows = _rows()
    rows.add_row("risk", _risk(answer.risk))
    rows.add_row("state", " · ".join(f"{s.state} {s.probability:.2f}" for s in answer.states))
    if isinstance(answer, Classification):
        rows.add_row("about", " · ".join(f"{s.scenario} {s.probability:.2f}" for s in answer.scenarios))
        if answer.evidence:
            rows.add_row("because", escape(" · ".join(f"“{phrase}”" for phrase in answer.evidence)))
    show(out, rows)


def show_selection(out: Console, answer: Selection, *, details: bool = False) -> None:
    """Print what to do next: the first skill's actions, or, at high risk, the fixed text and the helplines alone."""
    if answer.risk.level == "high":
        show_crisis(out, answer.risk)
        return
    rows = _rows()
    for place, choice in enumerate(answer.skills):
        if place == 0:
            _add_choice(rows, choice, details)
        else:
            rows.add_row("or", f"{choice.name} {choice.score:.2f}" + (f" — {escape(choice.why)}" if details else ""))
    if answer.note:
        rows.add_row("note", escape(answer.note))
    show(out, rows)


def show_crisis(out: Console, risk: Risk) -> None:
    """Print the fixed text and the helplines."""
    out.print(escape(risk.say), style="bold")
    rows = _rows()
    for line in risk.helplines:
        rows.add_row(escape(line.name), escape(f"{line.contact} ({line.hours})"))
    if risk.helplines:
        show(out, rows)


def _add_choice(rows: Table, choice: SkillChoice, details: bool) -> None:
    rows.add_row("skill", f"[bold]{choice.name}[/bold] {choice.score:.2f}")
    for number, step in enumerate(choice.next_actions, start=1):
        rows.add_row("next" if number == 1 else "", f"{number}. [bold]{step.action}[/bold]: {escape(step.how)}")
    rows.add_row("pitfall", escape(choice.pitfall))
    if details:
        rows.add_row("why", escape(choice.why))


def _risk(risk: Risk) -> str:
    text = str(risk.level) + (f" ({risk.kind}): {escape(risk.trigger or '')}" if risk.level != "none" else "")
    return f"[{RISK_STYLE[risk.level]}]{text}[/]"


def _rows() -> Table:
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", justify="right", min_width=9)
    rows.add_column(overflow="fold")
    return rows


def show(out: Console, rows: Table) -> None:
    """Print a table; outside a terminal without the blanks that fill its last column, so that transcripts are clean."""
    if out.is_terminal:
        out.print(rows)
        return
    with out.capture() as captured:
        out.print(rows)
    for line in captured.get().splitlines():
        out.print(line.rstrip(), markup=False, soft_wrap=True)
