"""The report of an evolution: one HTML file that needs no network and no script.

The page is `report_page.html` with its style sheet inside; the larger sections are made in `report_*.py`.
Nothing that a seeker said stands in it: talks are cited by profile and turn, and what a prompt quotes is masked.
"""

from importlib.resources import files
from shlex import quote
from string import Template

from .acceptance import ALPHA
from .heat import LEAST, heatmap, legend
from .markup import Html, bullets, command, el, facts, join, prose, table, text
from .record import BANK, EvolveRun
from .report_candidates import candidates, effect_table
from .report_findings import findings
from .report_lineage import lineage
from .report_scores import scores
from .show import diff_text, show_text
from .whole import Whole
from .wordings import FATES, counted, lasted, money

__all__ = ["diff_text", "report_html", "show_text"]

PAGE = "report_page.html"
_LOCAL = (
    "The seekers of this run are local models of labels. They show what follows from the labelled corpus and from "
    "written rules when a bank chooses other actions. They do not hear whether a reply is tender or wooden, apt or "
    "false, and say nothing of what a person would feel."
)
_MODEL = (
    "The seekers of this run were played and scored by a language model. What it calls relief is its reading of a "
    "role, not what a person would feel; a text can please the model that scores it and nobody else."
)
_SHARED = (
    "Each candidate was judged on the profiles on which its parent did worst, so its figures say how it does there, "
    "not everywhere; the sealed part is the one to go by. Intervals are 95%, by bootstrap: over profiles, in strata "
    "of candidates over talks."
)
_ERRORS = {
    "paired": f"declared error rate {ALPHA:g} a proposal, two-sided, shared by its attempts and their looks",
    "paper": "as published, without a declared error rate",
}


def report_html(run: EvolveRun) -> str:
    """Return the report of a run, finished or not, as one HTML file.

    Raises:
        JobError: A file of the run cannot be read.
        InputError: Its baseline cannot be read.
    """
    whole = Whole.read(run)
    sections = [
        ("outcome", "Outcome", _outcome(whole)),
        ("run", "What was run", _planned(whole)),
        ("scores", "Scores", scores(whole) or _nothing("Nothing was simulated yet.", whole)),
        ("lineage", "Lineage of skills", lineage(whole) or _nothing("No candidate was made yet.", whole)),
        ("heatmap", "Skills by scenario", _heat(whole)),
        ("candidates", "Candidates", list(candidates(whole)) or _nothing("No candidate was made yet.", whole)),
        ("findings", "Findings", findings(whole) or _nothing("There is no finding yet.", whole)),
        ("sealed", "Sealed result", _sealed(whole)),
        ("cost", "Cost", _cost(whole)),
        ("commands", "Commands", _commands(whole)),
    ]
    body = [
        el("section", el("h2", title, id=f"{id}-title"), parts, id=id, aria_labelledby=f"{id}-title")
        for id, title, parts in sections
    ]
    page = files(__package__ or "esc_skills.evolve").joinpath(PAGE).read_text(encoding="utf-8")
    return Template(page).substitute(
        title=text(f"Evolution of bank {whole.plan.bank.version}: {whole.id}"),
        heading=text(f"Evolution of bank {whole.plan.bank.version}"),
        about=_about(whole),
        contents=bullets(el("a", title, href=f"#{id}") for id, title, _ in sections),
        body=join("\n", body),
        foot=text(
            f"Written by esc-skills {whole.plan.esc_skills}; `esc-skills evolve report {whole.id}` writes it anew."
        ),
    )


def _about(whole: Whole) -> Html:
    state = "complete" if whole.sealed else str(whole.job.state)  # the job itself still runs when it writes its report
    return join("", [el("code", whole.id), f" \u00b7 {state} \u00b7 started {_started(whole)}"])


def _started(whole: Whole) -> str:
    return f"{whole.job.started[:16].replace('T', ' ')} UTC"


# --- outcome ----------------------------------------------------------------------------------------------------------


def _outcome(whole: Whole) -> list[Html | None]:
    fates, texts = whole.fates(), [one for one in whole.all_attempts if one.candidate]
    shown = [(len(whole.findings), "findings"), (len(whole.proposals), "proposals"), (len(texts), "candidates")]
    shown += [(fates[fate], FATES[fate][1]) for fate in FATES if fates[fate]]
    tiles = [el("li", el("b", f"{number:,}"), " ", el("span", name)) for number, name in shown]
    told = whole.outcome.told if whole.outcome else None
    notes = [note for note in whole.job.notes if note != told]
    return [
        el("p", _headline(whole), class_="headline"),
        el("ul", tiles, class_="tiles"),
        el("p", prose(whole.end.told)) if whole.end else None,
        el("h3", "What this can and cannot show"),
        el("p", _LOCAL if whole.plan.seeker == "local" else _MODEL),
        el("p", _SHARED),
        bullets(prose(note) for note in notes) if notes else None,
    ]


def _headline(whole: Whole) -> Html:
    if whole.outcome is None:
        error = f" {whole.job.error}" if whole.job.error else ""
        return join(
            "", [el("strong", "Not finished."), f" The run is {whole.job.state} in phase {whole.job.phase}.{error}"]
        )
    kept = counted(len(whole.outcome.kept), "change")
    if whole.outcome.version:
        lead = f"Committed: version {whole.outcome.version}, with {kept}."
    elif whole.outcome.kept:
        lead = f"{kept} found to help; nothing was committed."
    else:
        lead = "No change: nothing was found to help, the bank stays as it is."
    return el("span", el("strong", lead), " ", prose(whole.outcome.told))


# --- what was run -----------------------------------------------------------------------------------------------------


def _planned(whole: Whole) -> list[Html]:
    plan, models = whole.plan, ", ".join(f"{role}: {model}" for role, model in sorted(whole.plan.models.items()))
    caps = ", ".join(f"{name} {value:,}" for name, value in plan.caps.model_dump().items() if value is not None)
    pairs = [
        ("parent bank", f"{plan.bank.version} ({plan.bank.hash[:12]}), {plan.bank.kind}"),
        ("profiles", f"{plan.n} of {plan.profiles} (hash {plan.profiles_hash[:12]})"),
        ("seed", str(plan.seed)),
        ("seeker, supporter", f"{plan.seeker}, {plan.supporter}"),
        ("analyzer, generator", f"{plan.analyzer}, {plan.generator}"),
        ("models", models or "none"),
        ("strategy", f"{plan.strategy}; {_ERRORS[plan.strategy]}"),
        ("talks a profile in a trial", str(plan.repeats)),
        ("caps", caps or "none"),
        ("at the end", "commit what was accepted" if plan.apply else "propose only"),
        ("rules", plan.rules),
        ("simulator", plan.materials),
        ("esc-skills", plan.esc_skills),
        ("started", f"{_started(whole)}; {counted(whole.job.attempts, 'attempt')} to run it"),
    ]
    return [facts(pairs), *_split(whole)]


def _split(whole: Whole) -> list[Html]:
    if whole.split is None:
        return []
    hashes, use = whole.split.hashes(), {"propose": "findings", "verify": "verdicts", "sealed": "read once, at the end"}
    rows = [(name, why, len(getattr(whole.split, name)), el("code", hashes[name])) for name, why in use.items()]
    head = ("part", "used for", "profiles", "hash")
    return [table(f"Split of the profiles, seed {whole.split.seed}", head, rows, numbers=(2,))]


# --- heatmap ----------------------------------------------------------------------------------------------------------


def _heat(whole: Whole) -> list[Html]:
    if not whole.heat:
        return [_nothing("No talk was held yet.", whole)]
    note = (
        "In the baseline: what followed the replies in which a step of the skill was taken. An association: skills are "
        f"called for hard moments too. Pale cells rest on fewer than {LEAST} replies."
    )
    return [el("p", note), legend(), heatmap(whole.heat)]


# --- sealed, cost, commands -------------------------------------------------------------------------------------------


def _sealed(whole: Whole) -> list[Html | None]:
    if whole.sealed is None:
        return [_nothing("The sealed part was not opened.", whole)]
    sealed = whole.sealed
    return [
        el("p", prose(sealed.told)),
        facts([("hash of the sealed part", el("code", sealed.split)), ("seed", str(sealed.seed))]),
        effect_table("Parent against result on the sealed profiles", {"all": sealed.effect}) if sealed.effect else None,
        effect_table("By stratum; not corrected for their number", dict(sorted(sealed.strata.items())))
        if sealed.strata
        else None,
    ]


def _cost(whole: Whole) -> list[Html]:
    parts: list[Html] = []
    if whole.spending:
        rows = [
            (s.role, s.model, f"{s.calls:,}", f"{s.failed:,}", f"{s.tokens:,}", money(s.usd)) for s in whole.spending
        ]
        known = [s.usd for s in whole.spending]
        usd = None if any(one is None for one in known) else sum(one or 0.0 for one in known)
        calls, failed, tokens = (
            sum(getattr(s, name) for s in whole.spending) for name in ("calls", "failed", "tokens")
        )
        rows.append(("all", "", f"{calls:,}", f"{failed:,}", f"{tokens:,}", money(usd)))
        head = ("role", "model", "calls", "failed", "tokens", "cost")
        parts.append(table("Calls to models by role, all attempts of the job", head, rows, numbers=(2, 3, 4, 5)))
    else:
        parts.append(el("p", "No model was asked: this run cost nothing but time."))
    if whole.times:
        rows = [(phase, lasted(seconds)) for phase, seconds in whole.times.items()]
        rows.append(("all", lasted(sum(whole.times.values()))))
        parts.append(table("Time by phase", ("phase", "time"), rows, numbers=(1,)))
    return parts


def _commands(whole: Whole) -> list[Html]:
    example = next((one.id for one in whole.all_attempts if one.diff), "CANDIDATE")
    lines = [
        ("Show the run in the terminal", f"esc-skills evolve show {whole.id}"),
        ("Show a candidate's diff", f"esc-skills evolve diff {whole.id} {example}"),
        ("Write this report anew", f"esc-skills evolve report {whole.id}"),
    ]
    outcome = whole.outcome
    if outcome and outcome.version:
        lines.append(("See what the new version changes", f"esc-skills bank diff {outcome.parent} {outcome.version}"))
    elif outcome and outcome.kept:
        lines.append(("Commit the result", f"esc-skills bank commit {quote(f'{whole.folder}/{BANK}')} -m {whole.id}"))
    if outcome and outcome.kept:
        after = "" if outcome.version else ", once it is committed"
        lines.append((f"Roll back{after}", f"esc-skills bank rollback {outcome.parent}"))
    return [part for what, line in lines for part in (el("p", what), command(line))]


def _nothing(told: str, whole: Whole) -> Html:
    return el("p", told.replace(" yet", "") if whole.outcome else told, class_="nothing")
