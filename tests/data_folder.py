"""Where the data sets that are not shipped may stand: $INTERLIP_DATA_DIR, or ../shared/data beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA_DIR = Path(os.environ.get("INTERLIP_DATA_DIR") or Path(__file__).resolve().parents[2] / "shared" / "data")

needs_mnist = pytest.mark.skipif(
    not (DATA_DIR / "mnist.npz").is_file(),
    reason=f"there is no mnist.npz in {DATA_DIR}: set INTERLIP_DATA_DIR to the folder that holds it",
)
