"""Networks, their weights, and what runs them. `create` and `load` give networks in torch (`streamkp[torch]`)."""

import sys

from streamkp.models.zoo import create, load

# OpenVINO's Python package reports its use over the network unless this optional part of it is missing. A program
# that looks at people tells nobody.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__all__ = ["create", "load"]
