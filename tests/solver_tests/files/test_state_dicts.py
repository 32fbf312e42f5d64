"""What a state_dict does not say is assumed by name, or the file is refused; one line tells how it was read."""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from solvers.errors import InputError
from solvers.files.models import Reading, read_network, save_network
from tests.strategies import gaussian_network

UNSAID = "activation assumed: a state_dict does not say"


def read(folder: Path, state: Any, activation: str | None = None) -> Reading:
    torch.save(state, folder / "net.pt")
    return read_network(folder / "net.pt", activation)


def computes_the_same(found: Reading, module: nn.Module, columns: int) -> None:
    points = torch.randn(30, columns, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = module.eval()(points).numpy()
    np.testing.assert_allclose(found.network.evaluate(points.numpy()), wanted, rtol=1e-4, atol=1e-5)


def test_the_activation_is_assumed_in_one_line(tmp_path: Path) -> None:
    for activation in (nn.ReLU(), nn.Tanh(), nn.Identity(), nn.GELU()):
        found = read(tmp_path, nn.Sequential(nn.Linear(4, 8), activation, nn.Linear(8, 1)).state_dict())
        assert str(found) == f"Linear 4→8, ReLU, Linear 8→1 ({UNSAID})"
        assert found.description == "Linear 4→8, ReLU, Linear 8→1"


def test_an_activation_that_the_caller_names_is_not_assumed(tmp_path: Path) -> None:
    state = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.1), nn.Linear(8, 1)).state_dict()
    found = read(tmp_path, state, "leaky-relu:0.1")
    assert str(found) == "Linear 4→8, LeakyReLU 0.1, Linear 8→1"
    assert str(read(tmp_path, state, "abs")) == "Linear 4→8, Abs, Linear 8→1"
    assert str(read(tmp_path, nn.Sequential(nn.Linear(4, 8)).state_dict())) == "Linear 4→8"


def test_equal_layers_are_counted(tmp_path: Path) -> None:
    sizes = [3, 5, 5, 5, 5, 2]
    save_network(gaussian_network(sizes, np.random.default_rng(0)), tmp_path / "net.npz")
    found = read_network(tmp_path / "net.npz")
    assert found.description == "Linear 3→5, ReLU, (Linear 5→5, ReLU) × 3, Linear 5→2"
    assert found.assumed == ("activation assumed: a .npz file does not say",)


def test_modules_without_parameters_are_named(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)
    )
    found = read(tmp_path, module.state_dict())
    assert found.assumed == (
        UNSAID,
        "of 2 and 3 one is the activation, the rest changes nothing",
        "0 before the first layer changes nothing",
    )
    computes_the_same(found, module, 4)
    # Without the list of modules the numbers leave room for as many, and for others behind.
    bare = read(tmp_path, dict(module.state_dict()))
    assert bare.assumed == (*found.assumed, "nothing follows 6")
    nested = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh(), nn.ReLU()), nn.Linear(2, 1))
    assert (
        "of 1.0 and 1.1 one is the activation, the rest changes nothing" in read(tmp_path, nested.state_dict()).assumed
    )


@pytest.mark.parametrize("last", [nn.ReLU(), nn.Tanh(), nn.Identity(), nn.Sequential(nn.Softmax(1))])
def test_what_follows_the_last_layer_is_refused(tmp_path: Path, last: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), last)
    with pytest.raises(InputError, match=r"module 3(\.0)? follows the last Linear layer 2, and .* save the state_dict"):
        read(tmp_path, module.state_dict())
    outer = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), last)
    with pytest.raises(InputError, match=r"module 1(\.0)? follows the last Linear layer 0\.2"):
        read(tmp_path, outer.state_dict())
    # The way out that the sentence names.
    assert read(tmp_path, module[:3].state_dict()).description == "Linear 4→8, ReLU, Linear 8→2"


def test_nothing_between_two_layers_is_refused(tmp_path: Path) -> None:
    named = nn.Sequential(OrderedDict([("0", nn.Linear(4, 4)), ("2", nn.Linear(4, 1))]))
    for module in (named, nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))):
        with pytest.raises(InputError, match="have nothing between them"):
            read(tmp_path, module.state_dict())


class Named(nn.Module):
    """Layers as attributes, in a given order; `act` is one of them and may be anything."""

    def __init__(self, names: list[str], act: nn.Module | None = None) -> None:
        super().__init__()
        if act is not None:
            self.act = act
        for name in names:
            self.add_module(name, nn.Linear(5, 5))


def test_two_orders_that_disagree_are_refused(tmp_path: Path) -> None:
    for names in (["l4", "l2", "l0"], ["l0", "l4", "l2"], ["2", "0"]):
        with pytest.raises(InputError, match=f"as {', '.join(names)}, against their numbers"):
            read(tmp_path, Named(names).state_dict())
    found = read(tmp_path, Named(["l0", "l2", "l4"]).state_dict())
    assert found.assumed == (UNSAID, "l0 and l2 and l4 follow each other in this order")


def test_names_sorted_as_text_are_put_in_order(tmp_path: Path) -> None:
    module = nn.Sequential(*(nn.ReLU() if k % 2 else nn.Linear(4, 4) for k in range(13)))
    state = dict(sorted(module.state_dict().items()))
    assert list(state)[2] == "10.bias"
    computes_the_same(read(tmp_path, state), module, 4)


def test_a_module_of_unknown_use_is_named(tmp_path: Path) -> None:
    found = read(tmp_path, Named(["l0", "l2"], nn.Tanh()).state_dict())
    assert found.assumed[-1] == "act is an activation between layers or changes nothing"


def test_a_first_layer_without_bias_might_be_an_embedding(tmp_path: Path) -> None:
    said = "0, which has no bias, is a Linear layer and not an Embedding"
    for first in (nn.Embedding(4, 4), nn.Linear(4, 4, bias=False)):
        assert said in read(tmp_path, nn.Sequential(first, nn.ReLU(), nn.Linear(4, 1)).state_dict()).assumed


LAYERS = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
@pytest.mark.filterwarnings("ignore:Sparse")  # in beta; invariants are checked by the reader
def test_sparse_weights_are_read(tmp_path: Path, layout: torch.layout) -> None:
    state = {name: w.to_sparse(layout=layout) if w.ndim == 2 else w for name, w in LAYERS.state_dict().items()}
    computes_the_same(read(tmp_path, state), LAYERS, 4)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_are_widened(tmp_path: Path, kind: torch.dtype) -> None:
    state = {name: value.to(kind) for name, value in LAYERS.state_dict().items()}
    found = read(tmp_path, state)
    np.testing.assert_array_equal(found.network.weights[0], state["0.weight"].double().numpy())


def sparse(row: int, shape: tuple[int, int]) -> torch.Tensor:
    """One entry, which may lie outside."""
    return torch.sparse_coo_tensor(torch.tensor([[row], [0]]), torch.ones(1), shape, check_invariants=False)


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (torch.ones(8, 4, device="meta"), "holds no numbers"),
        (torch.ones(8, 4, dtype=torch.int8), "must hold real numbers"),
        (torch.ones(8, 4, dtype=torch.bool), "must hold real numbers"),
        (torch.ones(1).expand(10**6, 10**6), "more than the .* readable"),
        (sparse(0, (10**6, 10**6)), "more than the .* readable"),
        (sparse(9, (8, 4)), "is not a readable"),
        (torch.ones(0, 4), "no empty side"),
        ([1.0], "no parameter"),
        ({"0.weight": torch.ones(8, 4)}, "but a dictionary"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_weights_that_are_no_numbers(tmp_path: Path, weight: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path, {**LAYERS.state_dict(), "0.weight": weight})
    assert "\n" not in str(caught.value)


def test_numbers_of_thousands_of_digits_and_two_spellings_of_one_place(tmp_path: Path) -> None:
    for name in ("9" * 5000, "00", "²", "٣"):
        with pytest.raises(InputError, match="is no parameter") as caught:
            read(tmp_path, {**LAYERS.state_dict(), f"{name}.weight": torch.ones(8, 8)})
        assert len(str(caught.value)) < 500


def test_programs_are_named_and_not_run(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:  # as torch.jit.save writes them, which is deprecated
        archive.writestr("net/constants.pkl", b"")
        archive.writestr("net/code/__torch__.py", b"")
    (tmp_path / "net.pt").write_bytes(content.getvalue())
    with pytest.raises(InputError, match=r"TorchScript program.*torch\.jit\.load"):
        read_network(tmp_path / "net.pt")


def test_an_archive_that_unpacks_to_more_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from solvers.files import relu_torch

    monkeypatch.setattr(relu_torch, "MOST_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "net.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data/0", bytes(2**21))
    assert (tmp_path / "net.pt").stat().st_size < 2**14
    with pytest.raises(InputError, match="unpacks to more than"):
        read_network(tmp_path / "net.pt")
