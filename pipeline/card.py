"""The encoder's model card, rendered from the report of a training run: every figure in it is one that was measured."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .ladder import STATES
from .scores import ClassScore, Figures

if TYPE_CHECKING:
    from .train import TrainReport

TARGETS = {
    "state_accuracy": ("State accuracy", 0.70),
    "state_macro_f1": ("State macro-F1", 0.57),
    "state_top3": ("State top-3", 0.90),
    "action_top1": ("Action top-1 among the labelled", 0.83),
    "scenario_accuracy": ("Primary scenario, whole dialogue", 0.65),
}


def model_card(report: "TrainReport") -> str:
    """Return the model card as Markdown."""
    measured = report.evaluation
    parts = [
        _HEAD.format(
            version=measured.version,
            day=report.day,
            hardware=report.hardware,
            megabytes=report.megabytes,
            quantisation=report.quantisation,
            minutes=", ".join(f"{name} {value:g} min" for name, value in report.minutes.items()),
            **{key.replace(" ", "_"): value for key, value in report.items.items()},
        ),
        "## Figures on `valid`\n",
        _targets(measured.figures),
        "## Baseline ladder\n",
        _ladder(report.ladder),
        _RECIPE.format(recipe=", ".join(f"{name} {value:g}" for name, value in report.recipe.items())),
        "## Quantisation\n",
        _table(
            ("export", "state accuracy", "state macro-F1"),
            [(name, f"{f['state_accuracy']:.4f}", f"{f['state_macro_f1']:.4f}") for name, f in report.tried.items()],
        ),
        "The first variant that costs less than 0.01 of macro-F1 ships.\n",
        _CALIBRATION,
        _table(
            ("head", "temperature", "ECE at 1", "ECE after"),
            [
                (name.replace("_", " "), f"{c.temperature:.2f}", f"{c.before:.3f}", f"{c.after:.3f}")
                for name, c in report.calibration.items()
            ],
        ),
        "## Classes\n\n### Seeker states\n",
        _classes(measured.states),
        "### Support actions (each decided at 0.5)\n",
        f"Macro-F1 {measured.figures.action_macro_f1:.3f}.\n",
        _classes(measured.actions),
        "### Primary scenarios (whole dialogues)\n",
        _classes(measured.scenarios),
        "## Confusion of states (rows: label, columns: prediction)\n",
        _confusion(measured.confusion),
        _LIMITS,
    ]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _targets(figures: Figures) -> str:
    rows = []
    for name, (label, target) in TARGETS.items():
        value = getattr(figures, name)
        rows.append(
            (label, f"{value:.4f}", f"{target:.2f}", "met" if value >= target else f"missed by {target - value:.4f}")
        )
    return _table(("figure", "shipped model", "target", ""), rows)


def _ladder(ladder: dict[str, Figures]) -> str:
    head = ("model", "state acc.", "macro-F1", "weighted F1", "top-3", "action top-1", "scenario")
    names = ("state_accuracy", "state_macro_f1", "state_weighted_f1", "state_top3", "action_top1", "scenario_accuracy")
    return _table(head, [(label, *(f"{getattr(f, name):.3f}" for name in names)) for label, f in ladder.items()])


def _classes(scores: Sequence[ClassScore]) -> str:
    rows = [(f"`{s.label}`", f"{s.precision:.2f}", f"{s.recall:.2f}", f"{s.f1:.2f}", str(s.n)) for s in scores]
    return _table(("label", "precision", "recall", "F1", "n"), rows)


def _confusion(matrix: Sequence[Sequence[int]]) -> str:
    codes = [
        "".join(word[0] for word in str(state).split("_") if word not in {"and", "or"}).upper() for state in STATES
    ]
    codes = [f"{code}{i + 1}" for i, code in enumerate(codes)]
    rows = [(f"`{state}` {codes[i]}", *map(str, matrix[i])) for i, state in enumerate(STATES)]
    return _table(("", *codes), rows)


_HEAD = """# The encoder: model card

Written by `esc-skills train` (`pipeline/card.py`); do not edit by hand. Version `{version}`, {day}, {hardware}.

**What it is.** One multi-task model fine-tuned from all-MiniLM-L6-v2 (6 layers, 384 dimensions). It reads a turn
and the two turns before it and gives, in one forward pass, a sentence embedding for retrieval, the seeker's state
(15), support actions (17, several at a time), the scenario (18), three kinds of risk and whether the level is
high. A second use reads the seeker's lines so far and gives the scenario of the dialogue. It ships as ONNX
(`{quantisation}`, {megabytes} MB with tokeniser and card); serving needs onnxruntime and
tokenizers alone, and refuses files that do not match their checksum.

**Data.** ESConv's train split and FailedESConv with this project's labels: {training_turns:,} turns of
{training_dialogues:,} dialogues. {composed_risk_lines:,} composed risk lines, and the taxonomy's own definitions
and examples. Figures are measured on ESConv's validation split ({validation_turns:,} turns, {validation_dialogues}
dialogues), on which the temperatures were fitted and the recipe was chosen. The labels were written by a Claude
model; two of its passes agree with each other at 0.89 accuracy on states, which is the ceiling for any figure here.

**Licence.** The weights derive from ESConv, CC BY-NC 4.0: non-commercial use, with attribution. MiniLM is
Apache-2.0.

**Commands.** `esc-skills train` repeats the run ({minutes}; two cores shared with other work); `esc-skills eval
encoder` measures the shipped files. Seeds are fixed; sums of bf16 products may differ in the last digits between
processors, and with them the figures in the third decimal.
"""

_RECIPE = """The ladder is computed by the same command. TF-IDF: words and word pairs of the current turn and of the
context as
separate features. Frozen MiniLM: its sentence vectors of the current turn and of the context, side by side. Both
with logistic regression, C = 4.

## Recipe

Input: `[CLS] who turn [SEP] who turn-2 who turn-1 [SEP]`. `who` is one of BERT's free vocabulary entries; the
context is the second segment. The current turn keeps 64 tokens (its first 16 and last 48, since the state shows in
the last clause), the previous turn its last 28, the one before its last 20. A dialogue is read as its seeker's
lines, first 60 and last 60 tokens.

Pooling: mean over the current turn, mean over everything, and the first token, side by side; one linear layer a
head. The embedding is a linear map (from the identity) of the first mean, normalised.

Losses: states, cross-entropy with label smoothing, classes weighted n^-balance; actions, binary cross-entropy;
scenarios, cross-entropy against a distribution over the dialogue's scenarios (the primary one counts three),
lightly on single turns; risk, binary cross-entropy on the corpus's own flags. Auxiliary heads, not exported: the
response change, which is judged between the seeker turn two before and this one, both in the input; ESConv's own
strategy labels. The embedding is held near frozen MiniLM's of the same text (1 - cosine), so that short composed
lines are still found by it.

AdamW, linear warm-up and decay, rate falling by layer, word embeddings frozen, gradient norm 1, bf16 autocast,
batches of like length. Weights are averaged over the steps (exponential moving average); what ships is the mean of
that average after the first epoch and at the end (Wortsman et al. 2022), which is better on unseen dialogues than
either.

At the end the risk reading is fitted on the frozen trunk, which for it is pooled after every layer: a kernel machine
(`pipeline/risk_head.py`) over the composed lines of fifteen writers and a sample of unflagged corpus turns.
`docs/safety.md` has the figures of it and of the other readers on the test set.

Values: {recipe}.
"""

_CALIBRATION = """## Calibration

One temperature a head (Guo et al. 2017), fitted on `valid` by negative log likelihood. "ECE after" is cross-fitted:
each half of the dialogues is judged with the temperature of the other. Expected calibration error over 15 bins; for
actions over all 17 sigmoids. The risk head keeps temperature 1: `skills_bank/risk.py` holds its thresholds.
"""

_LIMITS = """## Limits

English only. Short answers ("yes", "ok") carry little, and withdrawal, with few examples, is read poorly. Labels of
rare states vary between annotators too. The embedding is meant for lines of a sentence or two. The model is no
clinical instrument; its risk head must never be the only detector.
"""
