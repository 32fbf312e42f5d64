"""Damaged and odd model files: a reader gives layers or one sentence, whatever the bytes; no other error or warning.

The readers are called themselves, for `load_network` would turn an error that they did not foresee into a sentence too.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.errors import InputError
from solvers.files.models import FORMATS, load_network, save_network
from tests.strategies import DETERMINISTIC, gaussian_network

pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'interlip[onnx]'")
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

NETWORK = gaussian_network([3, 4, 2], np.random.default_rng(0))


def outcome(file: Path, content: bytes) -> bool:
    """Whether the reader of a file takes it; a refusal must be one short line."""
    file.write_bytes(content)
    refusal(lambda: FORMATS[file.suffix].home().read(file))
    said = refusal(lambda: load_network(file))
    assert said is None or (said.isprintable() and 10 < len(said) < 900)
    return said is None


def refusal(read: Callable[[], object]) -> str | None:
    try:
        read()
    except InputError as error:
        return str(error)
    return None


def written(ending: str) -> bytes:
    """A good file of each format."""
    stream = io.BytesIO()
    if ending == ".pt":
        torch.save(NETWORK.to_torch().state_dict(), stream)
        return stream.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        save_network(NETWORK, Path(folder) / f"net{ending}")
        return (Path(folder) / f"net{ending}").read_bytes()


GOOD = {ending: written(ending) for ending in (".npz", ".pt", ".onnx")}


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with bytes changed, cut out, doubled or put in, at a few places."""
    octets = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place, length = draw(st.integers(0, len(octets))), draw(st.sampled_from([1, 1, 1, 2, 4, 8, 64, 10**6]))
        kind = draw(st.sampled_from(["change", "change", "change", "cut", "double", "insert"]))
        if kind == "change":
            octets[place : place + min(length, 8)] = draw(st.binary(min_size=1, max_size=8))[: min(length, 8)]
        elif kind == "cut":
            del octets[place : place + length]
        elif kind == "double":
            octets[place:place] = octets[place : place + min(length, 64)]
        else:
            octets[place:place] = draw(st.binary(max_size=8))
    return bytes(octets)


KINDS = ["<f8", "<f8", "<f8", "<f4", "<f2", ">f8", "<i8", "|u1", "|b1", "<c16", "<U3", "|S2", "<M8[s]"]


@st.composite
def odd_arrays(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4]), max_size=3))
    array = np.full(shape, draw(st.sampled_from([1, 1, 0, 3])), dtype=draw(st.sampled_from(KINDS)))
    if array.dtype.kind == "f" and draw(st.booleans()):
        array[...] = draw(st.sampled_from([np.nan, np.inf, 1e4]))
    return array


NAMES = st.sampled_from(
    ["W0", "b0", "W1", "b1", "W2", "W00", "b٣", "W", "w0", "W99999999999999999999", "a/b", "W0.npy", ""]
)


@st.composite
def odd_archives(draw: st.DrawFn) -> bytes:
    arrays = {"W0": np.ones((4, 3)), "b0": np.ones(4), "W1": np.ones((2, 4)), "b1": np.ones(2)}
    for name, array in draw(st.dictionaries(NAMES, st.none() | odd_arrays(), max_size=3)).items():
        arrays.pop(name, None)
        if array is not None:
            arrays[name] = array
    stream = io.BytesIO()
    (np.savez_compressed if draw(st.booleans()) else np.savez)(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def odd_values() -> list[Any]:
    """What may stand in a dictionary that torch.save writes."""
    ones = torch.ones(4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some kinds are deprecated, others in beta; files hold them all the same
        return [
            ones, ones.half(), ones.bfloat16(), ones.to(torch.float8_e4m3fn), ones.int(), ones.bool(), ones + 1j,
            ones.to_sparse(), ones.to_sparse_csr(), ones.to("meta"), torch.ones(()), torch.ones(3, 4).T,
            torch.ones(1).expand(10**6, 10**6), torch.ones(4, 0), torch.full((4, 3), torch.nan),
            torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (10**6, 10**6)),
            torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8), torch.nn.Parameter(ones),
            None, 3, "text", [1.0], {}, {"0.weight": ones}, (ones,),
        ]  # fmt: skip


ODD_VALUES = st.sampled_from(odd_values())


@st.composite
def odd_states(draw: st.DrawFn) -> bytes:
    state: Any = OrderedDict(NETWORK.to_torch().state_dict())
    names = st.sampled_from(
        [
            "0.weight",
            "0.bias",
            "1.weight",
            "2.weight",
            "2.bias",
            "3.bias",
            "00.weight",
            "a.0.weight",
            "l3.weight",
            "weight",
            "4.weight\n",
            "\x1b\r0.weight",
            "\ud8000.weight",
            "99999999999.weight",
            ".weight",
            "",
            3,
            ("0",),
            None,
        ]
    )
    for name, value in draw(st.dictionaries(names, ODD_VALUES, max_size=3)).items():
        state.pop(name, None)
        state[name] = value
    listed: Any = draw(
        st.sampled_from(
            [
                None,
                {},
                {"": {}},
                {"": {}, "0": {}, "2": {}},
                {"0": 1, "1": 2, "2": 3, "3": 4},
                {0: "x", "0.1.2": None},
                {"1": {}, "1.0": {}, "1.1": {}},
            ]
        )
    )
    if listed is not None:
        state._metadata = listed
    whole = draw(st.sampled_from([state, state, state, dict(state), [state], {"model": state}]))
    stream = io.BytesIO()
    torch.save(whole, stream, _use_new_zipfile_serialization=draw(st.booleans()))
    return stream.getvalue()


def odd_numbers(field: Any) -> st.SearchStrategy[Any]:
    """Values of a protobuf field."""
    kinds = {
        field.CPPTYPE_STRING: st.sampled_from(
            [b"", b"x", b"y", b"W0", b"Relu", b"Constant", b"Conv", b"my", b"\xff\0", b"a\nb", b"../a"]
        ),
        field.CPPTYPE_FLOAT: st.sampled_from([0.0, -1.0, 1e30, float("nan"), float("inf")]),
        field.CPPTYPE_DOUBLE: st.sampled_from([0.0, -1.0, 1e300, float("nan")]),
        field.CPPTYPE_ENUM: st.sampled_from(sorted(field.enum_type.values_by_number) if field.enum_type else [0]),
    }
    return kinds.get(field.cpp_type, st.sampled_from([0, 1, 2, 3, 6, 7, 11, 2**20, 2**31 - 1]))


def change(message: Any, draw: Callable[..., Any]) -> None:
    """Change one thing somewhere in a protobuf message: a value, a part gone, doubled, or moved."""
    fields = message.DESCRIPTOR.fields
    present = [field for field, _ in message.ListFields()]
    field = draw(st.sampled_from(present if present and draw(st.integers(0, 4)) else list(fields)))
    many = getattr(field, "is_repeated", None)
    many = field.label == field.LABEL_REPEATED if many is None else many
    value = getattr(message, field.name)
    if field.message_type is not None:
        parts = list(value) if many else [value]
        action = draw(st.sampled_from(["inside", "inside", "inside", "inside", "gone", "double", "new", "swap"]))
        if action == "inside" and parts:
            change(parts[draw(st.integers(0, len(parts) - 1))], draw)
        elif many and action == "gone" and parts:
            del value[draw(st.integers(0, len(parts) - 1))]
        elif many and action == "double" and parts:
            value.add().CopyFrom(parts[draw(st.integers(0, len(parts) - 1))])
        elif many and action == "swap" and parts:
            other = type(parts[0])()
            other.CopyFrom(parts[0])
            parts[0].CopyFrom(parts[-1])
            parts[-1].CopyFrom(other)
        elif many:
            value.add()
        else:
            message.ClearField(field.name)
        return
    new = draw(odd_numbers(field))
    if field.type == field.TYPE_STRING:
        new = new.decode("utf-8", "ignore")
    if not many:
        setattr(message, field.name, new)
    elif value and draw(st.booleans()):
        value[draw(st.integers(0, len(value) - 1))] = new
    else:
        value.append(new)


def convolutional_model(sparse_value: bool = True) -> ModelProto:
    """Every supported node once."""
    rng = np.random.default_rng(1)
    arrays = {
        "K": rng.standard_normal((2, 1, 2, 2)).astype(np.float32), "k": np.ones(2, np.float32),
        "s": np.array([-1, 2, 2, 2]),
        "V": rng.standard_normal((8, 3)).astype(np.float32), "c": np.ones((1, 3), np.float32),
        "A": rng.standard_normal((2, 3)).astype(np.float32), "a": np.ones(2, np.float32),
    }  # fmt: skip
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("i", TensorProto.INT64, [2, 1], [0, 2]),
        [3],
    )
    nodes = [
        helper.make_node("Constant", [], ["f"], value_float=2.0),
        helper.make_node(
            "Constant", [], ["p"], **({"sparse_value": sparse} if sparse_value else {"value_floats": [1, 0, 2]})
        ),
        helper.make_node("Identity", ["a"], ["a2"]),
        helper.make_node("Sub", ["x", "f"], ["x1"]),
        helper.make_node("Conv", ["x1", "K", "k"], ["z"], pads=[0, 0, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["z"], ["r"]),
        helper.make_node("Reshape", ["r", "s"], ["q"]),
        helper.make_node("Flatten", ["q"], ["g"]),
        helper.make_node("MatMul", ["g", "V"], ["m"]),
        helper.make_node("Add", ["c", "m"], ["n"]),
        helper.make_node("Add", ["n", "p"], ["o"]),
        helper.make_node("LeakyRelu", ["o"], ["l"], alpha=0.25),
        helper.make_node("Dropout", ["l"], ["d"]),
        helper.make_node("Gemm", ["d", "A", "a2"], ["y"], transB=1, alpha=0.5, beta=2.0),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@st.composite
def odd_models(draw: st.DrawFn, sparse_value: bool = True) -> bytes:
    model = ModelProto()
    good = GOOD[".onnx"] if draw(st.booleans()) else convolutional_model(sparse_value).SerializeToString()
    model.ParseFromString(good)
    for _ in range(draw(st.integers(1, 3))):
        change(model if draw(st.integers(0, 9)) == 0 else model.graph, draw)
    return bytes(model.SerializeToString())


CONTENTS = {
    "damaged npz": (".npz", damaged(GOOD[".npz"])),
    "damaged pt": (".pt", damaged(GOOD[".pt"])),
    "damaged onnx": (".onnx", damaged(GOOD[".onnx"])),
    "odd npz": (".npz", odd_archives()),
    "odd pt": (".pt", odd_states()),
    "odd onnx": (".onnx", odd_models()),
}


def fuzz(folder: Path, kind: str, examples: int) -> int:
    """How many of the examples were read."""
    ending, contents = CONTENTS[kind]
    read = 0

    @settings(DETERMINISTIC, max_examples=examples)
    @given(contents)
    def run(content: bytes) -> None:
        nonlocal read
        read += outcome(folder / f"net{ending}", content)

    run()
    return read


@pytest.mark.parametrize("kind", CONTENTS)
def test_damaged_and_odd_files(tmp_path: Path, kind: str) -> None:
    fuzz(tmp_path, kind, 40)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONTENTS)
def test_many_damaged_and_odd_files(tmp_path: Path, kind: str) -> None:
    # Some changes do no harm, so that what is read is tested too.
    assert 0 < fuzz(tmp_path, kind, 4000) < 4000


def by_definition(model: ModelProto) -> tuple[np.ndarray, np.ndarray] | None:
    """Three random points of a model and what ONNX's own evaluator gives for them; None where it gives nothing."""
    constants = {tensor.name for tensor in model.graph.initializer}
    (described,) = (value for value in model.graph.input if value.name not in constants)
    sizes = [dimension.dim_value for dimension in described.type.tensor_type.shape.dim]
    kind = helper.tensor_dtype_to_np_dtype(described.type.tensor_type.elem_type)
    batch = [sizes[0] or 3] if len(sizes) > 1 else []
    points = np.random.default_rng(2).standard_normal((*batch, *sizes[len(batch) :])).astype(kind)
    rows = batch[0] if batch else 1
    try:
        (found,) = ReferenceEvaluator(model).run([model.graph.output[0].name], {described.name: points})
        outputs = np.asarray(found, dtype=np.float64).reshape(rows, -1)
    except Exception:  # the graph is none: there is nothing to compare with
        return None
    return (points.reshape(rows, -1).astype(np.float64), outputs) if np.isfinite(outputs).all() else None


def compare(folder: Path, examples: int) -> int:
    """How many odd graphs were read, and compute what they should."""
    compared = 0

    @settings(DETERMINISTIC, max_examples=examples)
    @given(odd_models(sparse_value=False))
    def run(content: bytes) -> None:
        nonlocal compared
        if not outcome(folder / "net.onnx", content):
            return
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the evaluator, about numbers out of range
            right = by_definition(ModelProto.FromString(content))
        if right is not None:
            network = load_network(folder / "net.onnx")
            np.testing.assert_allclose(network.evaluate(right[0]), right[1], rtol=1e-3, atol=1e-4)
            compared += 1

    run()
    return compared


def test_an_odd_graph_that_is_read_computes_what_onnx_says(tmp_path: Path) -> None:
    assert compare(tmp_path, 60) > 0


@pytest.mark.slow
def test_many_odd_graphs_that_are_read_compute_what_onnx_says(tmp_path: Path) -> None:
    assert compare(tmp_path, 4000) > 400


@pytest.mark.parametrize("ending", GOOD)
def test_the_undamaged_files_are_read(tmp_path: Path, ending: str) -> None:
    assert outcome(tmp_path / f"net{ending}", GOOD[ending])
    assert outcome(tmp_path / "conv.onnx", convolutional_model().SerializeToString())
