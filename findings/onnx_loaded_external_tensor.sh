#!/usr/bin/env bash
# Expected: a model whose external weights were loaded with onnx.external_data_helper.load_external_data_for_tensor holds
# them itself, so that onnx.save writes one file (load_external_data_for_model, which loads all, does lead to that).
# What happens, with onnx 1.20 and earlier: each tensor keeps the mark EXTERNAL and its old location beside the loaded
# bytes, and onnx.save writes a file per tensor beside the model again.
# Why it matters for fundus photographs: encoders of ViT-H are past the limit of one file, so their weights are loaded tensor
# by tensor to pack them; the export then leaves hundreds of stray files, and a model that was sent without them does not run.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "onnx==1.20.0" "numpy==2.3.5"
cat > "$folder/try.py" <<'PY'
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model, load_external_data_for_tensor

folder = Path(sys.argv[1])
weights = [numpy_helper.from_array(np.ones((8, 8), np.float32), f"weight{i}") for i in range(3)]
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 8])
nodes = [helper.make_node("MatMul", [f"x{i}", f"weight{i}"], [f"x{i + 1}"]) for i in range(3)]
model = helper.make_model(helper.make_graph(nodes, "graph", [value("x0")], [value("x3")], weights))
(folder / "apart").mkdir()
options = {"save_as_external_data": True, "all_tensors_to_one_file": False, "size_threshold": 0}
onnx.save(model, folder / "apart" / "model.onnx", **options)
counts = {}
for way in ("tensor by tensor", "model"):
    model = onnx.load(folder / "apart" / "model.onnx", load_external_data=False)
    if way == "model":
        load_external_data_for_model(model, str(folder / "apart"))
    else:
        for tensor in model.graph.initializer:
            load_external_data_for_tensor(tensor, str(folder / "apart"))
    out = folder / way.replace(" ", "_")
    out.mkdir()
    onnx.save(model, out / "model.onnx")
    counts[way] = len(list(out.iterdir()))
print("onnx", onnx.__version__, "files after saving:", counts)
sys.exit(counts != {"tensor by tensor": 4, "model": 1})
PY
"$folder/venv/bin/python" "$folder/try.py" "$folder" || { echo "onnx 1.20.0 behaves otherwise"; exit 1; }
