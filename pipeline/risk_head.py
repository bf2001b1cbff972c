"""The encoder's risk head: a kernel machine over the means of the frozen trunk's layers, grafted into the ONNX file.

A line is compared with landmarks, some of the composed lines themselves: score = Σ_j w_j exp(-γ |z - c_j|²), where z is
the standardised, rotated feature row (Nyström's method for kernel ridge regression: Williams & Seeger 2001). A linear
head on the same features catches a tenth fewer of the lines by a writer it has not seen; training the trunk on
the lines as well did no better (docs/safety.md). Serving sees the same graph with the same outputs and knows nothing of
it.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..skills_bank.encoder import CARD_FILE, MODEL_FILE, TOKENIZER_FILE, Limits, Speller, Turn, padded
from ..skills_bank.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

ROTATED = 256
"""Directions kept of the feature space, those of greatest variance."""
LANDMARKS, CALM_LANDMARKS = 3700, 300
"""Composed lines and calm turns that others are compared with: fewer cost recall, all would cost 25 MB."""
WIDTH = 1.0
"""γ of the kernel, times the number of features: the mean squared distance of two standardised rows is twice that."""
RIDGE = 0.3
OUTPUT = "risk"
_PREFIX = "/risk/"
_FEATURES = "risk_features"


class RiskHead(NamedTuple):
    """All numbers of the head; standardising is folded into the rotation."""

    rotate: "Floats"
    """(features, `ROTATED`)."""
    shift: "Floats"
    """(`ROTATED`,), subtracted after the rotation."""
    landmarks: "Floats"
    """(`ROTATED`, landmarks)."""
    squares: "Floats"
    """(landmarks,), squared length of each."""
    width: float
    weights: "Floats"
    """(landmarks, outputs)."""
    bias: "Floats"
    """(outputs,)."""

    def score(self, features: "Floats") -> "Floats":
        """Return the logits (n, outputs) of feature rows."""
        return self.kernel(features) @ self.weights + self.bias

    def kernel(self, features: "Floats") -> "Floats":
        """Return the similarity (n, landmarks) of feature rows with the landmarks."""
        z = features @ self.rotate - self.shift
        distance = (z * z).sum(1, keepdims=True) - 2.0 * (z @ self.landmarks) + self.squares
        return np.exp(-self.width * np.maximum(distance, 0.0))

    def scaled(self, slope: "Floats", offset: "Floats") -> "RiskHead":
        """Return the head whose logits are `slope` · logit + `offset`, one pair an output (Platt's scaling)."""
        return self._replace(weights=self.weights * slope, bias=self.bias * slope + offset)


def fit_head(features: "Floats", goals: "Floats", weights: "Floats", seed: int = 0) -> RiskHead:
    """Return the head fitted by weighted least squares on goals of 0 and 1.

    Args:
        features: (n, size) rows of `TrunkReader`.
        goals: (n, outputs).
        weights: (n,) weight of each row; a composed line has at least 1, a calm turn less.
        seed: Chooses the landmarks.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-6
    rows = (features - mean) / spread
    _, directions = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    turn = directions[:, ::-1][:, : min(ROTATED, directions.shape[1])].astype(np.float32)
    rotate = turn / spread[:, None]
    chosen = _landmarks(weights, seed)
    landmarks = (rows[chosen] @ turn).T
    head = RiskHead(
        rotate=rotate,
        shift=(mean @ rotate).astype(np.float32),
        landmarks=np.ascontiguousarray(landmarks),
        squares=(landmarks * landmarks).sum(0),
        width=WIDTH / features.shape[1],
        weights=np.zeros((landmarks.shape[1], goals.shape[1]), dtype=np.float32),
        bias=np.zeros(goals.shape[1], dtype=np.float32),
    )
    likeness = head.kernel(features).astype(np.float64)
    between = head.kernel(features[chosen]).astype(np.float64)
    system = likeness.T @ (weights[:, None] * likeness) + RIDGE * (between + 1e-4 * np.eye(len(between)))
    found = np.linalg.solve(system, likeness.T @ (weights[:, None] * 2.0 * goals))
    # Calm is what holds far from every landmark: an odd line about bins must not be raised for being odd.
    return head._replace(weights=found.astype(np.float32), bias=np.full(goals.shape[1], -1.0, dtype=np.float32))


def _landmarks(weights: "Floats", seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(len(weights))
    composed, calm = order[weights[order] >= 1], order[weights[order] < 1]
    return np.sort(np.concatenate([composed[:LANDMARKS], calm[:CALM_LANDMARKS]]))


class TrunkReader:
    """Reads the rows a risk head is fitted on out of an encoder folder, one line a run as in serving.

    Raises:
        ModelError: The graph has no risk head to take its input from.
    """

    def __init__(self, folder: Path) -> None:
        import onnx
        import onnxruntime

        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        model = onnx.load(str(folder / MODEL_FILE))
        name = _input_name(model)
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],  # as `Encoder.load`: the rows must be those of serving
        )
        self._name = name
        self._speller = Speller.from_file(folder / TOKENIZER_FILE, Limits(**card["limits"]))

    def read(self, turns: Sequence[Turn]) -> "Floats":
        """Return one feature row a turn."""
        rows = []
        for turn in turns:
            ids, types = padded(self._speller.turns([turn]))
            found: list[Any] = list(self._session.run([self._name], {"ids": ids, "types": types}))
            rows.append(found[0][0])
        return np.asarray(rows, dtype=np.float32)


def _input_name(model: Any) -> str:
    """Return the tensor that the risk head reads: the only input of its nodes that comes from outside them."""
    inside = [node for node in model.graph.node if node.name.startswith(_PREFIX)]
    made = {name for node in inside for name in node.output} | {item.name for item in model.graph.initializer}
    names = {name for node in inside for name in node.input} - made
    if len(names) != 1:
        raise ModelError(f"The encoder's graph has no single input of a risk head (found {sorted(names)}). Train it.")
    return names.pop()


def graft(folder: Path, head: RiskHead) -> None:
    """Put `head` in the place of the graph's risk head, and bring checksum and version of the card up to date.

    The card is written last: a crash in between leaves a checksum error that names the file, not a wrong answer.
    """
    import onnx

    model = onnx.load(str(folder / MODEL_FILE))
    source = _input_name(model)
    graph = model.graph
    for node in [node for node in graph.node if node.name.startswith(_PREFIX)]:
        graph.node.remove(node)
    _drop_unused(graph)
    graph.node.extend(_nodes(source))
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value, dtype=np.float32), f"{_FEATURES}.{name}")
        for name, value in (head._asdict() | {"width": -head.width, "two": 2.0, "none": 0.0}).items()
    )
    onnx.checker.check_model(model)
    _replace(folder / MODEL_FILE, model.SerializeToString())
    card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    card["files"][MODEL_FILE] = sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    deciding = json.dumps([card["files"], card["temperatures"], card["limits"]], sort_keys=True)
    card["version"] = sha256(deciding.encode()).hexdigest()[:12]
    _replace(folder / CARD_FILE, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())


def _nodes(source: str) -> list[Any]:
    """Return `RiskHead.score` as ONNX nodes."""
    from onnx import helper

    steps = [
        ("MatMul", [source, "rotate"], "rotated"),
        ("Sub", ["rotated", "shift"], "z"),
        ("Mul", ["z", "z"], "zz"),
        ("ReduceSum", ["zz"], "length"),
        ("MatMul", ["z", "landmarks"], "inner"),
        ("Mul", ["inner", "two"], "twice"),
        ("Sub", ["length", "twice"], "apart"),
        ("Add", ["apart", "squares"], "raw"),
        ("Max", ["raw", "none"], "distance"),
        ("Mul", ["distance", "width"], "exponent"),
        ("Exp", ["exponent"], "likeness"),
        ("MatMul", ["likeness", "weights"], "sum"),
        ("Add", ["sum", "bias"], OUTPUT),
    ]
    nodes = []
    for kind, inputs, output in steps:
        names = [name if name == source else f"{_FEATURES}.{name}" for name in inputs]
        target = output if output == OUTPUT else f"{_FEATURES}.{output}"
        if kind == "ReduceSum":
            axes = f"{_FEATURES}.axes"
            nodes.append(
                helper.make_node(
                    "Constant", [], [axes], name=f"{_PREFIX}axes",
                    value=helper.make_tensor("axes", 7, [1], [1]),
                )
            )  # fmt: skip
            names.append(axes)
        nodes.append(helper.make_node(kind, names, [target], name=f"{_PREFIX}{output}"))
    return nodes


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input}
    for item in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(item)


def _replace(target: Path, data: bytes) -> None:
    temporary = target.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(target)
