from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from streamkp.models import onnx_weights, zoo
from streamkp.models.networks.hdformer import HDFormer
from streamkp.training import export


def test_half_precision_keeps_the_statistics(
    lifter_graph: onnx.ModelProto, lifter_network: HDFormer, lifter_onnx: Path, tmp_path: Path
) -> None:
    small = tmp_path / "half.onnx"
    assert export.write(lifter_graph, lifter_network, small, half=True) <= 2e-3
    assert small.stat().st_size < lifter_onnx.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["half.onnx"]
    weights = onnx_weights.read(small)
    for name, tensor in zoo.load("hdformer", small).state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert weights[name].dtype == np.float32
            exact = tensor.dim() < 2
            np.testing.assert_allclose(
                weights[name], lifter_network.state_dict()[name], rtol=0 if exact else 1e-3, atol=1e-6
            )


def test_a_file_that_gives_other_poses_is_not_written(lifter_graph: onnx.ModelProto, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = HDFormer(4, (8, 8, 8, 8, 8)).eval()
    with pytest.raises(ValueError, match="the poses of the file differ by"):
        export.write(lifter_graph, other, tmp_path / "lifter.onnx", half=True)
    assert not list(tmp_path.iterdir())
