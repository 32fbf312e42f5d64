"""The tree keeps its shape: imports point one way, tables are complete, names are documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("solvers", "tasks", "tracking", "cluster")
MAY_IMPORT = {
    "solvers": {"solvers"},
    "tasks": {"tasks", "solvers"},
    "tracking": {"tracking"},
    "cluster": {"cluster", "tasks", "solvers", "tracking"},
}
# Heavy or effectful libraries, and the only places that may touch them.
ONLY_IN = {"ray": ("cluster",), "mlflow": ("tracking/mlflow_tracker.py", "tracking/model_store.py")}
MOST_LINES = 450


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported_roots(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    place = path.relative_to(ROOT)
    ours = set(imported_roots(path)) & set(PACKAGES)
    assert ours <= MAY_IMPORT[place.parts[0]], f"{place} imports {ours - MAY_IMPORT[place.parts[0]]}"
    for library, homes in ONLY_IN.items():
        if library in imported_roots(path):
            assert str(place).startswith(homes), f"{place} imports {library}: only {homes} may"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"


def test_top_level_holds_only_what_is_agreed() -> None:
    tracked = {"cluster", "tasks", "solvers", "tests", "tracking", ".ci"}
    ignored = {".git", ".venv", "runs", "build", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.endswith(".egg-info")}
    assert folders - ignored - {"__pycache__"} == tracked


def test_every_package_is_listed_for_the_build() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert sorted(found) == sorted(listed)


def _classes_below(package_name: str, base: type) -> set[type]:
    package = importlib.import_module(package_name)
    found: set[type] = set()
    for info in pkgutil.walk_packages(package.__path__, f"{package_name}."):
        module = importlib.import_module(info.name)
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, base) and not inspect.isabstract(kind) and kind.__module__ == module.__name__:
                found.add(kind)
    return found - {base}


def test_every_lipschitz_method_is_registered() -> None:
    from solvers.lipschitz._base import AbstractLipschitzSolver
    from solvers.registry import LIPSCHITZ_SOLVERS

    assert _classes_below("solvers.lipschitz", AbstractLipschitzSolver) == {type(s) for s in LIPSCHITZ_SOLVERS.values()}


def test_every_interpolator_is_registered() -> None:
    from solvers.interpolation._base import AbstractInterpolator
    from solvers.registry import INTERPOLATORS

    assert _classes_below("solvers.interpolation", AbstractInterpolator) == set(INTERPOLATORS.values())


def test_every_experiment_is_registered_and_says_what_it_measures() -> None:
    from tasks.experiment import AbstractExperiment
    from tasks.registry import EXPERIMENTS

    assert _classes_below("tasks.experiments", AbstractExperiment) == {type(e) for e in EXPERIMENTS.values()}
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name
        assert experiment.summary
        assert experiment.columns
        assert experiment.not_random <= set(experiment.config_type.model_fields)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_exist_and_are_documented(path: Path) -> None:
    if path.name == "__init__.py" and not path.read_text(encoding="utf-8").strip():
        return
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == name:
            assert value.__doc__, f"{name}.{public} has no docstring"


SHOWING = ("cluster.output", "cluster.commands", "rich", "typer", "click", "warnings")


def _writes_to_a_terminal(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            of = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"imports {name}" for name in of if name.startswith(SHOWING))
        elif isinstance(node, ast.Name) and node.id in ("print", "input"):
            yield f"calls {node.id}"
        elif isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr", "__stdout__", "__stderr__"):
            yield f"uses {ast.unparse(node)}"


@pytest.mark.parametrize("path", sorted((ROOT / "cluster" / "execution").glob("*.py")), ids=lambda path: path.stem)
def test_execution_writes_to_no_terminal(path: Path) -> None:
    """It hands values and reports back; commands print."""
    assert list(_writes_to_a_terminal(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_writing_to_a_terminal_is_noticed() -> None:
    guilty = (
        "import rich.table\nimport cluster.output\nfrom cluster.output.terminal import say\nprint(1, file=sys.stderr)"
    )
    assert len(list(_writes_to_a_terminal(ast.parse(guilty)))) == 5
