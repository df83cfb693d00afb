"""The networks written in torch, by catalog name: made, filled from a checkpoint, recognised by their weights.

Which module builds a network, and with which arguments, is told by its row (`ModelSpec.network`). torch is imported
only when a network is asked for.

A family is one module. Beside its networks it may have two functions that `load` calls:
    rename_keys(state) -> state             names of other repositories to the names used here
    infer_config(state, settings) -> dict   arguments of the network that the weights, or the settings beside them,
                                            tell; {} when the weights are of something else
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from streamkp.errors import ModelError
from streamkp.hub.catalog import ModelSpec
from streamkp.models import registry, settings
from streamkp.runtimes.base import NetworkSource, Pixels, TorchModule
from streamkp.runtimes.torch import require_torch as require_torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def create(name: str, **config: Any) -> nn.Module:
    """A network with random weights.

    `config` overrides the arguments that the catalog name stands for; each family documents its own.
    Raises `ModelError` for a name that is not a torch network.
    """
    return _build(_spec(name), config)


def load(name: str, checkpoint: str | Path | Mapping[str, Any], **config: Any) -> nn.Module:
    """A network in eval mode with the weights of a checkpoint.

    `checkpoint` is a file, or what `torch.load` gives for one. What the weights tell (channels, filter widths) and
    what the settings beside the file tell (`streamkp.models.settings`) need no `config`.

    Raises `ModelError`, naming the file, when it is not a sound checkpoint of this network: it says which keys are
    missing, unexpected or of another shape, and which network would fit.
    """
    return _load(_spec(name), name, checkpoint, config)


def _load(
    spec: ModelSpec, name: str, checkpoint: str | Path | Mapping[str, Any], config: Mapping[str, Any]
) -> nn.Module:
    require_torch(name)
    from streamkp.models import checkpoint as checkpoints

    beside: dict[str, Any] = {}
    if isinstance(checkpoint, Mapping):
        origin = "the given state dict"
        weights = checkpoints.flatten(checkpoint, origin)
    else:
        origin = str(checkpoint)
        weights = checkpoints.read(checkpoint)
        beside = settings.configuration(checkpoint)
    network, state, problem = _fit(spec, weights, beside, config)
    if problem:
        others = [other.name for other in registry.torch_models() if other.name != name and fits(other, weights)]
        hint = f"; it fits {' or '.join(others)}" if others else ""
        raise ModelError(f"{origin} is not a checkpoint of {name}{hint}: {problem}")
    checkpoints.fill(network, state, origin)
    return network.eval()


def convert(source: str | Path, target: str | Path, name: str) -> None:
    """Check a checkpoint of network `name` and save its weights as `.safetensors`; errors as for `load`."""
    network = load(name, source)
    from streamkp.models import checkpoint as checkpoints

    checkpoints.write(network, target, name)


def source(
    name: str,
    spec: ModelSpec,
    checkpoint: Path,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: tuple[str, ...],
    *,
    pixels: Pixels | None = None,
    **config: Any,
) -> NetworkSource:
    """The network of a row with the weights of a checkpoint file, for `streamkp.runtimes.base.open_network`.

    `inputs` are the shapes of one sample by name, `outputs` the names of what the network gives, in order. Nothing is
    read yet; a mistake in the checkpoint is found when the network is opened.
    """
    module = TorchModule(
        build=lambda: _load(spec, name, checkpoint, config),
        inputs=inputs,
        outputs=outputs,
        fingerprint=lambda: _fingerprint(spec, checkpoint, config),
    )
    return NetworkSource(name, module=module, pixels=pixels)


def _spec(name: str) -> ModelSpec:
    row = registry.find(name)
    if row is None or row.network is None:
        names = [known.name for known in registry.torch_models()]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the networks are {', '.join(names)}"
        raise ModelError(f"there is no network named {name!r}; {hint}")
    require_torch(name)
    return row


def _module(spec: ModelSpec) -> ModuleType:
    assert spec.network is not None
    return import_module(spec.network.partition(":")[0])


def _build(spec: ModelSpec, config: Mapping[str, Any]) -> nn.Module:
    assert spec.network is not None
    build = getattr(_module(spec), spec.network.partition(":")[2])
    network: nn.Module = build(**{**_arguments(spec), **config})
    return network


def _arguments(spec: ModelSpec) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in spec.arguments.items()}


def _fit(
    spec: ModelSpec, weights: Mapping[str, Tensor], beside: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[nn.Module, Mapping[str, Tensor], str]:
    """The network that the weights ask for, the weights under its names, and what keeps them out of it."""
    from streamkp.models import checkpoint as checkpoints

    family = _module(spec)
    rename = getattr(family, "rename_keys", None)
    infer = getattr(family, "infer_config", None)
    state: Mapping[str, Tensor] = rename(weights) if rename else weights
    inferred = infer(state, beside) if infer else {}
    network = _build(spec, {**inferred, **_arguments(spec), **config})
    return network, state, checkpoints.mismatch(network, state)


def fits(model: str | ModelSpec, weights: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has exactly the keys and shapes of a network, given by its name or row."""
    spec = _spec(model) if isinstance(model, str) else model
    import torch

    with torch.device("meta"):  # shapes only
        return not _fit(spec, weights, {}, {})[2]


def _fingerprint(spec: ModelSpec, checkpoint: Path, config: Mapping[str, Any]) -> str:
    """Changes with the weights, with the code of the network, and with its arguments."""
    digest = hashlib.sha256(repr((spec.network, spec.arguments, sorted(config.items()))).encode())
    for path in (Path(inspect.getfile(_module(spec))), checkpoint):
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
