#!/usr/bin/env bash
# onnx 1.23.2: a tensor with external data is looked up in the current folder, not beside the model.
#
# `onnx.load(path, load_external_data=False)` followed by `onnx.numpy_helper.to_array(tensor)` is what a reader does that
# wants the graph before it takes memory for the weights. The `location` of an external tensor is relative to the model's
# folder (ONNX's documentation of external data). to_array has `base_dir=""` by default, which means the current folder:
# with a file of the same name there, which is the rule where several exports are called net.onnx.data, it returns another
# model's weights without a word. PyTorch's default exporter writes external data for tensors from 256 bytes on.
#
# What helps: pass the model's folder as base_dir, or load with external data.
#
# Seen on 2026-11-30: "beside the model: 1.0, returned from the current folder: 2.0".
# Exits with 0 while that is so, with 1 once the value is the model's own or an error is raised.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "onnx==1.23.2" "numpy==2.4.6"
mkdir "$work/model" "$work/elsewhere"
cat > "$work/look.py" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

work = Path(sys.argv[1])


def written(folder: Path, value: float) -> None:
    """A valid model y = w x in `folder`, its weights w in net.onnx.data beside it."""
    w = numpy_helper.from_array(np.full((1, 4), value, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [w],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save_model(
        model, str(folder / "net.onnx"), save_as_external_data=True, location="net.onnx.data", size_threshold=0
    )
    onnx.checker.check_model(str(folder / "net.onnx"))


written(work / "model", 1.0)
written(work / "elsewhere", 2.0)
graph = onnx.load(str(work / "model" / "net.onnx"), load_external_data=False).graph
found = float(numpy_helper.to_array(graph.initializer[0])[0, 0])
print(f"beside the model: 1.0, returned from the current folder: {found}")
sys.exit(0 if found == 2.0 else 1)
PYTHON
cd "$work/elsewhere"
"$work/venv/bin/python" "$work/look.py" "$work"
