"""Mathematics on one network or one data set; knows no Ray and no MLflow.

The public names are imported when they are asked for, so that the command line answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solvers.errors import InputError as InputError
    from solvers.errors import SoundnessError as SoundnessError
    from solvers.estimators import InterpolatingClassifier as InterpolatingClassifier
    from solvers.estimators import InterpolatingConvClassifier as InterpolatingConvClassifier
    from solvers.files.models import load_network as load_network
    from solvers.files.threshold_npz import load_threshold_network as load_threshold_network
    from solvers.files.threshold_npz import save_threshold_network as save_threshold_network
    from solvers.networks.relu import ReluNetwork as ReluNetwork
    from solvers.networks.threshold import ThresholdNetwork as ThresholdNetwork
    from solvers.problems.budget import Budget as Budget
    from solvers.problems.domains import Box as Box
    from solvers.problems.domains import WholeSpace as WholeSpace
    from solvers.problems.questions import InterpolationProblem as InterpolationProblem
    from solvers.problems.questions import LipschitzProblem as LipschitzProblem
    from solvers.problems.results import LipschitzBounds as LipschitzBounds
    from solvers.problems.results import Status as Status
    from solvers.problems.results import Witness as Witness
    from solvers.registry import INTERPOLATORS as INTERPOLATORS
    from solvers.registry import LIPSCHITZ_SOLVERS as LIPSCHITZ_SOLVERS

_HOMES = {
    "Budget": "solvers.problems.budget",
    "Box": "solvers.problems.domains",
    "WholeSpace": "solvers.problems.domains",
    "InputError": "solvers.errors",
    "SoundnessError": "solvers.errors",
    "InterpolatingClassifier": "solvers.estimators",
    "InterpolatingConvClassifier": "solvers.estimators",
    "load_network": "solvers.files.models",
    "ReluNetwork": "solvers.networks.relu",
    "InterpolationProblem": "solvers.problems.questions",
    "LipschitzProblem": "solvers.problems.questions",
    "INTERPOLATORS": "solvers.registry",
    "LIPSCHITZ_SOLVERS": "solvers.registry",
    "LipschitzBounds": "solvers.problems.results",
    "Status": "solvers.problems.results",
    "Witness": "solvers.problems.results",
    "load_threshold_network": "solvers.files.threshold_npz",
    "save_threshold_network": "solvers.files.threshold_npz",
    "ThresholdNetwork": "solvers.networks.threshold",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'solvers' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
