"""An experiment whose trials fail in every way, for tests of executors."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import cloudpickle

from tasks.experiment import AbstractExperiment, Config, Measurement, RunContext
from tasks.registry import EXPERIMENTS
from tasks.seeding import RandomStreams
from tasks.sweeps import Study, parse_study

# Workers have no tests to import.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class OddConfig(Config):
    """What a trial does, and for how long; where `only` is a number, it is odd for that number alone."""

    kind: str = "fine"
    only: int = -1
    seconds: float = 0.0
    number: int = 0


class Odd(AbstractExperiment[OddConfig]):
    """Trials that are odd."""

    name = "odd"
    summary = "for tests"
    config_type = OddConfig
    not_random = frozenset({"kind", "only", "seconds"})
    columns: ClassVar[dict[str, str]] = {"value": "a number"}

    def cost_seconds(self, config: OddConfig) -> float:
        return max(0.02, config.seconds)

    def run_batch(
        self, configs: Sequence[OddConfig], streams: Sequence[RandomStreams], context: RunContext
    ) -> list[Measurement]:
        return [_measure(config, stream) for config, stream in zip(configs, streams, strict=True)]


def _measure(config: OddConfig, stream: RandomStreams) -> Any:
    time.sleep(config.seconds)
    value = float(stream.generator("value").random())
    match config.kind if config.only in (-1, config.number) else "fine":
        case "raises":
            raise ArithmeticError("this trial cannot be computed")
        case "leaves":
            sys.exit(3)
        case "hungry":
            raise MemoryError
        case "kills":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exits":
            os._exit(7)
        case "hangs":
            time.sleep(10_000)
        case "object":
            return {"value": object()}
        case "large":
            return {"value": 2**80}
        case "clash":
            return {"value": value, "kind": "taken"}
    return {"value": value}


def odd_study(**sweeps: dict[str, Any]) -> Study:
    """A study of such trials: sweep -> its grid."""
    EXPERIMENTS["odd"] = Odd()
    raw = {name: {"experiment": "odd", **sweep} for name, sweep in sweeps.items()}
    return parse_study({"name": "odd", "seed": 5, "sweeps": raw}, "odd")
