"""`import interlip`: quick, complete, and clear about what it cannot read or find."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import interlip
import solvers
from solvers.errors import InputError

HEAVY = ("torch", "numba", "sklearn", "ray", "mlflow", "cvxpy", "scipy", "pandas", "matplotlib", "numpy")
# f = relu(x + 2y) - 2 relu(x - y + 1/2): gradients (1, 2), (-2, 2), (-1, 4), 0; all four cells exist.
NETWORK = interlip.ReluNetwork([[[1.0, 2.0], [1.0, -1.0]], [[1.0, -2.0]]], [[0.0, 0.5], [0.0]])
DUAL_LENGTHS = {1.0: 4.0, 2.0: math.sqrt(17), math.inf: 5.0}


def python(*arguments: str, folder: Path, path: Path | str) -> subprocess.CompletedProcess[str]:
    """A new interpreter in a folder, with one entry on its path."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_examples_in_docstrings_run() -> None:
    failed, tried = doctest.testmod(interlip)
    assert not failed
    assert tried >= 12


def test_importing_loads_nothing_heavy(root: Path, tmp_path: Path) -> None:
    code = f"import sys, interlip; print(sorted(set({HEAVY!r}) & set(sys.modules))); interlip.InputError"
    answer = python("-c", code, folder=tmp_path, path=root)
    assert answer.stdout == "[]\n", answer.stderr


def test_every_public_name_is_that_of_the_solvers() -> None:
    assert set(interlip.__all__) == {*solvers.__all__, "from_torch", "interpolate", "lipschitz", "load"}
    for name in solvers.__all__:
        assert getattr(interlip, name) is getattr(solvers, name)
    assert set(interlip.__all__) <= set(dir(interlip))
    with pytest.raises(AttributeError, match="no attribute 'lipshitz'"):
        interlip.lipshitz  # noqa: B018


def test_type_checkers_are_told_every_public_name(root: Path) -> None:
    text = (root / "interlip.py").read_text()
    for name in solvers.__all__:
        assert f"    from solvers import {name} as {name}\n" in text


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
def test_one_network_in_all_its_forms(p: float, tmp_path: Path) -> None:
    file = tmp_path / "net.npz"
    arrays = {f"W{k}": w for k, w in enumerate(NETWORK.weights)} | {f"b{k}": b for k, b in enumerate(NETWORK.biases)}
    np.savez(file, **arrays)  # type: ignore[arg-type]
    for given in (NETWORK, file, str(file), NETWORK.to_torch()):
        answer = interlip.lipschitz(given, p=p)
        assert answer.status is interlip.Status.EXACT
        assert answer.lower <= DUAL_LENGTHS[p] * (1 + 1e-12)
        assert answer.upper >= DUAL_LENGTHS[p] * (1 - 1e-12)
        assert answer.relative_gap <= 1e-6


def test_several_exponents_give_a_list_in_their_order() -> None:
    forms: list[Any] = [[math.inf, 1, 2], ("inf", 1, 2), np.array([math.inf, 1, 2])]
    for asked in forms:
        answers = interlip.lipschitz(NETWORK, p=asked)
        assert [answer.p for answer in answers] == [math.inf, 1.0, 2.0]
        assert [answer.upper for answer in answers] == pytest.approx([5.0, 4.0, math.sqrt(17)], rel=1e-6)


@pytest.mark.parametrize(
    ("domain", "truth"),
    [
        (None, 3.0),
        ((-1, 1), 3.0),
        (([1.0, -1.0], [2.0, 1.0]), 1.0),
        (([-2.0, -1.0], -1.0 + np.zeros(2) + [0.0, 2.0]), 3.0),
        (interlip.Box([1.0, 0.0], [2.0, 1.0]), 1.0),
        (interlip.WholeSpace(2), 3.0),
    ],
)
def test_domains(domain: Any, truth: float) -> None:
    bent = interlip.ReluNetwork([[[1.0, 0.0], [-1.0, 0.0]], [[1.0, 3.0]]], [[0.0, 0.0], [0.0]])  # x for x > 0, -3 x
    answer = interlip.lipschitz(bent, domain=domain)
    assert (answer.lower, answer.upper) == pytest.approx((truth, truth), rel=1e-9)


def test_outputs_and_margins() -> None:
    both = interlip.ReluNetwork([np.eye(2), [[2.0, 0.0], [0.0, 5.0]]], [[0.0, 0.0], [0.0, 0.0]])
    assert interlip.lipschitz(both, p=1, output=0).upper == pytest.approx(2.0)
    assert interlip.lipschitz(both, p=1, output=1).upper == pytest.approx(5.0)
    assert interlip.lipschitz(both, p=math.inf, margin=(0, 1)).upper == pytest.approx(7.0)


def test_the_proof_is_kept_on_request_and_a_method_by_name_is_taken() -> None:
    from solvers.verify import Verdict, verify_bounds

    answer = interlip.lipschitz(NETWORK, domain=(-1, 1), certify=True)
    problem = interlip.LipschitzProblem(NETWORK, 2.0, interlip.Box.cube(2, -1.0, 1.0))
    assert verify_bounds(problem, answer).verdict is Verdict.PROVED
    assert interlip.lipschitz(NETWORK, method="norm-product").method == "norm-product"


def test_no_time_still_gives_a_valid_interval_and_a_seed_the_same_one() -> None:
    answer = interlip.lipschitz(NETWORK, time_limit=0.0)
    assert answer.lower <= math.sqrt(17) * (1 + 1e-12)
    assert answer.upper >= math.sqrt(17) * (1 - 1e-12)
    lowers = [interlip.lipschitz(NETWORK, method="sampling", seed=seed).lower for seed in (3, 3)]
    assert lowers[0] == lowers[1]


TWO_OUTPUTS = interlip.ReluNetwork([np.eye(2)], [np.zeros(2)])
MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "no network": (lambda: interlip.lipschitz(3), "got int"),  # type: ignore[call-overload]
    "no file": (lambda: interlip.lipschitz("absent.npz"), "absent.npz"),
    "p below 1": (lambda: interlip.lipschitz(NETWORK, p=0.5), r"\[1, inf\]"),
    "p of no kind": (lambda: interlip.lipschitz(NETWORK, p=None), "None"),  # type: ignore[call-overload]
    "empty domain": (lambda: interlip.lipschitz(NETWORK, domain=(1, 1)), "empty"),
    "domain of another dimension": (lambda: interlip.lipschitz(NETWORK, domain=([0, 0, 0], 1)), "2 inputs"),
    "three corners": (lambda: interlip.lipschitz(NETWORK, domain=(0, 1, 2)), "2 inputs"),  # type: ignore[arg-type]
    "domain of no kind": (lambda: interlip.lipschitz(NETWORK, domain="box"), "got str"),  # type: ignore[call-overload]
    "several outputs": (lambda: interlip.lipschitz(TWO_OUTPUTS), "output=k"),
    "no such output": (lambda: interlip.lipschitz(TWO_OUTPUTS, output=2), r"0\.\.1"),
    "output and margin": (lambda: interlip.lipschitz(TWO_OUTPUTS, output=0, margin=(0, 1)), "exclude"),
    "no pair": (lambda: interlip.lipschitz(TWO_OUTPUTS, margin=(0,)), "pair"),  # type: ignore[arg-type]
    "unknown method": (lambda: interlip.lipschitz(NETWORK, method="branch"), "branch"),
    "negative time": (lambda: interlip.lipschitz(NETWORK, time_limit=-1), "time limit"),
    "odd seed": (lambda: interlip.lipschitz(NETWORK, seed=-1), "seed"),
    "kernel without a shape": (lambda: interlip.interpolate([[0.0], [1.0]], [0, 1], 5, kernel=3), "shape"),
    "one class": (lambda: interlip.interpolate([[0.0], [1.0]], [1, 1], 5), "class"),
    "no module": (lambda: interlip.from_torch(NETWORK), "ReluNetwork"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_sentence(name: str) -> None:
    ask, said = MISTAKES[name]
    with pytest.raises(InputError, match=said) as caught:
        ask()
    assert len(str(caught.value).splitlines()) == 1


def test_interpolate_fits_every_point_and_a_convolution_every_translate() -> None:
    points = np.random.default_rng(0).standard_normal((60, 5))
    labels = np.arange(60) % 3
    fitted = interlip.interpolate(points, labels, width=200)
    assert fitted.interpolates_
    assert (fitted.predict(points) == labels).all()
    again = interlip.interpolate(points, labels, width=200)
    assert (fitted.network_.weights == again.network_.weights).all()
    turning = interlip.interpolate(points, labels, width=200, shape=(1, 1, 5), kernel=3)
    assert (turning.predict(np.roll(points, 2, axis=1)) == labels).all()


class OwnForward(nn.Sequential):
    def forward(self, input: Any) -> Any:
        return 2 * super().forward(input)


class Named(nn.Sequential):
    """A subclass that computes what its parent does."""


class TestTorch:
    POINTS = torch.randn(64, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize(
        "module",
        [
            nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)),
            nn.Sequential(
                nn.Flatten(), nn.Sequential(nn.Linear(4, 3, bias=False), nn.LeakyReLU(0.25)), nn.Linear(3, 1)
            ),
            nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Identity(), nn.Linear(3, 1)),
            nn.Sequential(nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.LeakyReLU(-1.0)),
            nn.Sequential(nn.LeakyReLU(0.5), nn.LeakyReLU(0.5), nn.Linear(4, 2)),
            Named(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)),
            nn.Linear(4, 3),
        ],
        ids=["plain", "nested", "dropout", "activations at the ends", "two first", "subclass", "one layer"],
    )
    def test_the_network_is_the_module_in_evaluation_mode(self, module: nn.Module) -> None:
        module = module.double().train()
        network = interlip.from_torch(module)
        assert module.training
        with torch.no_grad():
            wanted = module.eval()(self.POINTS.clone())
        np.testing.assert_allclose(network.evaluate(self.POINTS.numpy()), wanted.numpy(), rtol=1e-12, atol=1e-12)

    def test_float32_goes_over_exactly(self) -> None:
        module = nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(0.1), nn.Linear(3, 1))
        network = interlip.from_torch(module)
        first, last = (value.detach().numpy() for name, value in module.named_parameters() if "weight" in name)
        slope = float(np.float32(0.1))
        assert (network.weights[0] == np.concatenate([first, -first]).astype(np.float64)).all()
        assert (network.weights[1][:, 3:] == -slope * last.astype(np.float64)).all()

    def test_an_image_is_flattened_as_torch_does(self) -> None:
        module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1)).double()
        network = interlip.from_torch(module)
        with torch.no_grad():
            wanted = module(self.POINTS.reshape(64, 1, 2, 2))
        np.testing.assert_allclose(network.evaluate(self.POINTS.numpy()), wanted.numpy(), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), r"layer 1 \(BatchNorm1d\)"),
            (lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Tanh())), r"layer 0\.1 \(Tanh\)"),
            (lambda: nn.Sequential(nn.Conv2d(1, 1, 2)), "Conv2d"),
            (lambda: nn.ReLU6(), "ReLU6"),
            (lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 1)), "nothing between"),
            (lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(4, 1)), "takes 4 numbers, but"),
            (lambda: nn.Sequential(nn.Flatten(0), nn.Linear(4, 1)), "dimensions 0 to -1"),
            (lambda: nn.Sequential(nn.Flatten()), "no Linear"),
            (lambda: OwnForward(nn.Linear(4, 1)), "forward of its own"),
            (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 1)), "remove_parametrizations"),
            (lambda: nn.Sequential(nn.Linear(4, 1, dtype=torch.complex64)), "complex64"),
            (lambda: nn.Sequential(nn.Linear(4, 1, device="meta")), "meta"),
        ],
    )
    def test_anything_else_is_refused_by_name(self, make: Callable[[], nn.Module], said: str) -> None:
        with pytest.raises(InputError, match=said) as caught:
            interlip.from_torch(make())
        assert len(str(caught.value).splitlines()) == 1

    def test_hooks_and_forwards_put_on_later_are_refused(self) -> None:
        hooked = nn.Sequential(nn.Linear(4, 1))
        hooked[0].register_forward_hook(lambda module, given, found: 2 * found)
        with pytest.raises(InputError, match=r"layer 0 \(Linear\) has forward hooks"):
            interlip.from_torch(hooked)
        replaced = nn.Sequential(nn.Linear(4, 1))
        replaced[0].forward = lambda given: given
        with pytest.raises(InputError, match="forward of its own"):
            interlip.from_torch(replaced)

    @pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
    def test_weights_that_are_not_there_yet_are_refused(self) -> None:
        with pytest.raises(InputError, match="call the module once"):
            interlip.from_torch(nn.Sequential(nn.LazyLinear(3)))

    def test_weights_that_are_not_finite_are_refused(self) -> None:
        layer = nn.Linear(4, 1)
        nn.init.constant_(layer.weight, math.inf)
        with pytest.raises(InputError, match="infinite"):
            interlip.from_torch(nn.Sequential(layer))


@pytest.mark.parametrize("name", ["solvers", "tasks"])
@pytest.mark.parametrize("form", ["a file", "a package", "a folder"])
def test_what_hides_a_package_is_named_in_one_sentence(name: str, form: str, root: Path, tmp_path: Path) -> None:
    if form == "a file":
        hiding = tmp_path / f"{name}.py"
        hiding.write_text("raise SystemExit('never imported')\n")
    else:
        hiding = tmp_path / name
        hiding.mkdir()
        if form == "a package":
            (hiding / "__init__.py").write_text("raise SystemExit('never imported')\n")
    # As an editable install has it: its finder comes after the path, so a bare folder on the path wins too.
    finder = tmp_path / "finder" / "sitecustomize.py"
    finder.parent.mkdir()
    finder.write_text(
        "import sys, importlib.machinery\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        return importlib.machinery.PathFinder.find_spec(name, [{str(root)!r}]) if path is None else None\n"
        "sys.meta_path.insert(1 + sys.meta_path.index(importlib.machinery.PathFinder), Finder)\n"
    )
    answer = python("-c", "import interlip", folder=tmp_path, path=finder.parent)
    last = answer.stderr.strip().splitlines()[-1]
    assert answer.returncode == 1
    assert last.startswith("ImportError: ")
    assert str(hiding) in last
    assert f"hides interlip's package '{name}'" in last
    # The console script, as installers write it: not in the user's folder, which is on the path all the same.
    script = tmp_path / "bin" / "interlip"
    script.parent.mkdir()
    script.write_text("import sys\nfrom interlip import main\nsys.exit(main())\n")
    answer = python(str(script), "--help", folder=tmp_path, path=f"{tmp_path}:{finder.parent}")
    assert answer.returncode == 2
    assert answer.stdout == ""
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("interlip: ")
    assert str(hiding) in lines[0]


def test_the_command_runs_where_nothing_hides_it(root: Path, tmp_path: Path) -> None:
    answer = python("-m", "interlip", "--help", folder=tmp_path, path=root)
    assert answer.returncode == 0, answer.stderr
    assert "lipschitz" in answer.stdout


def test_the_top_module_imports_the_solvers_and_the_program_alone(root: Path) -> None:
    from tests.test_architecture import PACKAGES, imported_roots

    assert set(imported_roots(root / "interlip.py")) & set(PACKAGES) == {"solvers", "cluster"}
