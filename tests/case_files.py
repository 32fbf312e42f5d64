"""Where the model files that real libraries wrote may stand: ../shared/cases/models beside the repository.

`NAME.truth.npz` beside a file holds points X and the right outputs Y.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CASES_DIR = Path(os.environ.get("INTERLIP_CASES_DIR") or Path(__file__).resolve().parents[2] / "shared" / "cases")
MODELS_DIR = CASES_DIR / "models"

needs_model_cases = pytest.mark.skipif(
    not MODELS_DIR.is_dir(),
    reason=f"there is no folder {MODELS_DIR}: set INTERLIP_CASES_DIR to the folder that holds models/",
)


def model_cases() -> list[str]:
    """Names of all model files below the folder, without their truths and data files."""
    files = (path for path in sorted(MODELS_DIR.rglob("*")) if path.is_file())
    return [str(path.relative_to(MODELS_DIR)) for path in files if not path.name.endswith(("truth.npz", ".data"))]
