"""Cluster → dossier: everything the author of one skill needs, and nothing of the other clusters but their names.

A dossier quotes the corpus (CC BY-NC 4.0), so it is written outside the repository or into an ignored folder of it.
"""

import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ..skills_bank.errors import InputError
from ..skills_bank.evidence import expected_outcome
from ..skills_bank.models import InterventionUnit, Prototype
from ..skills_bank.taxonomy import (
    ACTION_INFO,
    CHANGE_INFO,
    SCENARIO_INFO,
    STATE_INFO,
    Polarity,
    ResponseChange,
    SupportAction,
    polarity,
)
from .clusters import Cluster, Clustering
from .corpus import Dialogue
from .labels import DialogueLabels, TurnLabels
from .prototypes import BaseRate, base_rates, index

MOST_POSITIVE, MOST_NEGATIVE = 14, 10
SEEN_RARELY = 20
"""Cells below this many units are marked as weak evidence."""
_FEWEST_IN_CONTEXT = 8
_LEGIBLE = 0.8
_OFF_STAGE = re.compile(r"\b(survey|bonus|hit|m?turk|worker id|(finish|quit) button)\b", re.IGNORECASE)
"""Crowd workers talking about the job itself: true to the corpus, of no use to a supporter."""
_SAFETY = SupportAction("safety_check_and_referral")
_THIRDS = ("early", "middle", "late")
_TELLING = {"more_specific_expression": 0.0, "increased_openness": 0.6, "increased_withdrawal": 0.4}
"""How plainly a change shows on the page; a change not named here counts 1. The first two are common and faint."""


@dataclass(frozen=True)
class Moment:
    """One supporter turn between two seeker turns, with its text."""

    dialogue: str
    scenario: str
    turn: TurnLabels
    before: TurnLabels
    after: TurnLabels
    previous: tuple[SupportAction, ...]
    third: int
    texts: tuple[str, str, str]
    rating: int | None
    legible: float

    @property
    def change(self) -> ResponseChange:
        """Response change of the turn."""
        assert self.turn.change is not None
        return self.turn.change

    @property
    def polarity(self) -> Polarity:
        """Polarity of the change."""
        return polarity(self.change)


def moments(labels: Iterable[DialogueLabels], dialogues: Mapping[str, Dialogue], splits: Iterable[str]) -> list[Moment]:
    """Return every supporter turn of the splits that yields units, joined to its text."""
    found: list[Moment] = []
    chosen = [labelled for labelled in labels if labelled.split in splits]
    familiar = _familiar_words(dialogues[labelled.id] for labelled in chosen)
    for labelled in chosen:
        dialogue = dialogues[labelled.id]
        for i, turn in enumerate(labelled.turns):
            if turn.change is None:
                continue
            before, after = labelled.turns[i - 1], labelled.turns[i + 1]
            texts = (dialogue.text(before.utterances), dialogue.text(turn.utterances), dialogue.text(after.utterances))
            ratings = [u.feedback for u in dialogue.utterances[slice(*after.utterances)] if u.feedback]
            found.append(
                Moment(
                    dialogue=labelled.id,
                    scenario=labelled.scenarios[0],
                    turn=turn,
                    before=before,
                    after=after,
                    previous=labelled.turns[i - 2].actions if i >= 2 else (),
                    third=min(2, 3 * i // len(labelled.turns)),
                    texts=texts,
                    rating=ratings[0] if ratings else None,
                    legible=min(_legible(text, familiar) for text in texts),
                )
            )
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def _familiar_words(dialogues: Iterable[Dialogue], at_least: int = 3) -> set[str]:
    """Return the words that stand in several dialogues: FailedESConv holds talks typed at random."""
    counts: Counter[str] = Counter()
    for dialogue in dialogues:
        counts.update({word for utterance in dialogue.utterances for word in _words(utterance.content)})
    return {word for word, n in counts.items() if n >= at_least}


def _legible(text: str, familiar: set[str]) -> float:
    """Return the share of a text's words that are familiar; shouting in capitals counts half."""
    words = _words(text)
    if not words:
        return 0.0
    share = sum(word in familiar for word in words) / len(words)
    return share / 2 if text.isupper() and len(text) > 20 else share


def _share(moments: Sequence[Moment]) -> str:
    n = len(moments)
    positive = sum(m.polarity == "positive" for m in moments) / n
    negative = sum(m.polarity == "negative" for m in moments) / n
    return f"+{positive:.0%} -{negative:.0%} (n {n})"


def _definitions(cluster: Cluster) -> list[str]:
    lines = ["## States", ""]
    for state in cluster.states:
        info = STATE_INFO[state]
        lines.append(f"- **{info.name}** (`{state}`): {info.definition} E.g. “{info.example}”")
    lines += ["", "## Actions", ""]
    for action in cluster.actions:
        info = ACTION_INFO[action]
        lines.append(
            f"- **{info.name}** (`{action}`, {info.hill_stage}): {info.definition} E.g. “{info.example}” "
            f"Typical risk: {info.typical_risk}."
        )
    return lines


def _table(kept: Sequence[Prototype], bases: Mapping) -> list[str]:
    lines = [
        "## Prototypes", "",
        "Rates over all units of the cell with 95% Wilson interval; lift in points over the state's base rate; "
        "outcome = posterior mean of positive minus negative share. `weak` marks cells below "
        f"{SEEN_RARELY} units.", "",
        "| state | action | n | key | positive | negative | lift + | lift - | outcome | failed corpus | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for p in sorted(kept, key=lambda p: (p.state, -expected_outcome(p))):
        lines.append(
            f"| {p.state} | {p.action} | {p.n} | {p.n_key} "
            f"| {p.positive.rate:.0%} ({p.positive.low:.0%}-{p.positive.high:.0%}) "
            f"| {p.negative.rate:.0%} ({p.negative.low:.0%}-{p.negative.high:.0%}) "
            f"| {100 * p.lift_positive:+.0f} | {100 * p.lift_negative:+.0f} | {expected_outcome(p):+.2f} "
            f"| {p.failed_share:.0%} | {'weak' if p.n < SEEN_RARELY else ''} |"
        )
    lines += ["", "Base rates (all actions in the state):", ""]
    for state in dict.fromkeys(p.state for p in kept):
        base: BaseRate = bases[state]
        lines.append(f"- `{state}`: n {base.n}, positive {base.positive.rate:.0%}, negative {base.negative.rate:.0%}")
    return lines


def _changes(kept: Sequence[Prototype]) -> list[str]:
    lines = ["## Response changes", "", "| action | " + " | ".join(CHANGE_INFO[c].name for c in ResponseChange) + " |"]
    lines.append("| --- |" + " --- |" * len(ResponseChange))
    rows: dict[str, Counter] = {"all": Counter()}
    for p in kept:
        rows.setdefault(p.action, Counter()).update(p.changes)
        rows["all"].update(p.changes)
    for name, counts in rows.items():
        shares = [f"{counts[change] / counts.total():.0%}" if counts[change] else "" for change in ResponseChange]
        lines.append(f"| {name} (n {counts.total()}) | " + " | ".join(shares) + " |")
    return lines


def _scenarios(kept: Sequence[Prototype], overall: Counter) -> list[str]:
    counts: Counter = Counter()
    for p in kept:
        counts.update(p.scenarios)
    lines = ["## Scenarios", "", "Share of the units here, and against the share over all situations:", ""]
    for scenario, n in counts.most_common(8):
        here, there = n / counts.total(), overall[scenario] / overall.total()
        lines.append(f"- {SCENARIO_INFO[scenario].name} (`{scenario}`): {here:.0%}, {100 * (here - there):+.0f} points")
    return lines


def _contexts(found: Sequence[Moment], action: SupportAction) -> list[str]:
    """Return in which context one action did better or worse, where there is enough to say so."""
    lines: list[str] = []
    thirds = [[m for m in found if m.third == third] for third in range(3)]
    told = [f"{name} {_share(ms)}" for name, ms in zip(_THIRDS, thirds, strict=True) if len(ms) >= _FEWEST_IN_CONTEXT]
    if len(told) > 1:
        lines.append("  - place in the talk: " + "; ".join(told))
    groups: dict[str, dict[str, list[Moment]]] = {"after": defaultdict(list), "together with": defaultdict(list)}
    for m in found:
        for other in m.previous or ("nothing (first turn)",):
            groups["after"][other].append(m)
        others = [other for other in m.turn.actions if other != action]
        for other in others or ["nothing else"]:
            groups["together with"][other].append(m)
    for how, group in groups.items():
        enough = sorted(((k, v) for k, v in group.items() if len(v) >= _FEWEST_IN_CONTEXT), key=lambda kv: -len(kv[1]))
        if enough:
            lines.append(f"  - {how}: " + "; ".join(f"{name} {_share(ms)}" for name, ms in enough[:6]))
    if found:
        repeated = [m for m in found if action in m.previous]
        if len(repeated) >= _FEWEST_IN_CONTEXT:
            lines.append(f"  - the same action in the supporter's turn before, too: {_share(repeated)}")
    return lines


def _ranking(kept: Sequence[Prototype], inside: Sequence[Moment]) -> list[str]:
    lines = [
        "## Actions per state, best first", "",
        "By outcome (above). + and - are the shares of positive and negative changes; contexts below "
        f"{_FEWEST_IN_CONTEXT} turns are left out. `after` is what the supporter did one turn earlier.", "",
    ]  # fmt: skip
    for state in dict.fromkeys(p.state for p in kept):
        lines += [f"### {STATE_INFO[state].name} (`{state}`)", ""]
        ranked = sorted((p for p in kept if p.state == state), key=expected_outcome, reverse=True)
        for place, p in enumerate(ranked, start=1):
            found = [m for m in inside if m.before.state == state and p.action in m.turn.actions]
            weak = ", weak evidence" if p.n < SEEN_RARELY else ""
            lines.append(f"{place}. **{p.action}** {expected_outcome(p):+.2f} (n {p.n}{weak})")
            best = ", ".join(f"{c} {n}" for c, n in p.changes.items() if polarity(c) == "positive")
            worst = ", ".join(f"{c} {n}" for c, n in p.changes.items() if polarity(c) == "negative")
            lines.append(f"  - brought: {best or 'nothing positive'} | {worst or 'nothing negative'}")
            lines += _contexts(found, p.action)
        lines.append("")
    return lines


def _clarity(moment: Moment, cells: set) -> float:
    """Score how well a moment reads as an example: lengths, a plain change, the seeker's own rating, actions inside."""
    score = _TELLING.get(moment.change, 1.0)
    for text, (low, high) in zip(moment.texts, ((6, 70), (7, 60), (5, 60)), strict=True):
        words = len(text.split())
        score += 1.0 if low <= words <= high else -1.0 if words < low else -0.01 * (words - high)
    if moment.rating is not None:
        wanted = moment.rating - 3 if moment.polarity == "positive" else 3 - moment.rating
        score += 0.4 * wanted
    if _OFF_STAGE.search(" ".join(moment.texts)):
        score -= 3.0
    if moment.before.flags and _SAFETY in moment.turn.actions:
        score += 1.5  # what a safety check is for; most of its units are plain referrals
    actions = moment.turn.actions
    score += sum((moment.before.state, action) in cells for action in actions) / len(actions)
    return score


def _pick(candidates: Sequence[Moment], cells: set, most: int) -> list[Moment]:
    """Take the clearest moments one by one, each dialogue once, what was taken lowering what is like it."""
    scores = {id(m): _clarity(m, cells) for m in candidates}
    taken: list[Moment] = []
    seen: Counter[str] = Counter()
    left = list(candidates)

    def traits(m: Moment) -> list[str]:
        kept = [a for a in m.turn.actions if (m.before.state, a) in cells]
        return [m.scenario, m.change, str(m.before.state), *(a.value for a in kept)]

    while left and len(taken) < most:
        best = max(
            left, key=lambda m: (scores[id(m)] - 0.45 * sum(seen[t] for t in traits(m)), m.dialogue, m.turn.turn)
        )
        taken.append(best)
        seen.update(traits(best))
        left = [m for m in left if m.dialogue != best.dialogue]
    return taken


def _snippet(number: int, m: Moment) -> list[str]:
    before, turn, after = m.texts
    previous = ", ".join(m.previous) or "nothing yet"
    rated = f"; the seeker's rating after it: {m.rating} of 5" if m.rating else ""
    flags = "".join(f"; flag {flag}" for flag in m.before.flags)
    return [
        f"{number}. `{m.before.state}` → **{', '.join(m.turn.actions)}** → **{m.change}** → `{m.after.state}` "
        f"({m.scenario}; {_THIRDS[m.third]} in the talk; supporter's turn before: {previous}{rated}{flags}; "
        f"{m.dialogue} turn {m.turn.turn})",
        f"   > Seeker: {before}",
        f"   > Supporter: {turn}",
        f"   > Seeker: {after}",
        "",
    ]


def _snippets(inside: Sequence[Moment], cells: set) -> list[str]:
    lines: list[str] = []
    for kind, most in (("positive", MOST_POSITIVE), ("negative", MOST_NEGATIVE)):
        picked = _pick([m for m in inside if m.polarity == kind and m.legible >= _LEGIBLE], cells, most)
        lines += [f"## Telling {kind} moments", ""]
        for number, moment in enumerate(picked, start=1):
            lines += _snippet(number, moment)
        if not picked:
            lines += ["None in the corpus.", ""]
    return lines


def _difference(cluster: Cluster, other: Cluster) -> str:
    """Return in one line what sets a neighbour apart from this cluster."""
    parts: list[str] = []
    states = [STATE_INFO[s].name.lower() for s in other.states if s not in cluster.states]
    if states:
        parts.append("for " + (", ".join(states) if len(states) <= 3 else "many states"))
    actions = [ACTION_INFO[a].name.lower() for a in other.actions if a not in cluster.actions]
    if actions:
        parts.append("through " + ", ".join(actions))
    return "; ".join(parts) or "the same states and actions at another point of the talk"


def _neighbours(cluster: Cluster, clustering: Clustering) -> list[str]:
    lines = ["## Neighbours", "", "Other skills are written for these; stay clear of them:", ""]
    for name in cluster.neighbours:
        other = clustering.get(name)
        lines.append(f"- {name} {other.label}: {_difference(cluster, other)}.")
    return lines


def _frontmatter(cluster: Cluster) -> list[str]:
    return [
        "## Frontmatter to start from", "",
        "```", "metadata:",
        '  esc-version: "1"',
        f'  esc-cluster: "{cluster.id}"',
        f'  esc-states: "{" ".join(cluster.states)}"',
        f'  esc-actions: "{" ".join(cluster.actions)}"',
        f'  esc-scenarios: "{" ".join(cluster.scenarios)}"',
        '  esc-parent: ""',
        '  esc-written-by: "author+dossier"',
        "```",
    ]  # fmt: skip


def dossier(
    cluster: Cluster,
    clustering: Clustering,
    kept: Sequence[Prototype],
    units: Sequence[InterventionUnit],
    found: Sequence[Moment],
    *,
    rules: bool = True,
) -> str:
    """Return the dossier of one cluster as markdown, with or without the rules of writing at its end."""
    cells = set(cluster.prototypes)
    by_cell = index(kept)
    own = [by_cell[cell] for cell in cluster.prototypes]
    inside = [m for m in found if any((m.before.state, action) in cells for action in m.turn.actions)]
    overall: Counter = Counter()
    for p in kept:
        overall.update(p.scenarios)
    how_to = files("esc_skills.pipeline").joinpath("author.prompt.md").read_text(encoding="utf-8")
    n = sum(p.n for p in own)
    positive, negative = sum(p.positive.k for p in own), sum(p.negative.k for p in own)
    blocks = [
        [f"# Dossier {cluster.id}: {cluster.label}", "",
         f"{n} units in {len(own)} prototypes, {sum(p.n_key for p in own)} key units: {positive} positive "
         f"({positive / n:.0%}), {negative} negative ({negative / n:.0%}). Quotes the corpus (CC BY-NC 4.0): keep it "
         "out of the repository."],
        _frontmatter(cluster),
        _definitions(cluster),
        _table(own, base_rates(units)),
        _changes(own),
        _scenarios(own, overall),
        _ranking(own, inside),
        _snippets(inside, cells),
        _neighbours(cluster, clustering),
        *([[how_to]] if rules else []),
    ]  # fmt: skip
    return "\n\n".join("\n".join(block).rstrip() for block in blocks) + "\n"


def refuse_tracked(folder: Path) -> None:
    """Refuse a folder inside a git work tree that git does not ignore: a dossier there could be committed.

    Raises:
        InputError: The folder could be committed, or git is not there to say that it could not.
    """
    folder = folder.resolve()
    inside = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)
    if inside is None:
        return
    try:
        # The trailing slash lets a pattern like `/var/` match before the folder exists.
        ignored = subprocess.run(["git", "-C", str(inside), "check-ignore", "-q", f"{folder}/"], check=False)
    except OSError as error:
        raise InputError(f"{folder} lies in a git work tree and git cannot be run; choose another --out.") from error
    if ignored.returncode != 0:
        raise InputError(
            f"{folder} lies in the git work tree {inside} and is not ignored. Dossiers quote the corpus; "
            "choose an --out outside it."
        )


def write_dossiers(
    out: Path,
    clustering: Clustering,
    kept: Sequence[Prototype],
    units: Sequence[InterventionUnit],
    found: Sequence[Moment],
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write one dossier per cluster into `out` and return the paths."""
    refuse_tracked(out)
    out.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for cluster in clustering.clusters:
        path = out / f"{cluster.id}.md"
        path.write_text(dossier(cluster, clustering, kept, units, found), encoding="utf-8")
        paths.append(path)
        if progress:
            progress(1)
    return paths
