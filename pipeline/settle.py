"""The last stage of training: the network learns to be int8 and to hear danger, and forgets nothing else.

Every linear layer of the trunk runs as it will after export: weights rounded to int8 per output, activations to uint8
per batch (straight-through gradients, Jacob et al. 2018), so that quantising afterwards costs next to nothing. Composed
risk lines train the risk reading and, gently, the trunk. Corpus turns stand beside them as calm examples and hold the
other heads in place: their targets are the network's own answers before this stage (self-distillation).
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from rich.progress import Progress
from torch import Tensor, nn

from ..skills_bank.encoder import Encoded, Speller
from .fit import Average, Material, Recipe, _arrays, _schedule, batches, spell
from .items import Item
from .network import Network

TRUNK_RATE, HEAD_RATE = 4e-5, 1e-3
LINE_ROUNDS = 4
"""Passes over the risk lines."""
CORPUS_ITEMS = 9000
"""Corpus turns and dialogues read beside them, each once."""
CALM_WEIGHT = 0.3
"""Weight of an unflagged corpus turn in the risk loss: calm is plentiful, and a few flags are missing."""
KEEP = {"states": 1.0, "actions": 1.0, "scenarios": 0.6}
EMBEDDING_WEIGHT = 3.0


class QuantisedLinear(nn.Linear):
    """A linear layer that computes as onnxruntime's dynamic int8 does."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return nn.functional.linear(_uint8(x), _int8(self.weight), self.bias)


def _int8(weight: Tensor) -> Tensor:
    """Round per output row, symmetric."""
    with torch.no_grad():
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / 127
        rounded = (weight / scale).round() * scale - weight
    return weight + rounded


def _uint8(x: Tensor) -> Tensor:
    """Round over the whole batch, asymmetric, zero representable."""
    with torch.no_grad():
        full = x.float()
        low, high = full.amin().clamp(max=0), full.amax().clamp(min=0)
        scale = ((high - low) / 255).clamp(min=1e-8)
        rounded = ((full / scale).round() * scale - full).to(x.dtype)
    return x + rounded


def imitate_int8(network: Network) -> None:
    """Make the trunk's linear layers compute as int8 (in place; weights and names stay)."""
    for module in network.trunk.encoder.modules():
        if type(module) is nn.Linear:
            module.__class__ = QuantisedLinear


def undo_int8(network: Network) -> None:
    """Make them plain linear layers again, for export."""
    for module in network.trunk.encoder.modules():
        if type(module) is QuantisedLinear:
            module.__class__ = nn.Linear


class Kept(NamedTuple):
    """The network's answers before this stage, one row an item."""

    states: Tensor
    actions: Tensor
    scenarios: Tensor
    embedding: Tensor


def answers(network: Network, inputs: Sequence[Encoded]) -> Kept:
    """Return the probabilities and embeddings of the network as it is."""
    network.eval()
    heads = network.heads
    sizes = {name: head.out_features for name, head in heads.items()}  # pyright: ignore[reportAttributeAccessIssue]
    found = Kept(*(torch.zeros(len(inputs), sizes[name]) for name in KEEP), torch.zeros(len(inputs), 384))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for group in batches([len(item.ids) for item in inputs], 4096, None):
            features, _, embedding = network.pool(*_arrays([inputs[i] for i in group]))
            found.states[group] = heads["states"](features).float().softmax(1)
            found.actions[group] = heads["actions"](features).float().sigmoid()
            found.scenarios[group] = heads["scenarios"](features).float().softmax(1)
            found.embedding[group] = embedding.float()
    return found


class _Batch(NamedTuple):
    corpus: list[int]
    lines: list[int]


def settle(
    network: Network, data: Material, lines: Sequence[Item], speller: Speller, recipe: Recipe, progress: Progress
) -> Network:
    """Train the last stage and return the network, plain again and ready for export.

    Args:
        network: The trained network; changed in place.
        data: The corpus items it was trained on.
        lines: Composed risk lines, each with its risk targets.
        speller: Turns them into inputs.
        recipe: For seed, dropout, warm-up and batch size.
        progress: Shown while it runs.
    """
    torch.manual_seed(recipe.seed)
    random_ = random.Random(recipe.seed)
    chosen = _sample(data, random_)
    corpus = [data.inputs[i] for i in chosen]
    kept = answers(network, corpus)
    inputs = spell(speller, lines)
    goal = torch.tensor([item.risk for item in lines])
    flagged = torch.tensor([data.items[i].risk or (0.0,) * goal.shape[1] for i in chosen])
    calm = torch.tensor([float(data.items[i].risk is not None) for i in chosen])
    calm = torch.where(flagged.sum(1) > 0, calm, calm * CALM_WEIGHT)

    network.risk.requires_grad_(True)
    imitate_int8(network)
    network.train()
    steps = torch.optim.AdamW(
        [
            {"params": [p for p in network.trunk.parameters() if p.requires_grad], "lr": TRUNK_RATE},
            {"params": network.risk.parameters(), "lr": HEAD_RATE, "weight_decay": 0.05},
            {"params": [*network.heads.parameters(), *network.projection.parameters()], "lr": HEAD_RATE / 10},
        ],
        weight_decay=0.01,
    )
    peaks = [group["lr"] for group in steps.param_groups]
    average = Average(network, 0.98)
    plan = _plan(corpus, inputs, recipe, random_)
    task = progress.add_task("settling", total=len(plan))
    for step, batch in enumerate(plan):
        for group, peak in zip(steps.param_groups, peaks, strict=True):
            group["lr"] = peak * _schedule(step, len(plan), recipe.warm_up)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cost = _corpus_loss(network, [corpus[i] for i in batch.corpus], kept, flagged, calm, batch.corpus)
            if batch.lines:
                deep = network.pool(*_arrays([inputs[i] for i in batch.lines]))[1]
                logits = network.risk(network.dropout(deep))
                cost = cost + nn.functional.binary_cross_entropy_with_logits(logits, goal[batch.lines]) * 4
        cost.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        steps.step()
        steps.zero_grad()
        average.update()
        progress.update(task, advance=1, description=f"settling (loss {cost.item():.2f})")
    average.swap()
    undo_int8(network)
    network.risk.requires_grad_(False)
    return network.eval()


def _sample(data: Material, random_: random.Random) -> list[int]:
    """Return all flagged turns and a random part of the rest."""
    flagged = [i for i, item in enumerate(data.items) if any(item.risk or ())]
    rest = sorted(set(range(len(data.items))) - set(flagged))
    return flagged + random_.sample(rest, min(CORPUS_ITEMS, len(rest)))


def _plan(corpus: Sequence[Encoded], inputs: Sequence[Encoded], recipe: Recipe, random_: random.Random) -> list[_Batch]:
    groups = batches([len(item.ids) for item in corpus], recipe.tokens_a_batch, random_)
    rounds = [i for _ in range(LINE_ROUNDS) for i in random_.sample(range(len(inputs)), len(inputs))]
    size = -(-len(rounds) // len(groups))
    return [_Batch(group, rounds[at * size : (at + 1) * size]) for at, group in enumerate(groups)]


def _corpus_loss(
    network: Network, inputs: list[Encoded], kept: Kept, flagged: Tensor, calm: Tensor, rows: list[int]
) -> Tensor:
    features, deep, embedding = network.pool(*_arrays(inputs))
    logits = {name: network.heads[name](network.dropout(features)).float() for name in KEEP}
    cost = KEEP["states"] * nn.functional.cross_entropy(logits["states"], kept.states[rows])
    cost = cost + KEEP["scenarios"] * nn.functional.cross_entropy(logits["scenarios"], kept.scenarios[rows])
    actions = nn.functional.binary_cross_entropy_with_logits(logits["actions"], kept.actions[rows], reduction="none")
    cost = cost + KEEP["actions"] * actions.sum(1).mean()
    cost = cost + EMBEDDING_WEIGHT * (1 - (embedding.float() * kept.embedding[rows]).sum(1)).mean()
    risk = nn.functional.binary_cross_entropy_with_logits(
        network.risk(network.dropout(deep)).float(), flagged[rows], reduction="none"
    ).mean(1)
    return cost + (risk * calm[rows]).sum() / calm[rows].sum().clamp(min=1.0)
