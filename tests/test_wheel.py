"""The wheel, installed in a folder of its own, does in an empty folder what the checkout does."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cluster.cli import app

pytestmark = pytest.mark.slow

SOURCES = ("interlip.py", "pyproject.toml", "README.md", "LICENSE", "cluster", "solvers", "tasks", "tracking")


@dataclass(frozen=True, slots=True)
class Installed:
    """A folder with the installed wheel, and an empty one to work in."""

    place: Path
    empty: Path

    def run(self, *command: str) -> str:
        """Standard output of a command that has to succeed."""
        answer = subprocess.run(
            command,
            cwd=self.empty,
            env={**os.environ, "PYTHONPATH": str(self.place), "PYTHONSAFEPATH": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def python(self, code: str) -> str:
        return self.run(sys.executable, "-c", code)

    def interlip(self, *words: str) -> str:
        """The console command."""
        return self.run(sys.executable, str(self.place / "bin" / "interlip"), *words)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A wheel built of a copy, so that the checkout keeps no trace; nothing is asked of a registry."""
    pytest.importorskip("setuptools", minversion="77", reason="building a wheel needs setuptools 77")
    root, folder = Path(__file__).resolve().parents[1], tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in SOURCES:
        path, copy = root / name, folder / "source" / name
        if path.is_dir():
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", ".", *offline, "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run(build, cwd=folder / "source", check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("interlip-*.whl")
    place, empty = folder / "site", folder / "empty"
    empty.mkdir()
    install = [*pip, "install", *offline, "--target", str(place), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return Installed(place, empty)


def test_python_takes_the_installed_packages(installed: Installed) -> None:
    code = "import interlip, solvers, tasks, tracking, cluster\n"
    code += "print(*(m.__file__ for m in (interlip, solvers, tasks, tracking, cluster)), sep='\\n')"
    places = installed.python(code).splitlines()
    assert len(places) == 5
    assert all(Path(place).is_relative_to(installed.place) for place in places), places


def test_what_is_needed_at_run_time_is_there(installed: Installed, root: Path) -> None:
    for package in ("cluster", "solvers", "tasks", "tracking"):
        assert (installed.place / package / "py.typed").is_file()
        sources = {path.relative_to(root) for path in (root / package).rglob("*.py")}
        assert sources == {path.relative_to(installed.place) for path in (installed.place / package).rglob("*.py")}
    assert not (installed.place / "tests").exists()
    shipped = {path.stem for path in (root / "tasks" / "studies").glob("*.toml")}
    listed = {study["name"] for study in json.loads(installed.interlip("studies", "--json"))}
    assert listed == shipped


def test_the_example_of_the_readme_runs(installed: Installed, root: Path) -> None:
    example = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), flags=re.DOTALL)[0]
    lower, upper, status, *_ = installed.python(example).split()
    assert float(lower) == pytest.approx(math.sqrt(17), rel=1e-9)
    assert float(upper) == pytest.approx(math.sqrt(17), rel=1e-9)
    assert status == "exact"


def test_every_command_says_its_help(installed: Installed) -> None:
    names = [command.name for command in app.registered_commands]
    assert len(names) >= 9
    for name in names:
        assert f"Usage: interlip {name} " in installed.interlip(str(name), "--help")


def test_commands_work(installed: Installed) -> None:
    w0, w1 = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 1.0, 0.5]])  # |x| + relu(2 y) / 2
    np.savez(installed.empty / "net.npz", W0=w0, b0=np.zeros(3), W1=w1, b1=np.zeros(1))
    found = json.loads(installed.interlip("lipschitz", "net.npz", "--p", "2", "--certify", "--json"))
    assert found["lower"] == pytest.approx(math.sqrt(2), rel=1e-9)
    assert found["upper"] == pytest.approx(math.sqrt(2), rel=1e-6)
    (installed.empty / "result.json").write_text(json.dumps(found))
    assert (
        json.loads(installed.interlip("verify", "result.json", "--model", "net.npz", "--json"))["verdict"] == "proved"
    )
    fitted = json.loads(installed.interlip("interpolate", "moons:100", "--width", "200", "--json"))
    assert fitted["interpolates"]
    assert json.loads(installed.interlip("run", "overview", "--dry-run", "--json"))["trials"] > 0
