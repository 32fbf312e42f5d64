"""What Ray costs: the overview on two workers against one process, on the parts' own clock, in one run.

Reference: `--executor local`, the same trials in one process. Ideal on two cores is 0.5; what is left above it are the
batches that do not fill both workers at the end, and the driver's own work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.benchmark, pytest.mark.ray]


def overview(folder, *options):
    command = [sys.executable, "-m", "cluster.cli", "run", "overview", "--json", "--out", str(folder), *options]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_workers_take_little_more_than_half_the_time(tmp_path, record_property):
    local = overview(tmp_path / "local", "--executor", "local")
    ray = overview(tmp_path / "ray", "--executor", "ray", "--workers", "2")
    assert local["trials"] == ray["trials"]
    ratio = ray["work_seconds"] / local["work_seconds"]
    record_property("ratio", ratio)
    print(
        f"\n{ray['trials']} trials: local {local['work_seconds']:.1f} s, two workers {ray['work_seconds']:.1f} s, "
        f"ratio {ratio:.2f}; start-up {ray['start_up_seconds']:.1f} s"
    )
    assert ratio <= 0.62
