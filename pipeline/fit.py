"""Fits the encoder's network: one multi-task fine-tuning of all-MiniLM-L6-v2 in bf16 on the CPU."""

import math
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Several processes share the cores; threads that spin at a barrier while another process holds a core make each
# operation wait for a scheduler tick (measured: 350 instead of 2,300 tokens a second). Read once, when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from rich.progress import Progress
from torch import Tensor, nn

from ..skills_bank.encoder import EMBEDDING_SIZE, RISK_OUTPUTS, Encoded, Speller, padded
from ..skills_bank.taxonomy import ESCONV_STRATEGIES, ResponseChange, Scenario, SeekerState, SupportAction
from .items import PRIMARY_WEIGHT, Item, dialogue_items, taxonomy_items, teacher_texts, turn_items
from .labels import BUILD_SPLITS
from .network import Network, load_trunk


class Recipe(NamedTuple):
    """Everything that decides what comes out of a training run, apart from the data."""

    epochs: float = 3.0
    seed: int = 13
    threads: int = 2
    tokens_a_batch: int = 2048
    trunk_rate: float = 1.2e-4
    layer_decay: float = 0.9
    head_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: float = 0.08
    dropout: float = 0.1
    smoothing: float = 0.05
    balance: float = 0.3
    """Exponent of the inverse class frequency that weighs the states' loss."""
    average: float = 0.995
    """Decay of the exponential moving average of the weights, which is what ships."""
    views: int = 1
    """Random beginnings of each dialogue that are read for the scenario, beside the whole."""
    early: float = 1.0
    """Epochs after which the weights are kept for the mean."""
    early_share: float = 0.5
    """Their weight in the mean."""


LOSS_WEIGHTS = {
    "states": 1.0, "actions": 0.5, "scenarios": 0.6, "changes": 0.3, "strategies": 0.2, "risk": 0.3, "embedding": 2.0,
}  # fmt: skip
RISK_POSITIVE = 3.0
"""Weight of a risky turn against a calm one: missing one is worse than a question too many."""
TURN_SCENARIO_WEIGHT = 0.3  # a single turn often tells nothing of the dialogue's scenario


class Targets(NamedTuple):
    """Targets of all items as arrays; a row without a target has weight 0."""

    states: Tensor
    states_weight: Tensor
    actions: Tensor
    actions_weight: Tensor
    scenarios: Tensor
    scenarios_weight: Tensor
    changes: Tensor
    changes_weight: Tensor
    strategies: Tensor
    strategies_weight: Tensor
    risk: Tensor
    risk_weight: Tensor


def targets(items: Sequence[Item]) -> Targets:
    """Return the items' targets."""
    states, changes = list(SeekerState), list(ResponseChange)
    actions, scenarios = list(SupportAction), list(Scenario)

    def index(values: list[Any], value: Any) -> int:
        return values.index(value) if value is not None else 0

    def several(values: Sequence[Any], chosen: Sequence[Any], first: float = 1.0) -> list[float]:
        row = [0.0] * len(values)
        for place, value in enumerate(chosen):
            row[list(values).index(value)] = first if place == 0 else 1.0
        return row

    def weight(given: Callable[[Item], Any]) -> Tensor:
        return torch.tensor([float(bool(given(item))) for item in items])

    shares = torch.tensor([several(scenarios, item.scenarios, PRIMARY_WEIGHT) for item in items])
    return Targets(
        states=torch.tensor([index(states, item.state) for item in items]),
        states_weight=weight(lambda item: item.state),
        actions=torch.tensor([several(actions, item.actions) for item in items]),
        actions_weight=weight(lambda item: item.actions),
        scenarios=shares / shares.sum(1, keepdim=True).clamp(min=1.0),
        scenarios_weight=torch.tensor(
            [bool(item.scenarios) * (1.0 if item.lines else TURN_SCENARIO_WEIGHT) for item in items]
        ),
        changes=torch.tensor([index(changes, item.change) for item in items]),
        changes_weight=weight(lambda item: item.change),
        strategies=torch.tensor([several(ESCONV_STRATEGIES, item.strategies) for item in items]),
        strategies_weight=weight(lambda item: item.strategies),
        risk=torch.tensor([item.risk or (0.0,) * len(RISK_OUTPUTS) for item in items]),
        risk_weight=weight(lambda item: item.risk is not None),
    )


def spell(speller: Speller, items: Sequence[Item]) -> list[Encoded]:
    """Return the items' inputs."""
    turns = iter(speller.turns([item.turn for item in items if item.turn]))
    return [next(turns) if item.turn else speller.dialogue(item.lines) for item in items]


def batches(lengths: Sequence[int], budget: int, random_: random.Random | None) -> list[list[int]]:
    """Group items of similar length so that a padded batch holds at most `budget` tokens."""
    order = list(range(len(lengths)))
    if random_:
        random_.shuffle(order)
    span = 1500 if random_ else len(order)  # sorted within spans, so that a batch still mixes dialogues
    groups: list[list[int]] = []
    for begin in range(0, len(order), span):
        group: list[int] = []
        for i in sorted(order[begin : begin + span], key=lambda i: lengths[i]):
            if group and (len(group) + 1) * lengths[i] > budget:
                groups.append(group)
                group = []
            group.append(i)
        if group:
            groups.append(group)
    if random_:
        random_.shuffle(groups)
    return groups


def _arrays(inputs: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    ids, types = padded(inputs)
    return torch.from_numpy(ids), torch.from_numpy(types)


def frozen_embeddings(speller: Speller, texts: Sequence[str]) -> Tensor:
    """Return the frozen MiniLM's sentence embeddings: the teacher that keeps fine-tuned ones fit for retrieval."""
    trunk = load_trunk().eval()
    unique = list(dict.fromkeys(texts))
    encoded = speller.plain(unique)
    found = torch.zeros(len(unique), EMBEDDING_SIZE)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for group in batches([len(item.ids) for item in encoded], 4096, None):
            ids, types = _arrays([encoded[i] for i in group])
            mask = ids.ne(0)
            hidden = trunk(input_ids=ids, token_type_ids=types, attention_mask=mask.long()).last_hidden_state
            found[group] = nn.functional.normalize((hidden.float() * mask.unsqueeze(-1)).sum(1), dim=-1)
    row = {text: i for i, text in enumerate(unique)}
    return found[[row[text] for text in texts]]


def loss(
    network: Network, inputs: Sequence[Encoded], goal: Targets, teacher: Tensor, state_weights: Tensor, smoothing: float
) -> Tensor:
    """Return the weighted sum of the heads' losses; each averages over the items that have its target."""
    features, _, embedding = network.pool(*_arrays(inputs))
    logits = network.logits(features)

    def one(name: str, wanted: Tensor, weight: Tensor | None = None) -> Tensor:
        return nn.functional.cross_entropy(
            logits[name], wanted, weight=weight, label_smoothing=smoothing, reduction="none"
        )

    def several(name: str, wanted: Tensor, positive: float = 1.0) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(
            logits[name], wanted, pos_weight=torch.tensor(positive), reduction="none"
        ).sum(1)

    parts = {
        "states": (one("states", goal.states, state_weights), goal.states_weight),
        "scenarios": (one("scenarios", goal.scenarios), goal.scenarios_weight),
        "changes": (one("changes", goal.changes), goal.changes_weight),
        "actions": (several("actions", goal.actions), goal.actions_weight),
        "strategies": (several("strategies", goal.strategies), goal.strategies_weight),
        "risk": (several("risk", goal.risk, RISK_POSITIVE), goal.risk_weight),
        "embedding": (1 - (embedding * teacher).sum(1), torch.ones(len(inputs))),
    }
    total = torch.zeros(())
    for name, (values, weight) in parts.items():
        total = total + LOSS_WEIGHTS[name] * (values * weight).sum() / weight.sum().clamp(min=1.0)
    return total


def optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW with a rate that falls from the heads down the layers, and no decay on biases and norms."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((_rate(name, recipe), decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()], fused=True
    )


def _rate(name: str, recipe: Recipe) -> float:
    if not name.startswith("trunk."):
        return recipe.head_rate
    if ".layer." not in name:
        return recipe.trunk_rate * recipe.layer_decay**6
    return recipe.trunk_rate * recipe.layer_decay ** (5 - int(name.split(".layer.")[1].split(".")[0]))


class Average:
    """Exponential moving average of the weights; it trails noise of the last steps and generalises better."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._live = [p for p in network.parameters() if p.requires_grad]
        self._kept = [p.detach().clone() for p in self._live]
        self._decay = decay
        self._steps = 0

    def update(self) -> None:
        """Take in the present weights; the decay grows with the steps so that the start is forgotten."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for kept, live in zip(self._kept, self._live, strict=True):
            kept.lerp_(live.detach(), 1 - decay)

    def swap(self) -> None:
        """Exchange the live and the averaged weights."""
        with torch.no_grad():
            for live, kept in zip(self._live, self._kept, strict=True):
                held = live.detach().clone()
                live.copy_(kept)
                kept.copy_(held)


def state_weights(goal: Targets, balance: float) -> Tensor:
    """Return class weights n^-balance, scaled so that the mean over items is 1."""
    counts = torch.bincount(goal.states[goal.states_weight > 0], minlength=len(SeekerState)).float().clamp(min=1.0)
    weights = counts**-balance
    return weights * counts.sum() / (weights * counts).sum()


class Material(NamedTuple):
    """Training items, spelled, with their targets and teacher embeddings."""

    items: list[Item]
    inputs: list[Encoded]
    goal: Targets
    teacher: Tensor

    def batch(self, which: Sequence[int]) -> tuple[list[Encoded], Targets, Tensor]:
        """Return the inputs, targets and teacher rows of some items."""
        rows = torch.tensor(which)
        return [self.inputs[i] for i in which], Targets(*(part[rows] for part in self.goal)), self.teacher[rows]


def material(shared: Path, speller: Speller, recipe: Recipe) -> Material:
    """Read and prepare what the trunk is trained on: ESConv's train split, FailedESConv and the taxonomy."""
    items = turn_items(shared, BUILD_SPLITS)
    items += dialogue_items(shared, BUILD_SPLITS, recipe.views, recipe.seed)
    items += taxonomy_items()
    return Material(items, spell(speller, items), targets(items), frozen_embeddings(speller, teacher_texts(items)))


def fit(data: Material, recipe: Recipe, progress: Progress) -> Network:
    """Return the trained network: the mean of the weights early in the run and at its end.

    Weights of one run lie in one basin and can be averaged (Wortsman et al. 2022, "Model soups"). The early ones know
    less and are less sure of the training dialogues; the mean is better on new ones than either.
    """
    torch.manual_seed(recipe.seed)
    network = Network(recipe.dropout)
    plan = _plan([len(item.ids) for item in data.inputs], recipe.epochs, recipe)
    early = Network(recipe.dropout)

    def keep(average: Average) -> None:
        average.swap()
        early.load_state_dict(network.state_dict())
        average.swap()

    _stage(network, data, plan, recipe, progress, after=math.floor(len(plan) * recipe.early / recipe.epochs), then=keep)
    return mean(network, early, recipe.early_share)


def mean(first: Network, second: Network, share: float) -> Network:
    """Return `first` with the weights `(1 - share) * first + share * second`, ready for use."""
    other = second.state_dict()
    blended = {
        name: torch.lerp(value, other[name], share) if value.is_floating_point() else value
        for name, value in first.state_dict().items()
    }
    first.load_state_dict(blended)
    return first.eval()


def _stage(
    network: Network,
    data: Material,
    plan: list[list[int]],
    recipe: Recipe,
    progress: Progress,
    *,
    after: int = 0,
    then: Callable[[Average], None] | None = None,
) -> None:
    """Run the batches of `plan` and leave the averaged weights in the network; `then` is called `after` that many."""
    network.train()
    steps = optimizer(network, recipe)
    average = Average(network, recipe.average)
    weights = state_weights(data.goal, recipe.balance)
    peaks = [group["lr"] for group in steps.param_groups]
    task = progress.add_task("training", total=len(plan))
    for step, which in enumerate(plan):
        for group, peak in zip(steps.param_groups, peaks, strict=True):
            group["lr"] = peak * _schedule(step, len(plan), recipe.warm_up)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cost = loss(network, *data.batch(which), weights, recipe.smoothing)
        cost.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        steps.step()
        steps.zero_grad()
        average.update()
        progress.update(task, advance=1, description=f"training (loss {cost.item():.2f})")
        if then and step + 1 == max(1, after):
            then(average)
    average.swap()


def _plan(lengths: Sequence[int], epochs: float, recipe: Recipe) -> list[list[int]]:
    random_ = random.Random(recipe.seed)
    rounds = [batches(lengths, recipe.tokens_a_batch, random_) for _ in range(math.ceil(epochs))]
    plan = [group for round_ in rounds for group in round_]
    return plan[: round(len(plan) * epochs / max(1, len(rounds)))]


def _schedule(step: int, total: int, warm_up: float) -> float:
    """Return the share of the peak rate: linear up over the first steps, then linear down to 3%."""
    warm = max(1, round(warm_up * total))
    if step < warm:
        return (step + 1) / warm
    return 1.0 - 0.97 * (step - warm) / max(1, total - warm)
