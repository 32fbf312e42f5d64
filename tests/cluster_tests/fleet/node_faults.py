"""A study on a cluster of several nodes that come and go, as a process of its own: prints JSON of what it came to."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import warnings
from typing import Any

from cluster.execution.executor import Progress
from cluster.execution.fleet.ray_executor import RayExecutor
from cluster.execution.runner import StudyRun
from tasks.experiment import RunContext
from tasks.sweeps import Study
from tests.cluster_tests.fleet.odd_trials import odd_study
from tracking.memory_tracker import MemoryTracker
from tracking.parts import RunFolder


def paced(trials: int, seconds: float) -> Study:
    """A study of trials of so many seconds each."""
    return odd_study(mates={"grid": {"number": list(range(trials))}, "fixed": {"seconds": seconds}})


STUDIES = {
    # name: trials, seconds of each
    "lost": (60, 0.5),
    "joined": (60, 0.5),
    "all-lost": (30, 0.5),
    "busy": (4, 0.1),
}


class Blocker:
    """Somebody else's work, on the only CPU."""

    def here(self) -> bool:
        return True


def play(scenario: str, folder: str) -> dict[str, Any]:
    """Run a scenario's study while things happen to its nodes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own imports
        import ray
        from ray.cluster_utils import Cluster

    small: dict[str, Any] = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0 if scenario == "all-lost" else 1, **small})
    other = cluster.add_node(num_cpus=1, **small) if scenario in ("lost", "all-lost") else None
    notes: list[tuple[float, str]] = []
    begun = time.monotonic()
    used: list[float] = []

    def report(progress: Progress) -> None:
        if progress.note:
            notes.append((time.monotonic() - begun, progress.note))
        # Here and not on a thread: Ray starts nodes on the main thread alone.
        if progress.done >= 5 and not acted:
            acted.append(scenario)
            if other is not None:
                cluster.remove_node(other, allow_graceful=False)
            if scenario == "joined":
                join()
        if scenario == "all-lost" and "waiting for a free CPU" in progress.note and not used:
            join()

    def join() -> None:
        cluster.add_node(num_cpus=1, **small)
        used.append(time.time())

    acted: list[str] = []
    study, place = paced(*STUDIES[scenario]), RunFolder(folder)
    if scenario == "busy":
        ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
        blocker: Any = ray.remote(Blocker)
        blocker = blocker.options(num_cpus=1).remote()
        ray.get(blocker.here.remote())
        threading.Timer(45.0, lambda: ray.kill(blocker)).start()
    executor = RayExecutor(address=cluster.address)
    run = StudyRun(study, place, MemoryTracker(), RunContext())
    with executor:
        result = run.execute(executor, report)
    frame = place.frame("mates")
    ray.shutdown()
    cluster.shutdown()
    late = frame.groupby("worker")["finished_at"].min()
    return {
        "trials": result.trials,
        "failed": result.failed,
        "seconds": time.monotonic() - begun,
        "notes": notes,
        "workers": int(frame["worker"].nunique()),
        "joined_after": float(late.max() - used[0]) if used else None,
    }


if __name__ == "__main__":
    print(json.dumps(play(*sys.argv[1:3])), flush=True)
