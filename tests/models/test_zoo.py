from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from streamkp.errors import ModelError
from streamkp.models import registry, zoo


def test_the_table_needs_no_torch():
    code = "import sys; import streamkp.models.zoo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("name", [row.name for row in registry.torch_models()])
def test_every_network_loads_its_own_weights_and_is_recognised_by_them(name):
    with torch.device("meta"):
        state = zoo.create(name).state_dict()
    assert zoo.fits(name, state)
    other = "hdformer" if name != "hdformer" else "tpnet"
    assert not zoo.fits(other, state)


def test_unknown_names():
    with pytest.raises(ModelError, match="did you mean 'hdformer'"):
        zoo.create("hdfromer")
    with pytest.raises(ModelError, match="the networks are hrnet-body15, hrnet-w32-coco17"):
        zoo.load("x", {})
