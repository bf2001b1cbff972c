"""The risk head: what is fitted, and that the grafted graph says the same."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from esc_skills.pipeline.items import RISK_SEEN, RISK_UNSEEN, RISK_WRITERS
from esc_skills.pipeline.risk_fit import folds, platt
from esc_skills.pipeline.risk_head import RiskHead, fit_head, graft
from esc_skills.skills_bank.encoder import CARD_FILE, MODEL_FILE, TOKENIZER_FILE
from esc_skills.skills_bank.errors import ModelError

SIZE, OUTPUTS = 12, 4


def rings(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows that no line divides: the first output is whether a row lies far out."""
    rows = np.random.default_rng(seed).normal(size=(count, SIZE)).astype(np.float32)
    rows[: count // 2] *= 0.3
    goals = np.zeros((count, OUTPUTS), dtype=np.float32)
    goals[count // 2 :, 0] = 1.0
    return rows, goals


def fitted() -> tuple[RiskHead, np.ndarray]:
    rows, goals = rings()
    return fit_head(rows, goals, np.ones(len(rows))), rows


def test_it_tells_apart_what_no_line_divides():
    head, _ = fitted()
    rows, goals = rings(seed=1)
    scores = head.score(rows)
    right = ((scores[:, 0] > 0) == (goals[:, 0] > 0)).mean()
    assert right > 0.9
    assert (scores[:, 1:] < 0).all()


def test_calm_rows_weigh_less_and_still_count():
    rows, goals = rings()
    weights = np.where(goals[:, 0] > 0, 1.0, 0.25)
    assert fit_head(rows, goals, weights).landmarks.shape[1] == 200 + 200


def test_scaling_moves_each_output_by_itself():
    head, rows = fitted()
    slope, offset = np.array([2.0, 1.0, 1.0, 0.5], dtype=np.float32), np.array([1.0, 0.0, 0.0, -1.0], dtype=np.float32)
    assert np.allclose(head.scaled(slope, offset).score(rows), head.score(rows) * slope + offset, atol=1e-4)


def encoder_folder(folder: Path, *, prefix: str = "/risk/") -> Path:
    """A graph with a linear risk head, as training exports it, and the card beside it."""
    onnx = pytest.importorskip("onnx")
    helper, proto = onnx.helper, onnx.TensorProto
    weight = onnx.numpy_helper.from_array(np.zeros((SIZE, OUTPUTS), dtype=np.float32), "risk.weight")
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "x"], ["squared"], name="/trunk/Mul"),
            helper.make_node("MatMul", ["squared", "risk.weight"], ["risk"], name=f"{prefix}Gemm_MatMul"),
        ],
        "encoder",
        [helper.make_tensor_value_info("x", proto.FLOAT, ["n", SIZE])],
        [helper.make_tensor_value_info("risk", proto.FLOAT, ["n", OUTPUTS])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())
    sums = {MODEL_FILE: sha256((folder / MODEL_FILE).read_bytes()).hexdigest(), TOKENIZER_FILE: "0"}
    card = {"version": "old", "files": sums, "temperatures": {"risk": 1.0}, "limits": {"current": 64}}
    (folder / CARD_FILE).write_text(json.dumps(card), encoding="utf-8")
    return folder


def run(folder: Path, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / MODEL_FILE), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["risk"], {"x": rows})[0])


def test_the_grafted_graph_says_what_the_head_says(tmp_path: Path):
    head, rows = fitted()
    folder = encoder_folder(tmp_path)
    graft(folder, head)
    assert np.allclose(run(folder, rows), head.score(rows * rows), atol=1e-4)
    card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    assert card["files"][MODEL_FILE] == sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    assert card["version"] != "old"
    first = (folder / MODEL_FILE).read_bytes()
    graft(folder, head)  # a head is replaced, not stacked
    assert (folder / MODEL_FILE).read_bytes() == first


def test_a_graph_without_a_risk_head_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="no single input of a risk head"):
        graft(encoder_folder(tmp_path, prefix="/other/"), fitted()[0])


def test_folds_hold_each_writer_once():
    groups = list(folds([*RISK_WRITERS, *RISK_WRITERS]))
    assert sorted(name for group in groups for name in group) == sorted(RISK_WRITERS)
    assert not set(RISK_SEEN) & set(RISK_UNSEEN)


def test_platt_gives_log_odds():
    raw = np.concatenate([np.full((30, 1), -1.0), np.full((10, 1), -1.0), np.full((40, 1), 1.0)])
    goal = np.array([0.0] * 30 + [1.0] * 10 + [1.0] * 40)[:, None]
    slope, offset = platt(raw, goal)
    assert slope[0] > 0
    assert 1 / (1 + np.exp(-(offset[0] - slope[0]))) == pytest.approx(0.25, abs=0.03)
