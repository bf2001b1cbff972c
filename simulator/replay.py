"""One recorded conversation in the terminal: what was said, how it was taken, and which skills stood behind it."""

from typing import TYPE_CHECKING

from rich.markup import escape

from ..skills_bank.errors import InputError
from .needs import CHARACTER_INFO, NEED_INFO
from .run import RunFolder
from .session import Transcript, TurnRecord

if TYPE_CHECKING:
    from rich.console import Console

BAR = 30
FULL, FREE = "\u2588", "\u2591"


def find_talk(run: RunFolder, profile: str, repeat: int = 0) -> Transcript:
    """Return a conversation of a run.

    Raises:
        InputError: It holds none with that profile and repeat.
    """
    seen: list[str] = []
    for transcript in run.transcripts():
        if transcript.key == (profile, repeat):
            return transcript
        seen.append(transcript.profile)
    known = ", ".join(seen[:3])
    raise InputError(f"{run.id} holds no talk with {profile!r} (repeat {repeat}); its {len(seen)} begin with {known}.")


def show(out: "Console", talk: Transcript) -> None:
    """Print a conversation turn by turn."""
    about = [talk.scenario or "scenario not given", CHARACTER_INFO[talk.character].name.lower()]
    about += [f"hidden need: {NEED_INFO[talk.need].name.lower()}"] + (["risk hint"] if talk.risk else [])
    repeat = f" #{talk.repeat}" if talk.repeat else ""
    out.print(
        f"[bold]{escape(talk.profile)}{repeat}[/bold]  {'; '.join(about)}  [dim](seed {talk.seed})[/dim]\n",
        soft_wrap=True,
    )
    out.print(f"{_bar(talk.start)}  [dim]start[/dim]")
    _speech(out, "Seeker", talk.opening, "cyan")
    for turn in talk.turns:
        _show_turn(out, turn)
    out.print(
        f"\n[bold]{talk.end}[/bold] after {len(talk.turns)} replies, {len(talk.changes)} of them scored: ", end=""
    )
    out.print(f"{talk.points} ({talk.emotion})")
    if talk.trouble:
        out.print(f"[red]{escape(talk.trouble)}[/red]")


def _show_turn(out: "Console", turn: TurnRecord) -> None:
    skills = ", ".join(
        f"[bold]{s.name}[/bold] {s.score:.2f}" if s.name == turn.followed else f"{s.name} {s.score:.2f}"
        for s in turn.skills
    )
    notes = [f"meant {', '.join(turn.actions)}"] if turn.actions else []
    notes += [f"skills {skills}"] if skills else []
    notes += [f"[red]risk {turn.risk}, rail {turn.rail}[/red]"] if turn.risk != "none" else []
    notes += [f"{turn.agent_spent.tokens + turn.seeker_spent.tokens:,} tokens"] if turn.agent_spent.tokens else []
    out.print()
    _speech(out, f"Supporter {turn.number}", turn.supporter or "(nothing)", "green")
    if notes:
        out.print(f"    [dim]{'; '.join(notes)}[/dim]", soft_wrap=True)
    if turn.appraisal is None or turn.change is None:
        out.print("    [dim]not scored[/dim]" + _odd(turn))
        return
    a = turn.appraisal
    heard = f"heard {', '.join(turn.heard)}; " if turn.heard else ""
    moved = f"; {turn.response}" if turn.response else ""
    out.print(f"    [dim]{heard}{escape(a.content)} {escape(a.serves)}[/dim]", soft_wrap=True)
    out.print(f"    [italic]{escape(a.inner)} {escape(a.feeling)}[/italic]", soft_wrap=True)
    style = "green" if turn.change > 0 else "red" if turn.change < 0 else "dim"
    state = f"  [dim]{turn.state}{moved}[/dim]" if turn.state else ""
    out.print(f"{_bar(turn.points)}  [{style}]{turn.change:+d}[/{style}]{state}" + _odd(turn), soft_wrap=True)
    _speech(out, "Seeker", turn.seeker or "(nothing)", "cyan")


def _speech(out: "Console", who: str, text: str, style: str) -> None:
    out.print(f"[{style}]{who}:[/{style}] {escape(text)}", soft_wrap=True)


def _bar(points: int) -> str:
    full = max(0, min(BAR, round(points * BAR / 100)))
    return f"[magenta]{FULL * full}[/magenta][dim]{FREE * (BAR - full)}[/dim] {points:>3}"


def _odd(turn: TurnRecord) -> str:
    named = ", ".join(odd.replace("_", " ") for odd in turn.oddities)
    return f"  [yellow]{named}[/yellow]" if named else ""
