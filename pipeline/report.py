"""`docs/build.md`: what the build found, beside the paper's figures, from the shipped labels and clusters."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydantic import BaseModel, ConfigDict

from ..skills_bank.evidence import expected_outcome
from ..skills_bank.models import InterventionUnit, Prototype
from ..skills_bank.taxonomy import ACTION_INFO, STATE_INFO, ResponseChange, SeekerState, SupportAction
from .clusters import Clustering, load_clusters, sha256_of
from .heatmap import heatmap
from .labels import DialogueLabels, load_labels, shipped_labels_path
from .prototypes import Cell, base_rates, index, prototypes
from .units import units

HEATMAP = "effects.svg"
_STAND_IN = ResponseChange("increased_withdrawal")


class Counts(BaseModel):
    """The figures that the paper gives, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: int
    key: int
    positive: int
    negative: int
    prototypes: int


PAPER = Counts(units=17858, key=10181, positive=9697, negative=484, prototypes=258)
"""Zhu et al. 2026, arXiv 2605.27908."""
PAPER_SKILLS = 27


def count(found: Sequence[InterventionUnit]) -> Counts:
    """Count units, key units, polarities and prototypes."""
    polarities = Counter(unit.polarity for unit in found)
    return Counts(
        units=len(found),
        key=sum(unit.key for unit in found),
        positive=polarities["positive"],
        negative=polarities["negative"],
        prototypes=len(prototypes(found)),
    )


def topic_shift_negative(found: Iterable[InterventionUnit]) -> list[InterventionUnit]:
    """Return the units with every topic shift read as a negative change, as Li et al. 2023 do.

    The shift takes the place of another change of negative polarity; only polarity is looked at afterwards.
    """
    shift = ResponseChange("topic_shift")
    return [u.model_copy(update={"change": _STAND_IN}) if u.change == shift else u for u in found]


def best_actions(kept: Iterable[Prototype]) -> dict[SeekerState, SupportAction]:
    """Return the action with the best expected outcome in each state."""
    best: dict[SeekerState, Prototype] = {}
    for p in kept:
        if p.state not in best or expected_outcome(p) > expected_outcome(best[p.state]):
            best[p.state] = p
    return {state: p.action for state, p in best.items()}


def rank_correlation(first: dict[Cell, Prototype], second: dict[Cell, Prototype]) -> float:
    """Return Spearman's rho of the expected outcomes over the cells both have (ties broken by place)."""
    cells = [cell for cell in first if cell in second]

    def ranks(source: dict[Cell, Prototype]) -> dict[Cell, int]:
        ordered = sorted(cells, key=lambda cell: expected_outcome(source[cell]))
        return {cell: rank for rank, cell in enumerate(ordered)}

    a, b, n = ranks(first), ranks(second), len(cells)
    return 1 - 6 * sum((a[cell] - b[cell]) ** 2 for cell in cells) / (n * (n * n - 1))


def _supporter_utterances(labels: Iterable[DialogueLabels]) -> int:
    return sum(t.utterances[1] - t.utterances[0] for d in labels for t in d.turns if t.speaker == "supporter")


def _beside_paper(ours: Counts, labels: Sequence[DialogueLabels], found: Sequence[InterventionUnit]) -> list[str]:
    failed = [u for u in found if u.source == "FailedESConv"]
    esconv = [u for u in found if u.source == "ESConv"]

    def share(of: Sequence[InterventionUnit], polarity: str) -> str:
        return f"{sum(u.polarity == polarity for u in of) / len(of):.0%}"

    utterances = _supporter_utterances(labels)
    turns = sum(1 for d in labels if d.split != "valid" for t in d.turns if t.change is not None)
    same = ", the paper's count to the digit: it may count utterances" if utterances == PAPER.units else ""
    most = len(SeekerState) * len(SupportAction)
    rows = [
        (
            "Intervention units", PAPER.units, ours.units,
            f"We count one unit per labelled action of a supporter turn between two seeker turns, {turns:,} such turns "
            f"in train and failed. The supporter utterances of train, valid and failed together number {utterances:,}"
            f"{same}.",
        ),
        (
            "Key units", PAPER.key, ours.key,
            f"{ours.key / ours.units:.0%} of our units against {PAPER.key / PAPER.units:.0%}: our annotator sees a "
            "salient change a little more often, and every action of a turn carries the change of the turn.",
        ),
        (
            "Positive", PAPER.positive, ours.positive,
            f"{ours.positive / ours.units:.0%} of our units against {PAPER.positive / PAPER.units:.0%}.",
        ),
        (
            "Negative", PAPER.negative, ours.negative,
            f"About {ours.negative / PAPER.negative:.1f} times as many. Our labels are judged from the two seeker "
            f"turns alone and blind to the corpus: {share(esconv, 'negative')} of the ESConv units are negative and "
            f"{share(failed, 'negative')} of the FailedESConv ones ({share(esconv, 'positive')} and "
            f"{share(failed, 'positive')} positive). The paper's annotator seems to have kept `negative` for plain "
            "harm.",
        ),
        (
            "Prototypes (5 or more key units)", PAPER.prototypes, ours.prototypes,
            f"{len(SeekerState)} states and {len(SupportAction)} actions make {most} cells at most, so "
            f"{PAPER.prototypes} cannot come from one state and one action out of the published sets; the paper must "
            f"group by something finer. We keep {ours.prototypes} of {most}.",
        ),
    ]  # fmt: skip
    lines = [
        "## Beside the paper", "",
        "Splits train (910 dialogues) and failed (196); valid is for tuning alone. The paper is Zhu et al. 2026, "
        "arXiv 2605.27908.", "",
        "| | paper | ours | why they differ |", "| --- | ---: | ---: | --- |",
    ]  # fmt: skip
    lines += [f"| {name} | {theirs:,} | {mine:,} | {why} |" for name, theirs, mine, why in rows]
    return lines


def _clusters(clustering: Clustering, by_cell: dict[Cell, Prototype]) -> list[str]:
    sizes = [len(c.prototypes) for c in clustering.clusters]
    weights = ", ".join(f"{name} {weight:g}" for name, weight in clustering.weights.items())
    lines = [
        "## Situations", "",
        f"{sum(sizes)} prototypes in {len(sizes)} clusters (the paper: {PAPER_SKILLS}; the number is a parameter) of "
        f"{min(sizes)} to {max(sizes)} prototypes. Ward's agglomeration over weighted feature blocks ({weights}), with "
        f"a ceiling of {clustering.max_size} prototypes. The text vectors are those of the frozen all-MiniLM-L6-v2, so "
        "retraining our own encoder never moves a situation. The weights were set by hand, so that a cluster is one a "
        "supporter would recognise: one state at one stage of the talk; reasons stand beside them in "
        "`pipeline/features.py`.", "",
    ]  # fmt: skip
    if clustering.stability:
        s = clustering.stability
        lines += [
            f"Stability: adjusted Rand index {s.median:.2f} (5th to 95th percentile {s.low:.2f} to {s.high:.2f}) over "
            f"{s.resamples} bootstrap resamples of the dialogues, each clustered anew, compared over the shared "
            f"prototypes ({s.shared:.0%} on average). The state and action definitions do not vary between resamples, "
            "which props the figure up; what varies is the seeker lines, the outcomes, the positions and which cells "
            "reach five key units.", "",
        ]  # fmt: skip
    lines += [
        "| id | situation | prototypes | units | key | positive | negative | median n |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for c in clustering.clusters:
        own = [by_cell[cell] for cell in c.prototypes]
        positive, negative = sum(p.positive.k for p in own) / c.n, sum(p.negative.k for p in own) / c.n
        middle = sorted(p.n for p in own)[len(own) // 2]
        lines.append(
            f"| {c.id} | {c.label} | {len(own)} | {c.n} | {c.n_key} | {positive:.0%} | {negative:.0%} | {middle} |"
        )
    return lines


def _sensitivity(ours: Counts, found: Sequence[InterventionUnit], by_cell: dict[Cell, Prototype]) -> list[str]:
    shifted = topic_shift_negative(found)
    theirs, cells = count(shifted), dict(index(prototypes(shifted)))
    before, after = best_actions(by_cell.values()), best_actions(cells.values())
    changed = [state for state in before if after.get(state) != before[state]]
    names = ", ".join(
        f"{STATE_INFO[s].name} ({ACTION_INFO[before[s]].name} → {ACTION_INFO[after[s]].name})" for s in changed
    )
    return [
        "## Sensitivity: topic shift as a negative change", "",
        "The paper gives topic shift no polarity and we read it as neutral; Li et al. 2023 count it as negative. Read "
        "that way:", "",
        "| | neutral (shipped) | negative |", "| --- | ---: | ---: |",
        f"| key units | {ours.key:,} | {theirs.key:,} |",
        f"| negative | {ours.negative:,} | {theirs.negative:,} |",
        f"| prototypes | {ours.prototypes} | {theirs.prototypes} |", "",
        f"The expected outcomes of the cells keep their order (Spearman's rho {rank_correlation(by_cell, cells):.3f}). "
        f"The best action changes in {len(changed)} of {len(before)} states{': ' + names if names else ''}.",
    ]  # fmt: skip


def _effects(found: Sequence[InterventionUnit], by_cell: dict[Cell, Prototype]) -> list[str]:
    bases = base_rates(found)
    lines = [
        "## Effects", "", f"![What followed each support action, by seeker state]({HEATMAP})", "",
        "Posterior mean of the positive minus the negative share (a Dirichlet prior of ten units at the state's base "
        "rate), against the base rate. Associations in labelled dialogues: supporters chose their actions with the "
        "talk in view, and a question brings a more specific answer almost by itself.", "",
        "| state | units | positive | negative | best action (n) | weakest action (n) |",
        "| --- | ---: | ---: | ---: | --- | --- |",
    ]  # fmt: skip
    for state, base in bases.items():
        ranked = sorted((p for p in by_cell.values() if p.state == state), key=expected_outcome)
        worst, best = ranked[0], ranked[-1]
        lines.append(
            f"| {STATE_INFO[state].name} | {base.n:,} | {base.positive.rate:.0%} | {base.negative.rate:.0%} "
            f"| {ACTION_INFO[best.action].name} ({best.n}) | {ACTION_INFO[worst.action].name} ({worst.n}) |"
        )
    return lines


_HEAD = """# The build: from labelled dialogues to situations

Written by `esc-skills build report` from the shipped labels (`pipeline/data/labels.parquet`, sha256
`{sha}`) and clusters
(`pipeline/data/clusters.json`); change the code, not this page. To rebuild every step, with a copy of ESConv:

```
esc-skills corpus fetch --out ~/esconv              # CC BY-NC 4.0, from its public source
esc-skills corpus check ~/esconv                    # forms, skipped dialogues, masked contact details
esc-skills build units                              # needs no corpus: ids and codes ship with the package
esc-skills build prototypes
esc-skills build clusters --corpus ~/esconv         # needs the `train` extra
esc-skills build dossiers --corpus ~/esconv --out ~/dossiers
esc-skills build evidence --bank skills_bank/skills
esc-skills build report
```

Readers take our JSONL, the original `ESConv.json` and `FailedESConv.json`, and the lines of the Hugging Face
`train|valid|test.txt`. Contact details are masked while reading; a malformed dialogue is skipped and named; a file
without one usable dialogue is an error.
"""


def render_report(labels: Sequence[DialogueLabels] | None = None, clustering: Clustering | None = None) -> str:
    """Return `docs/build.md` as text."""
    labels, clustering = labels or load_labels(), clustering or load_clusters()
    found = units(labels)
    by_cell = dict(index(prototypes(found)))
    ours = count(found)
    blocks = [
        _HEAD.format(sha=sha256_of(shipped_labels_path())).rstrip().split("\n"),
        _beside_paper(ours, labels, found),
        _clusters(clustering, by_cell),
        _sensitivity(ours, found, by_cell),
        _effects(found, by_cell),
    ]
    return "\n\n".join("\n".join(block).rstrip() for block in blocks) + "\n"


def render_heatmap(labels: Sequence[DialogueLabels] | None = None) -> str:
    """Return `docs/effects.svg` as text."""
    found = units(labels or load_labels())
    bases = {s: base.positive.rate - base.negative.rate for s, base in base_rates(found).items()}
    return heatmap(index(prototypes(found)), bases)


def write_report(folder: Path) -> list[Path]:
    """Write `build.md` and the heatmap into `folder`, each at once, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, text in (("build.md", render_report()), (HEATMAP, render_heatmap())):
        with NamedTemporaryFile("w", encoding="utf-8", dir=folder, suffix=".tmp", delete=False) as file:
            file.write(text)
        os.chmod(file.name, 0o644)
        os.replace(file.name, folder / name)
        paths.append(folder / name)
    return paths
