"""From the trained network to the shipped files: one ONNX graph, quantised, with a card that carries the checksums."""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..skills_bank.encoder import CARD_FILE, FORMAT, MODEL_FILE, RISK_OUTPUTS, TOKENIZER_FILE, Limits
from ..skills_bank.taxonomy import Scenario, SeekerState, SupportAction
from .network import HEADS, Network, Outputs, minilm_folder

OPSET = 17
SERVED = 2
"""Rows a batch when an export is measured: int8 rounds over the whole batch, and serving reads a few rows at a time."""
_HEADS = 12
_HIDDEN = 384


def export_fp32(network: Network, path: Path) -> None:
    """Write the network as an fp32 ONNX graph with inputs `ids` and `types` of shape (n, tokens)."""
    network.eval()
    example = (torch.tensor([[101, 2, 7592, 102, 0], [101, 3, 7592, 102, 2]]), torch.tensor([[0] * 5, [0, 0, 0, 0, 1]]))
    axes = {0: "n", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns about shape checks in transformers that cannot vary here
        torch.onnx.export(
            network,
            example,
            str(path),
            input_names=["ids", "types"],
            output_names=list(Outputs._fields),
            dynamic_axes={"ids": axes, "types": axes} | {name: {0: "n"} for name in Outputs._fields},
            opset_version=OPSET,
            dynamo=False,
        )


def fuse(source: Path, target: Path) -> None:
    """Fuse attention, layer norms and GELU into onnxruntime's own operators, which halves the time of a reading."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False
    options.enable_skip_layer_norm = False  # slower on a CPU than its parts, see `Encoder.load`
    options.enable_bias_skip_layer_norm = False
    fused = optimizer.optimize_model(
        str(source), "bert", num_heads=_HEADS, hidden_size=_HIDDEN, optimization_options=options, opt_level=0
    )
    fused.save_model_to_file(str(target))


def quantise(source: Path, target: Path, *, keep: Sequence[str] = ()) -> None:
    """Quantise the trunk's weights to int8 per column and its activations dynamically, and the word table per row.

    The heads and the projection stay fp32: they are a fiftieth of the work and decide the answer. Nodes whose name
    contains one of `keep` stay fp32 too.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kept = ("/projection", *(f"/{name}/" for name in HEADS), *keep)
    names = [node.name for node in onnx.load(str(source)).graph.node]
    quantize_dynamic(
        str(source),
        str(target),
        op_types_to_quantize=["MatMul", "Attention"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[
            excluded
            for name in names
            if any(part in name for part in kept)
            for excluded in (name, f"{name}_MatMul")  # what onnxruntime renames a Gemm to before it looks
        ],
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    model = onnx.load(str(target))
    _shrink_word_table(model)
    onnx.save(model, str(target))


def _shrink_word_table(model: Any) -> None:
    """Store the word embeddings as int8 with one scale a row: a scale for the whole table would flatten most words."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    table = next(item for item in graph.initializer if "word_embeddings" in item.name)
    gather = next(node for node in graph.node if node.op_type == "Gather" and node.input[0] == table.name)
    rows = numpy_helper.to_array(table)
    scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12) / 127.0
    whole = numpy_helper.from_array(np.round(rows / scales).astype(np.int8), "words_int8")
    parts = numpy_helper.from_array(scales.astype(np.float32), "words_scale")
    graph.initializer.remove(table)
    graph.initializer.extend([whole, parts])
    ids, out = gather.input[1], gather.output[0]
    nodes = [
        helper.make_node("Gather", ["words_int8", ids], ["words_raw"], name="words_gather"),
        helper.make_node("Cast", ["words_raw"], ["words_float"], name="words_cast", to=TensorProto.FLOAT),
        helper.make_node("Gather", ["words_scale", ids], ["words_step"], name="words_scale_gather"),
        helper.make_node("Mul", ["words_float", "words_step"], [out], name="words_mul"),
    ]
    place = list(graph.node).index(gather)
    graph.node.remove(gather)
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)


def _int8(*keep: str) -> Callable[[Path, Path], None]:
    def make(source: Path, target: Path) -> None:
        fused = target.with_suffix(".fused.onnx")
        fuse(source, fused)
        quantise(fused, target, keep=keep)

    return make


VARIANTS: dict[str, Callable[[Path, Path], None]] = {
    "int8": _int8(),
    "int8, attention output fp32": _int8("/attention/output/"),
    "int8, first layer fp32": _int8("/layer.0/", "Attention_0"),
}
"""Ways to export within the size limit, smallest first."""


def write_model(
    folder: Path,
    model: Path,
    *,
    temperatures: Mapping[str, float],
    limits: Limits,
    about: Mapping[str, Any],
) -> Path:
    """Write `encoder.onnx`, `tokenizer.json` and `encoder.json` to `folder`, and return it.

    The version is the hash of the graph, the tokeniser and the temperatures: what decides an answer, and nothing else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if model.resolve() != (folder / MODEL_FILE).resolve():
        shutil.copyfile(model, folder / MODEL_FILE)
    # The padding and truncation that the original carries belong to another use of it.
    tokenizer = json.loads((minilm_folder() / TOKENIZER_FILE).read_text(encoding="utf-8"))
    tokenizer |= {"padding": None, "truncation": None}
    (folder / TOKENIZER_FILE).write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    sums = {name: sha256((folder / name).read_bytes()).hexdigest() for name in (MODEL_FILE, TOKENIZER_FILE)}
    deciding = json.dumps([sums, dict(temperatures), limits._asdict()], sort_keys=True)
    card = {
        "format": FORMAT,
        "version": sha256(deciding.encode()).hexdigest()[:12],
        "files": sums,
        "labels": {
            "states": list(SeekerState),
            "actions": list(SupportAction),
            "scenarios": list(Scenario),
            "risk": list(RISK_OUTPUTS),
        },
        "limits": limits._asdict(),
        "temperatures": dict(temperatures),
        **about,
    }
    (folder / CARD_FILE).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def onnx_logits(model: Path, inputs: Sequence[Any], threads: int = 2) -> dict[str, np.ndarray]:
    """Return all outputs of a graph over many inputs, batched by length as in serving."""
    import onnxruntime

    from ..skills_bank.encoder import padded

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    order = np.argsort([len(item.ids) for item in inputs], kind="stable")
    parts: list[list[np.ndarray]] = []
    for begin in range(0, len(order), SERVED):
        ids, types = padded([inputs[i] for i in order[begin : begin + SERVED]])
        parts.append(session.run(None, {"ids": ids, "types": types}))  # pyright: ignore[reportArgumentType]
    back = np.argsort(order, kind="stable")
    return {name: np.concatenate([part[k] for part in parts])[back] for k, name in enumerate(Outputs._fields)}
