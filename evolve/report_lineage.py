"""The lineage of skills: from the parent's text through the attempts at it to what became of it."""

from collections.abc import Sequence

from .markup import Html, el, table
from .record import Attempt
from .report_candidates import badge, link
from .whole import Whole
from .wordings import chance, change


def lineage(whole: Whole) -> list[Html]:
    """Return the section; empty where nothing was tried."""
    tried = [one for one in whole.proposals if whole.attempts[one.id]]
    if not tried:
        return []
    lines = []
    for proposal in tried:
        attempts = whole.attempts[proposal.id]
        root = (
            f"{proposal.skill} in {whole.plan.bank.version}"
            if proposal.skill
            else f"no skill in {whole.plan.bank.version}"
        )
        nodes = [el("span", root, class_="node")]
        nodes += [el("span", link(one, f"attempt {one.number}"), " ", badge(whole.fate(one))) for one in attempts]
        lines.append(
            el(
                "li",
                [el("span", node, class_="hop") for node in nodes],
                el("span", _ending(attempts, whole), class_="hop"),
            )
        )
    return [
        el("p", "From the parent's text through the attempts at it to what became of it."),
        el("ul", lines, class_="lineage"),
        *_rounds(whole),
    ]


def _ending(attempts: Sequence[Attempt], whole: Whole) -> Html:
    fates = [whole.fate(one) for one in attempts]
    if "kept" in fates:
        skill = next(one.candidate.skill for one in reversed(attempts) if one.candidate)
        outcome = whole.outcome
        where = f"in version {outcome.version}" if outcome and outcome.version else "in the proposed bank"
        return el("span", f"{skill} {where}", class_="node kept")
    if "accept" in fates:
        return el("span", "to be tried with the others", class_="node")
    if "open" in fates:
        return el("span", "under way", class_="node")
    return el("span", "rolled back", class_="node gone")


def _rounds(whole: Whole) -> list[Html]:
    if whole.joint is None or not whole.joint.rounds:
        return []
    rows = []
    for one in whole.joint.rounds:
        effect = one.verdict.effect if one.verdict else None
        shown = f"{change(effect)}, p {chance(effect.p)}" if effect else "not simulated"
        rows.append((str(one.number), ", ".join(one.candidates), shown, one.reason, one.dropped or "none"))
    head = ("round", "together", "against the parent", "reason", "left out after it")
    return [
        el("h3", "All accepted ones together"),
        table("Joint rounds over the whole verify part", head, rows, cards=True),
    ]
