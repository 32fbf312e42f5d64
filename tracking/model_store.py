"""Torch modules as MLflow models in a folder of their own, flavors pyfunc and pytorch; no tracking store is touched.

The format is pt2, an exported graph with its numbers: loading it runs no code of the model's author and needs nothing
of interlip. The signature asks for float64, so MLflow hands data frames over in float64 too and not, as else, in
float32.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np

from tracking.mlflow_tracker import quiet_mlflow

__all__ = ["load_model", "save_model"]


def save_model(module: Any, folder: str, example: Any, metadata: Mapping[str, Any]) -> None:
    """Write a module that maps float64 points (N, d) to int64 answers (N,) as an MLflow model.

    Args:
        module: a torch module that torch can export for any N.
        folder: to be created.
        example: two points or more, (N, d): of one point alone the exporter would fix N = 1.
        metadata: plain values that go into the file MLmodel.
    """
    quiet_mlflow()
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    points = np.array(example, dtype=np.float64)
    asked = Schema([TensorSpec(np.dtype(np.float64), (-1, points.shape[1]))])
    answered = Schema([TensorSpec(np.dtype(np.int64), (-1,))])
    with _quiet():
        mlflow.pytorch.save_model(
            module.eval(),
            folder,
            input_example=points,
            signature=ModelSignature(asked, answered),
            serialization_format="pt2",
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in ("mlflow", "torch", "numpy")],
            metadata=dict(metadata),
        )


def load_model(folder: str) -> Callable[[Any], Any]:
    """The pyfunc of a saved model: points (N, d) as an array or data frame to answers (N,)."""
    quiet_mlflow()
    import mlflow

    with _quiet():
        model = mlflow.pyfunc.load_model(folder)

    def predict(points: Any) -> Any:
        # Torch takes no views that run backwards, and warns of arrays that are read only.
        given = np.array(points, dtype=np.float64, order="C") if isinstance(points, np.ndarray) else points
        with _quiet():
            return np.asarray(model.predict(given)).reshape(-1)

    return predict


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no log lines of MLflow and torch's exporter: nothing in them a user can act on."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "torch")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
