"""Names and figures as the report and the terminal say them."""

from typing import Literal

from ..simulator.needs import CHARACTER_INFO, NEED_INFO
from ..simulator.summary import spread
from ..skills_bank.taxonomy import SCENARIO_INFO, STATE_INFO
from .models import Cite, Context, Effect, FindingKind, ProposalKind
from .record import Attempt, Joint

Fate = Literal["kept", "accept", "dropped", "reject", "vetoed", "indecisive", "screened", "no-text", "open"]
FATES: dict[Fate, tuple[str, str]] = {
    "kept": ("\u2713", "accepted and kept"),
    "accept": ("\u2713", "accepted"),
    "dropped": ("\u21b6", "accepted, dropped with the others"),
    "reject": ("\u2717", "rejected"),
    "vetoed": ("\u2717", "rejected by a veto"),
    "indecisive": ("\u2248", "indecisive"),
    "screened": ("\u2298", "refused by the screen"),
    "no-text": ("\u2205", "no text came about"),
    "open": ("\u2026", "under way"),
}
"""Sign and word; the sign makes them differ without colour."""
KINDS = {FindingKind.HARM: "harm", FindingKind.GAP: "gap", FindingKind.UNSAFE: "unsafe", FindingKind.WORDS: "words"}
DEEDS = {ProposalKind.REFINE: "refine", ProposalKind.CREATE: "create"}


def fate_of(attempt: Attempt, joint: Joint | None) -> Fate:
    """Say what became of an attempt, the rounds with all accepted ones included."""
    if attempt.screened:
        return "screened"
    if attempt.verdict is None:
        return "open"
    if attempt.candidate is None:
        return "no-text"
    if attempt.verdict.ruling == "reject" and attempt.verdict.vetoes:
        return "vetoed"
    if attempt.verdict.ruling != "accept":
        return attempt.verdict.ruling
    if joint is None:
        return "accept"
    return "kept" if attempt.id in joint.kept else "dropped"


def place(context: Context) -> str:
    """Say which moments something is about."""
    parts = [", ".join(STATE_INFO[one].name for one in context.states)] if context.states else []
    parts += [", ".join(SCENARIO_INFO[one].name for one in context.scenarios)] if context.scenarios else []
    parts += [f"{CHARACTER_INFO[context.character].name.lower()} character"] if context.character else []
    parts += [f"need: {NEED_INFO[context.need].name.lower()}"] if context.need else []
    return "; ".join(parts) or "anywhere"


def change(effect: Effect) -> str:
    """Return a difference with its interval."""
    return spread(effect.difference, "+.1f")


def chance(p: float) -> str:
    """Return a p value."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def cited(cite: Cite) -> str:
    """Name a conversation and the turns in it."""
    repeat = f" #{cite.repeat}" if cite.repeat else ""
    word = "turn" if len(cite.turns) == 1 else "turns"
    return f"{cite.profile}{repeat}, {word} {', '.join(map(str, cite.turns))}"


def replayed(cite: Cite, run: str) -> str:
    """Return the command that shows a conversation."""
    repeat = f" --repeat {cite.repeat}" if cite.repeat else ""
    return f"esc-skills replay {run} {cite.profile}{repeat}"


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def money(usd: float | None) -> str:
    """Return a sum of money."""
    return "price unknown" if usd is None else f"${usd:,.2f}" if usd >= 0.01 or not usd else f"${usd:.4f}"


def lasted(seconds: float) -> str:
    """Return a duration."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"
