"""The tree keeps its shape: imports point one way, tables are complete, names are documented."""

from __future__ import annotations

import ast
import collections
import functools
import graphlib
import importlib
import inspect
import pkgutil
import tomllib
from collections.abc import Iterator, Mapping
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
MOST_LINES = 400
MOST_FILES = 14

# A room imports only from rooms further down, and rooms of one line know nothing of each other. A module belongs to
# the room with the longest name that it begins with. Imports for types and imports inside functions count as any other.
Table = tuple[tuple[str, ...], ...]
ROOMS: Table = (
    ("cluster",),
    ("cluster.commands",),
    ("cluster.output",),
    ("cluster.execution.fleet", "cluster.execution.search"),
    ("cluster.execution",),
    ("tasks.sweeps", "tracking"),
    ("tasks.registry",),
    ("tasks.experiments",),
    ("tasks.figures",),
    ("tasks",),
    ("solvers",),
    ("solvers.verify", "solvers.estimators"),
    ("solvers.registry",),
    ("solvers.lipschitz", "solvers.interpolation", "solvers.complexity", "solvers.checkers"),
    ("solvers.problems", "solvers.files"),
    ("solvers.networks",),
    ("solvers.bits",),
    ("solvers.arithmetic",),
    ("solvers.errors",),
)
ROOMS_OF_LIPSCHITZ: Table = (
    ("solvers.lipschitz.surveys",),
    ("solvers.lipschitz",),
    (
        "solvers.lipschitz.climb",
        "solvers.lipschitz.programs",
        "solvers.lipschitz.regions",
        "solvers.lipschitz.search",
        "solvers.lipschitz.shallow",
        "solvers.lipschitz.stages",
    ),
    ("solvers.lipschitz.bounds",),
)
# Methods of lipschitz ask the parts of methods and bounds; those that ask other methods are named.
ASKS = {
    "branch_and_bound": {"ascent"},
    "portfolio": {"propagation"},
    "mixed_integer": {"branch_and_bound"},
    "two_sided": {"portfolio"},
}


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


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def import_graph() -> Mapping[str, frozenset[str]]:
    """Module of ours -> the modules of ours that it imports anywhere in its text."""
    known = {module_name(path): path for path in modules()}
    graph = {}
    for name, path in known.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} imports by dots"
                # `from package import module` names a module, `from module import name` does not.
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= whole & known.keys() or {node.module or ""}
        graph[name] = frozenset(found & known.keys())
    return graph


def room_of(module: str, table: Table) -> tuple[int, str] | None:
    """Line and name of the room of a module; None for one outside the table."""
    homes = [(line, room) for line, rooms in enumerate(table) for room in rooms if f"{module}.".startswith(f"{room}.")]
    return max(homes, key=lambda home: len(home[1]), default=None)


def against(table: Table, graph: Mapping[str, frozenset[str]]) -> list[str]:
    """Imports that the table does not allow."""
    found = []
    for name, imported in graph.items():
        for other in imported:
            above, below = room_of(name, table), room_of(other, table)
            if above and below and above[1] != below[1] and above[0] >= below[0]:
                found.append(f"{name} imports {other}: {above[1]} may not know {below[1]}")
    return sorted(found)


@pytest.mark.parametrize("table", [ROOMS, ROOMS_OF_LIPSCHITZ], ids=["all", "lipschitz"])
def test_rooms_import_from_rooms_below_alone(table: Table) -> None:
    wrong = against(table, import_graph())
    assert not wrong, "\n".join(wrong)
    for rooms in table:
        for room in rooms:
            assert any(room_of(name, table) in [(table.index(rooms), room)] for name in import_graph()), f"no {room}"


def test_methods_of_lipschitz_ask_no_other_method_unless_named() -> None:
    parts = {room.rpartition(".")[2] for line in ROOMS_OF_LIPSCHITZ[2:] for room in line}
    for name, imported in import_graph().items():
        method = name.removeprefix("solvers.lipschitz.")
        if method == name or "." in method:
            continue
        asked = {other.split(".")[2] for other in imported if other.startswith("solvers.lipschitz.")}
        assert asked <= parts | {"_base"} | ASKS.get(method, set()), f"{name} asks {asked}"


def test_every_module_has_a_room() -> None:
    assert all(room_of(name, ROOMS) for name in import_graph())


def test_checkers_never_import_what_they_check() -> None:
    """Neither directly nor through others: a checker that runs the search's code believes the search."""
    graph, met = import_graph(), set()
    left = [name for name in graph if name.startswith("solvers.checkers.")]
    assert left
    while left:
        name = left.pop()
        if name not in met:
            met.add(name)
            left += graph[name]
    assert not [name for name in met if name.startswith("solvers.lipschitz")]


def test_the_table_is_seen_to_be_broken() -> None:
    sideways = {"solvers.checkers.region_list": frozenset({"solvers.lipschitz.bounds.ranges"})}
    upwards = {"solvers.networks.relu": frozenset({"solvers.problems.orbits"})}
    inside = {"solvers.lipschitz.bounds.ranges": frozenset({"solvers.lipschitz.search.nodes"})}
    for wrong in (sideways, upwards):
        assert len(against(ROOMS, wrong)) == 1
    assert len(against(ROOMS_OF_LIPSCHITZ, inside)) == 1
    assert not against(ROOMS, inside)


def test_modules_import_each_other_in_no_circle() -> None:
    graphlib.TopologicalSorter(import_graph()).prepare()


def python_files() -> list[Path]:
    return [*modules(), *sorted((ROOT / "tests").rglob("*.py"))]


def test_no_folder_is_full() -> None:
    counts = collections.Counter(path.parent.relative_to(ROOT) for path in python_files())
    assert {str(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"


def test_top_level_holds_only_what_is_agreed() -> None:
    tracked = {"cluster", "findings", "tasks", "solvers", "tests", "tracking", ".ci"}
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

    # Tests of the cluster register experiments of their own, which workers find by name.
    ours = {type(e) for e in EXPERIMENTS.values() if type(e).__module__.startswith("tasks.")}
    assert _classes_below("tasks.experiments", AbstractExperiment) == ours
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name
        assert experiment.summary
        assert experiment.columns
        assert experiment.not_random <= set(experiment.config_type.model_fields)


def definitions(path: Path) -> set[str]:
    """Functions and classes of a module that carry no underscore."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, kinds) and not node.name.startswith("_")}


LISTS_ALL = ("solvers/problems", "solvers/arithmetic", "solvers/checkers", "tasks", "tracking", "cluster")
# One `register` a command: what the program calls of each.
SAME_PART = {"read", "register", "write"}


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if str(path.relative_to(ROOT)).startswith(LISTS_ALL)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_all_lists_every_public_name(path: Path) -> None:
    """Of a module that others import; a command is what `register` enters, so only what others take needs a place."""
    if not any(module_name(path) in imported for imported in import_graph().values()):
        return
    public = definitions(path)
    if path.parent.name == "commands":
        public &= {
            alias.name
            for other in modules()
            for node in ast.walk(ast.parse(other.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and node.module == module_name(path)
            for alias in node.names
        }
    assert public <= set(getattr(importlib.import_module(module_name(path)), "__all__", ()))


def test_public_names_have_one_meaning() -> None:
    homes = collections.defaultdict(list)
    for path in modules():
        for name in definitions(path) - SAME_PART:
            homes[name].append(module_name(path))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_exist_and_are_documented(path: Path) -> None:
    if path.name == "__init__.py" and not path.read_text(encoding="utf-8").strip():
        return
    name = module_name(path)
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


@pytest.mark.parametrize("path", sorted((ROOT / "cluster" / "execution").rglob("*.py")), ids=lambda path: path.stem)
def test_execution_writes_to_no_terminal(path: Path) -> None:
    """It hands values and reports back; commands print."""
    assert list(_writes_to_a_terminal(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_writing_to_a_terminal_is_noticed() -> None:
    guilty = (
        "import rich.table\nimport cluster.output\nfrom cluster.output.terminal import say\nprint(1, file=sys.stderr)"
    )
    assert len(list(_writes_to_a_terminal(ast.parse(guilty)))) == 5
