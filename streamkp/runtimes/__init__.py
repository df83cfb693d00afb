"""What executes a network: OpenVINO, torch, ONNX Runtime. Knows nothing of poses."""

import sys

# OpenVINO's Python package reports its use over the network unless this optional part of it is missing. A program
# that looks at people tells nobody.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
