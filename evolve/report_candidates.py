"""The candidates of a report: what was proposed, each attempt with its verdict, its figures, diff and prompt."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from ..skills_bank.taxonomy import ACTION_INFO, SupportAction
from .charts import Axis, bar, scale
from .markup import Html, bullets, el, facts, fold, join, prose, scroll, table
from .models import Effect, Proposal, TalkPair, Verdict
from .record import Attempt
from .whole import Whole
from .wordings import DEEDS, FATES, Fate, chance, change, counted, money, place

EFFECT_HEAD = ("", "profiles", "talks", "parent", "new", "new - parent (95% interval)", "p", "Success", "Failure")
EFFECT_NUMBERS = tuple(range(1, len(EFFECT_HEAD)))
_MARKS = {"+": "ins", "-": "del"}


def badge(fate: Fate) -> Html:
    """Return what became of an attempt, as a sign with its word."""
    sign, word = FATES[fate]
    return el("span", el("span", sign, aria_hidden="true"), f" {word}", class_=f"badge {fate}")


def anchor(attempt: Attempt) -> str:
    """Return the attempt's id on the page."""
    return f"candidate-{attempt.id}"


def link(attempt: Attempt, *parts: str | Html) -> Html:
    """Return a link to an attempt."""
    return el("a", *parts, href=f"#{anchor(attempt)}")


def effect_row(name: str, effect: Effect) -> tuple[str, ...]:
    """Return a line of a table with `EFFECT_HEAD`."""
    return (
        name, str(effect.profiles), str(effect.talks), f"{effect.old:.1f}", f"{effect.new:.1f}", change(effect),
        chance(effect.p), "{} \u2192 {}".format(*effect.success), "{} \u2192 {}".format(*effect.failure),
    )  # fmt: skip


def effect_table(caption: str, effects: Mapping[str, Effect]) -> Html:
    """Return effects by their names."""
    rows = [effect_row(name, effect) for name, effect in effects.items()]
    return table(caption, EFFECT_HEAD, rows, numbers=EFFECT_NUMBERS, cards=True)


def forest(whole: Whole) -> Html | None:
    """Return all candidates' differences over their noise floors; None where nothing was simulated."""
    simulated = [(a, a.verdict, a.verdict.effect) for a in whole.all_attempts if a.verdict and a.verdict.effect]
    if not simulated:
        return None
    floors = [v.floor.difference for _, v, _ in simulated if v.floor]
    axis = Axis.over([end for e in [*(e.difference for _, _, e in simulated), *floors] for end in (e.low, e.high)])
    rows = [
        el(
            "li",
            el("span", link(attempt, attempt.id), " ", badge(whole.fate(attempt)), class_="who"),
            bar(attempt.id, e.difference, v.floor.difference if v.floor else None, axis, whole.fate(attempt)),
            el("span", change(e), class_="n"),
        )
        for attempt, v, e in simulated
    ]
    last = el("li", el("span", "points of emotion", class_="who"), scale(axis), el("span"), class_="axis")
    return el("ul", rows, last, class_="forest")


def candidates(whole: Whole) -> Iterable[Html]:
    """Yield a section for every proposal that was tried, and a list of the others."""
    for proposal in whole.proposals:
        if attempts := whole.attempts[proposal.id]:
            yield el(
                "section",
                el("h3", proposal.title),
                _asked_for(proposal),
                [_attempt(attempt, whole) for attempt in attempts],
                class_="proposal",
            )
    if waiting := [one for one in whole.proposals if not whole.attempts[one.id]]:
        yield el("h3", f"{counted(len(waiting), 'proposal')} not tried")
        yield bullets(f"{one.title} ({one.id}; {counted(one.turns, 'reply', 'replies')})" for one in waiting)


def _asked_for(proposal: Proposal) -> Html:
    rested = f"{counted(len(proposal.findings), 'finding')} in {counted(proposal.talks, 'talk')}, "
    pairs = [
        ("asked for", f"{DEEDS[proposal.kind]} {proposal.skill or 'a new skill'}"),
        ("where", place(proposal.context)),
        ("rests on", rested + counted(proposal.turns, "reply", "replies")),
        ("points lost", f"{proposal.priority:.1f}"),
    ]
    pairs += [(name, _actions(some)) for name, some in (("avoid", proposal.avoid), ("favour", proposal.favour)) if some]
    return facts(pairs)


def _actions(actions: Iterable[SupportAction]) -> str:
    return ", ".join(ACTION_INFO[one].name.lower() for one in actions)


def _attempt(attempt: Attempt, whole: Whole) -> Html:
    fate, verdict, clean = whole.fate(attempt), attempt.verdict, whole.masks.quotes
    title = el("h4", attempt.id)
    gain = f" {change(verdict.effect)}" if verdict and verdict.effect else ""
    return el(
        "details",
        el("summary", title, " ", badge(fate), el("span", gain, class_="n")),
        el("p", el("strong", "Reason: "), prose(clean(verdict.reason))) if verdict else el("p", "Not decided yet."),
        el("p", el("strong", "Text: "), clean(attempt.candidate.what)) if attempt.candidate else None,
        _made(attempt, verdict),
        [_screened(attempt)] if attempt.screened else None,
        _figures(verdict) if verdict else None,
        _diff(attempt, whole),
        _prompt(attempt, whole),
        id=anchor(attempt),
        class_="attempt",
        open=fate == "kept",
    )


def _made(attempt: Attempt, verdict: Verdict | None) -> Html:
    pairs: list[tuple[str, str]] = []
    if one := attempt.candidate:
        pairs += [
            ("written by", one.generator),
            ("skill", one.skill),
            ("in place of", one.replaces or "none, it is new"),
        ]
        if one.prompt is not None or one.tokens:
            pairs.append(("cost of the text", f"{one.tokens:,} tokens, {money(one.usd)}"))
    if verdict:
        pairs.append(("strategy", verdict.strategy))
        pairs += [("seed", str(verdict.seed))] if verdict.seed is not None else []
    return facts(pairs)


def _screened(attempt: Attempt) -> Html:
    return el("div", el("p", "The screen refused it before anything was simulated:"), bullets(attempt.screened))


def _figures(verdict: Verdict) -> list[Html]:
    parts: list[Html] = []
    effects = {name: e for name, e in (("this text", verdict.effect), ("noise floor (A/A)", verdict.floor)) if e}
    if effects:
        parts.append(effect_table("Effect on the verifying profiles", effects))
    if verdict.vetoes:
        parts.append(el("p", el("strong", "Vetoes")))
        parts.append(bullets([el("strong", f"{one.rule}: "), one.reason] for one in verdict.vetoes))
    if verdict.checks:
        rows = [(one.name, "made" if one.run else "not made", el("span", prose(one.told))) for one in verdict.checks]
        parts.append(table("Checks", ("check", "", "what it found"), rows))
    if verdict.strata:
        shown = effect_table("Effect by stratum", dict(sorted(verdict.strata.items())))
        parts.append(fold(f"Strata ({len(verdict.strata)})", shown))
    if verdict.pairs:
        parts.append(fold(f"Ends of all {len(verdict.pairs)} pairs of talks", _pairs(verdict.pairs)))
    if back := verdict.feedback:
        told = [back.reason]
        told += [f"Ended lower: {', '.join(back.worse_profiles)}."] if back.worse_profiles else []
        told += [f"Followed by less: {_actions(back.worse_actions)}."] if back.worse_actions else []
        parts.append(fold("Told to the next attempt", bullets(told)))
    return parts


def _pairs(pairs: Iterable[TalkPair]) -> Html:
    by_profile: dict[str, dict[int, TalkPair]] = defaultdict(dict)
    for pair in pairs:
        by_profile[pair.profile][pair.repeat] = pair
    repeats = sorted({repeat for found in by_profile.values() for repeat in found})
    rows = []
    for profile, found in sorted(by_profile.items()):
        shown = [f"{found[r].old} \u2192 {found[r].new}" if r in found else "\u2013" for r in repeats]
        mean = sum(p.new - p.old for p in found.values()) / len(found)
        rows.append((profile, *shown, f"{mean:+.1f}"))
    head = ("profile", *(f"talk {repeat}" for repeat in repeats), "mean difference")
    return table("Emotion at the end, parent \u2192 new", head, rows, numbers=tuple(range(1, len(head))))


def _diff(attempt: Attempt, whole: Whole) -> Html | None:
    if not attempt.diff:
        return None
    lines = whole.masks.quotes(attempt.diff).splitlines()
    added, removed = (sum(x.startswith(s) and not x.startswith(s * 3) for x in lines) for s in "+-")
    shown = el("pre", el("code", join("\n", map(_diff_line, lines))), class_="diff", tabindex="0")
    return fold(f"Diff (+{added} \u2212{removed} lines)", shown)


def _diff_line(line: str) -> Html:
    if line.startswith(("+++", "---", "@@")):
        return el("span", line, class_="mark")
    return el(_MARKS.get(line[:1], "span"), line)


def _prompt(attempt: Attempt, whole: Whole) -> Html | None:
    if attempt.candidate is None or attempt.candidate.prompt is None:
        return None
    note = "What seekers said and thought is masked here; the prompt as it was sent stands in the run's candidate.json."
    prompt = whole.masks.prompt(attempt.candidate.prompt)
    return fold("Prompt", el("p", note), scroll("Prompt", el("pre", prompt, class_="prompt")))
