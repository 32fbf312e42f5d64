"""Mathematics on one network or one data set; knows no Ray and no MLflow.

The public names are imported when they are asked for, so that the command line answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solvers.budget import Budget as Budget
    from solvers.domains import Box as Box
    from solvers.domains import WholeSpace as WholeSpace
    from solvers.errors import InputError as InputError
    from solvers.errors import SoundnessError as SoundnessError
    from solvers.estimators import InterpolatingClassifier as InterpolatingClassifier
    from solvers.estimators import InterpolatingConvClassifier as InterpolatingConvClassifier
    from solvers.model_files import load_network as load_network
    from solvers.networks import ReluNetwork as ReluNetwork
    from solvers.problems import InterpolationProblem as InterpolationProblem
    from solvers.problems import LipschitzProblem as LipschitzProblem
    from solvers.registry import INTERPOLATORS as INTERPOLATORS
    from solvers.registry import LIPSCHITZ_SOLVERS as LIPSCHITZ_SOLVERS
    from solvers.results import LipschitzBounds as LipschitzBounds
    from solvers.results import Status as Status
    from solvers.results import Witness as Witness
    from solvers.threshold_files import load_threshold_network as load_threshold_network
    from solvers.threshold_files import save_threshold_network as save_threshold_network
    from solvers.threshold_networks import ThresholdNetwork as ThresholdNetwork

_HOMES = {
    "Budget": "solvers.budget",
    "Box": "solvers.domains",
    "WholeSpace": "solvers.domains",
    "InputError": "solvers.errors",
    "SoundnessError": "solvers.errors",
    "InterpolatingClassifier": "solvers.estimators",
    "InterpolatingConvClassifier": "solvers.estimators",
    "load_network": "solvers.model_files",
    "ReluNetwork": "solvers.networks",
    "InterpolationProblem": "solvers.problems",
    "LipschitzProblem": "solvers.problems",
    "INTERPOLATORS": "solvers.registry",
    "LIPSCHITZ_SOLVERS": "solvers.registry",
    "LipschitzBounds": "solvers.results",
    "Status": "solvers.results",
    "Witness": "solvers.results",
    "load_threshold_network": "solvers.threshold_files",
    "save_threshold_network": "solvers.threshold_files",
    "ThresholdNetwork": "solvers.threshold_networks",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'solvers' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
