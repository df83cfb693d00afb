"""The networks written in torch, by catalog name.

torch is imported only when a network is asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamkp.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

# name -> (module:factory, arguments of the factory)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "hdformer": ("streamkp.models.hdformer:HDFormer", {}),
    "tpnet": ("streamkp.models.tpnet:TPNet", {}),
    "videopose3d-27f": ("streamkp.models.videopose3d:VideoPose3D", {"frames": 27}),
    "videopose3d-81f": ("streamkp.models.videopose3d:VideoPose3D", {"frames": 81}),
    "videopose3d-243f": ("streamkp.models.videopose3d:VideoPose3D", {"frames": 243}),
    "videopose3d-1f-cpn": ("streamkp.models.videopose3d:VideoPose3D", {"frames": 1}),
    "videopose3d-243f-cpn": ("streamkp.models.videopose3d:VideoPose3D", {"frames": 243}),
    "videopose3d-27f-semi": ("streamkp.models.videopose3d:SemiVideoPose3D", {"frames": 27}),
    "videopose3d-27f-semi-cpn": ("streamkp.models.videopose3d:SemiVideoPose3D", {"frames": 27}),
}


def create(name: str, **config: Any) -> nn.Module:
    """A network with random weights.

    `config` overrides the arguments that the catalog name stands for; each family documents its own.
    Raises `ModelError` for a name that is not a torch network.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the networks are {', '.join(NETWORKS)}"
        raise ModelError(f"there is no network named {name!r}; {hint}")
    target, defaults = NETWORKS[name]
    module, factory = target.split(":")
    try:
        build = getattr(import_module(module), factory)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModelError(f"{name} runs in torch, which is not installed: pip install 'streamkp[torch]'") from None
    network: nn.Module = build(**{**defaults, **config})
    return network


def load(name: str, checkpoint: str | Path | Mapping[str, Tensor], **config: Any) -> nn.Module:
    """A network in eval mode with the weights of a checkpoint file or state dict, loaded strictly.

    Raises `ModelError` when the file is not a checkpoint of this network.
    """
    raise NotImplementedError
