from __future__ import annotations

from pathlib import Path

import numpy as np

from streamkp.models import onnx_weights, zoo
from streamkp.models.networks.hdformer import HDFormer


def test_one_file_for_both(lifter_network: HDFormer, lifter_onnx: Path) -> None:
    weights = onnx_weights.read(lifter_onnx)
    state = {k: v for k, v in lifter_network.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert set(weights) == set(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(weights[name], tensor.numpy())
    again = zoo.load("hdformer", lifter_onnx)
    assert isinstance(again, HDFormer)
    assert again.in_channels == 4
