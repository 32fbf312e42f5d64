"""Model files as real libraries write them: read right, or refused in one sentence; what is assumed is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from solvers.errors import InputError
from solvers.files.models import Reading, read_network
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.case_files import MODELS_DIR, model_cases, needs_model_cases

pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'interlip[onnx]'")

# What a state_dict cannot say of these files: a Tanh, an Identity, a GroupSort where ReLU is assumed.
NOT_RELU = {"pt_tanh.pt", "pt_linear_id_linear.pt", "gs_sd.pt", "py_embedding.pt"}


def reading(name: str) -> Reading | str:
    """What is read, or the sentence that refuses it."""
    try:
        return read_network(MODELS_DIR / name)
    except InputError as error:
        return str(error)


@needs_model_cases
@pytest.mark.parametrize("name", model_cases())
def test_a_file_is_read_right_or_refused_in_one_sentence(name: str) -> None:
    found, truth = reading(name), MODELS_DIR / f"{Path(name).with_suffix('')}.truth.npz"
    if isinstance(found, str):
        assert "\n" not in found
        assert Path(name).name in found
        return
    if name.endswith(".pt"):
        assert any("activation assumed: a state_dict does not say" in clause for clause in found.assumed)
    if not truth.is_file() or name in NOT_RELU:
        return
    with np.load(truth) as arrays:
        points, wanted = arrays["X"], arrays["Y"]
    outputs = found.network.evaluate(points.reshape(len(points), -1).astype(np.float64))
    np.testing.assert_allclose(outputs, wanted.reshape(len(wanted), -1), atol=1e-4)


@needs_model_cases
@pytest.mark.parametrize(("name", "right"), [("ext/net.onnx", 0.244728271), ("ext/sub/net.onnx", 0.172918699)])
def test_data_beside_the_model_wherever_the_call_comes_from(
    monkeypatch: pytest.MonkeyPatch, name: str, right: float
) -> None:
    monkeypatch.chdir(MODELS_DIR / "ext")
    network = read_network(Path(name).relative_to("ext")).network
    problem = LipschitzProblem(network, 2.0, Box.cube(4, -1.0, 1.0))
    answer = LIPSCHITZ_SOLVERS["branch-and-bound"].solve(problem, budget=Budget(relative_gap=1e-9))
    assert answer.lower - 1e-8 <= right <= answer.upper + 1e-8


@needs_model_cases
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hx_custom_domain_relu.onnx", "the node Relu is defined by the domain 'my'"),
        ("pt_reversed_names.pt", "l4, l2, l0"),
        ("pt_finalrelu.pt", "module 3 follows the last Linear layer 2"),
        ("py_meta.pt", "'0.weight' holds no numbers"),
        ("hy_gemm_C2d.onnx", "one row of 6 numbers"),
        ("pt_torchscript.pt", "TorchScript"),
        ("pt_ckpt_state_dict.pt", "'state_dict'"),
    ],
)
def test_what_would_be_read_wrongly_is_named(name: str, said: str) -> None:
    found = reading(name)
    assert isinstance(found, str)
    assert said in found


@needs_model_cases
@pytest.mark.parametrize(
    "name",
    ["hx_opset6_add_axis", "hx_const_value_float", "hx_const_value_floats", "hy_const_sparse", "hx_identity_init",
     "zb_legacy", "onnx_new_big", "onnx_new_fix_flatten", "hx_reshape4d_add", "hx_branch_unused_early_output"],
)  # fmt: skip
def test_what_is_exact_is_read(name: str) -> None:
    assert isinstance(reading(f"{name}.onnx"), Reading)
