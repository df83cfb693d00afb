"""The networks written in torch, by catalog name.

torch is imported only when a network is asked for.

A family is one module. Beside its networks it may have two functions that `load` calls:
    rename_keys(state) -> state             names of other repositories to the names used here
    infer_config(state, settings) -> dict   arguments of the network that the weights, or the settings beside them,
                                            tell; {} when the weights are of something else
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from streamkp.errors import ModelError
from streamkp.models import settings

if TYPE_CHECKING:
    from torch import Tensor, nn

_VIDEOPOSE3D = "streamkp.models.networks.videopose3d:VideoPose3D"
_HRNET = "streamkp.models.networks.hrnet:HRNet"
_VIDEOPOSE3D_SEMI = "streamkp.models.networks.videopose3d:SemiVideoPose3D"

# name -> (module:factory, arguments of the factory)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "hdformer": ("streamkp.models.networks.hdformer:HDFormer", {}),
    "tpnet": ("streamkp.models.networks.tpnet:TPNet", {}),
    "videopose3d-27f": (_VIDEOPOSE3D, {"filter_widths": (3, 3, 3)}),
    "videopose3d-81f": (_VIDEOPOSE3D, {"filter_widths": (3, 3, 3, 3)}),
    "videopose3d-243f": (_VIDEOPOSE3D, {"filter_widths": (3, 3, 3, 3, 3)}),
    "videopose3d-1f-cpn": (_VIDEOPOSE3D, {"filter_widths": (1, 1, 1, 1, 1)}),
    "videopose3d-243f-cpn": (_VIDEOPOSE3D, {"filter_widths": (3, 3, 3, 3, 3)}),
    "videopose3d-27f-semi": (_VIDEOPOSE3D_SEMI, {"filter_widths": (3, 3, 3)}),
    "videopose3d-27f-semi-cpn": (_VIDEOPOSE3D_SEMI, {"filter_widths": (3, 3, 3)}),
    "hrnet-body15": (_HRNET, {"width": 48, "joints": 15, "multiscale": True}),
    "hrnet-w32-coco17": (_HRNET, {"width": 32, "joints": 17}),
    "hrnet-w48-wholebody133": (_HRNET, {"width": 48, "joints": 133}),
    "hrnet-w18-hand21": (_HRNET, {"width": 18, "joints": 21, "multiscale": True, "upsample": "bilinear"}),
    "mobilenetv2-face106": ("streamkp.models.networks.mobilenetv2_face106:Face106", {}),
}


def create(name: str, **config: Any) -> nn.Module:
    """A network with random weights.

    `config` overrides the arguments that the catalog name stands for; each family documents its own.
    Raises `ModelError` for a name that is not a torch network.
    """
    build, defaults = getattr(_family(name), _factory(name)), NETWORKS[name][1]
    network: nn.Module = build(**{**defaults, **config})
    return network


def load(name: str, checkpoint: str | Path | Mapping[str, Any], **config: Any) -> nn.Module:
    """A network in eval mode with the weights of a checkpoint.

    `checkpoint` is a file, or what `torch.load` gives for one. What the weights tell (channels, filter widths) and
    what the settings beside the file tell (`streamkp.models.settings`) need no `config`.

    Raises `ModelError`, naming the file, when it is not a sound checkpoint of this network: it says which keys are
    missing, unexpected or of another shape, and which network would fit.
    """
    family = _family(name)
    from streamkp.models import checkpoint as checkpoints

    beside: dict[str, Any] = {}
    if isinstance(checkpoint, Mapping):
        origin = "the given state dict"
        weights = checkpoints.flatten(checkpoint, origin)
    else:
        origin = str(checkpoint)
        weights = checkpoints.read(checkpoint)
        beside = settings.configuration(checkpoint)
    network, state, problem = _fit(name, family, weights, beside, config)
    if problem:
        others = [other for other in NETWORKS if other != name and fits(other, weights)]
        hint = f"; it fits {' or '.join(others)}" if others else ""
        raise ModelError(f"{origin} is not a checkpoint of {name}{hint}: {problem}")
    checkpoints.fill(network, state, origin)
    return network.eval()


def convert(source: str | Path, target: str | Path, name: str) -> None:
    """Check a checkpoint of network `name` and save its weights as `.safetensors`; errors as for `load`."""
    network = load(name, source)
    from streamkp.models import checkpoint as checkpoints

    checkpoints.write(network, target, name)


def require_torch(name: str) -> None:
    """Raises `ModelError`, saying how to install it, where torch is missing; `name` is what needs it."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModelError(f"{name} runs in torch, which is not installed: pip install 'streamkp[torch]'") from None


def _factory(name: str) -> str:
    return NETWORKS[name][0].split(":")[1]


def _family(name: str) -> ModuleType:
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the networks are {', '.join(NETWORKS)}"
        raise ModelError(f"there is no network named {name!r}; {hint}")
    require_torch(name)
    return import_module(NETWORKS[name][0].split(":")[0])


def _fit(
    name: str, family: ModuleType, weights: Mapping[str, Tensor], beside: Mapping[str, Any], config: dict[str, Any]
) -> tuple[nn.Module, Mapping[str, Tensor], str]:
    """The network that the weights ask for, the weights under its names, and what keeps them out of it."""
    from streamkp.models import checkpoint as checkpoints

    rename = getattr(family, "rename_keys", None)
    infer = getattr(family, "infer_config", None)
    state: Mapping[str, Tensor] = rename(weights) if rename else weights
    inferred = infer(state, beside) if infer else {}
    network = create(name, **{**inferred, **NETWORKS[name][1], **config})
    return network, state, checkpoints.mismatch(network, state)


def fits(name: str, weights: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has exactly the keys and shapes of a network."""
    import torch

    with torch.device("meta"):  # shapes only
        return not _fit(name, _family(name), weights, {}, {})[2]
