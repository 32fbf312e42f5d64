"""Torch modules as MLflow models: read back, any number of points, float64 kept, nothing left in the working folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tracking.model_store import load_model, save_model


class Above(torch.nn.Module):
    """1 where the first coordinate is larger than the second."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return (points[:, 0] > points[:, 1]).to(torch.int64)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        save_model(Above(), str(home / "model"), np.eye(2), {"classes": ["left", "right"]})
    assert [path.name for path in home.iterdir()] == ["model"]
    return home / "model"


@pytest.mark.parametrize("count", [1, 2, 7])
def test_arrays_and_data_frames_keep_their_last_bit(saved: Path, count: int) -> None:
    # Equal in float32.
    points = np.tile([1.0 + 2.0**-40, 1.0], (count, 1))
    predict = load_model(str(saved))
    for given in (points, pd.DataFrame(points)):
        assert predict(given).tolist() == [1] * count
        assert predict(given).dtype == np.int64
    assert predict(points[:, ::-1]).tolist() == [0] * count


def test_both_flavors_and_no_pickle(saved: Path) -> None:
    import mlflow

    described = mlflow.models.Model.load(str(saved))
    assert set(described.flavors) == {"python_function", "pytorch"}
    assert described.metadata == {"classes": ["left", "right"]}
    assert [path.name for path in (saved / "data").iterdir()] == ["model.pt2"]
    assert mlflow.pytorch.load_model(str(saved))(torch.eye(2, dtype=torch.float64)).tolist() == [1, 0]
