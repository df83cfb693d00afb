"""Weights from files that nobody vouches for.

Only tensors are taken out of a file: `.safetensors`, `.onnx` (see `onnx_weights`), or a torch file through
`torch.load(weights_only=True)`, which runs no code. What does not fit the network is an error that says which keys,
and what would fit.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from streamkp.errors import ModelError

ROOM = 64 << 20  # bytes that a checkpoint may unpack to beyond its own size: torch does not compress
SHOWN = 4  # keys named in an error before "and n more"


class _Ignored:
    """Takes the place of an object in a checkpoint that is not a tensor, and does nothing."""

    def __init__(self, *args: object, **options: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# What the public checkpoints carry beside their weights (training logs, random states) and torch would refuse.
# The names stand for `_Ignored`; none of the real objects is made.
_IGNORED = [
    "_codecs.encode",
    "builtins.getattr",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.random.__RandomState_ctor",
    "numpy.random._mt19937.MT19937",
    "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._pickle.__randomstate_ctor",
]


def read(path: str | Path) -> dict[str, Tensor]:
    """The state dict inside a checkpoint file, its keys without wrappers.

    Raises `ModelError`, naming the file, when it is missing, empty, cut short, not a checkpoint, or holds
    anything that could run code.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    _refuse_other_files(path, head)
    _refuse_bombs(path)
    try:
        if path.suffix == ".onnx":
            from streamkp.models import onnx_weights

            return {name: torch.from_numpy(values) for name, values in onnx_weights.read(path).items()}
        if path.suffix == ".safetensors":
            return flatten(safetensors.torch.load_file(path), path)
        with torch.serialization.safe_globals([(_Ignored, name) for name in _IGNORED]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except Exception as error:  # a damaged file can fail anywhere inside the parsers
        raise ModelError(_explain(path, error)) from None
    return flatten(content, path)


def _refuse_other_files(path: Path, head: bytes) -> None:
    if not head:
        raise ModelError(f"{path} is empty; fetch it again")
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ModelError(f"{path} is a web page, not a checkpoint: the download went to a login or error page")
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a Git LFS pointer, not the checkpoint itself: run `git lfs pull`")


def _refuse_bombs(path: Path) -> None:
    """A zip file of a few megabytes can unpack to many gigabytes; what torch saves is as large inside as outside."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            inside = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):  # torch says it better
        return
    if inside > path.stat().st_size + ROOM:
        raise ModelError(f"{path} unpacks to {inside >> 20} MB; no checkpoint does that, and it is refused")


def _explain(path: Path, error: Exception) -> str:
    # torch's own text begins with the advice to load the file without protection; keep only what it found.
    text = str(error).rpartition("WeightsUnpickler error:")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    refusal = next((line for line in lines if "GLOBAL" in line), None)
    if refusal:
        return (
            f"{path} holds more than tensors and is refused, because loading it could run code "
            f"({refusal[:200]}). Save only its state_dict, or use a .safetensors file."
        )
    reason = lines[0].partition(". ")[0] if " " in lines[0] else type(error).__name__
    return f"{path} is damaged or not a checkpoint ({reason[:200]}); fetch it again"


def flatten(content: object, origin: object) -> dict[str, Tensor]:
    """The state dict in what a checkpoint holds.

    Known layouts: a bare state dict; one under `state_dict` or `model`; pose and trajectory networks under
    `model_pos` and `model_traj`, whose names become prefixes; each with or without `module.` before every key.
    """
    if isinstance(content, Mapping):
        pair = {name: content[name] for name in ("model_pos", "model_traj") if content.get(name)}
        if pair and all(isinstance(part, Mapping) for part in pair.values()):
            return {f"{name}.{key}": t for name, part in pair.items() for key, t in _bare(part).items()}
        for name in ("state_dict", "model"):
            if isinstance(content.get(name), Mapping):
                return flatten(content[name], origin)
        if content and all(isinstance(tensor, Tensor) for tensor in content.values()):
            return _bare(content)
        raise ModelError(f"no state dict in {origin}; it holds {_some(map(str, content))}")
    raise ModelError(f"no state dict in {origin}; it holds a {type(content).__name__}")


def _bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    wrapped = all(key.startswith("module.") for key in state)
    return {key.removeprefix("module.") if wrapped else key: tensor for key, tensor in state.items()}


def mismatch(network: nn.Module, state: Mapping[str, Tensor]) -> str:
    """What keeps a state dict out of a network, in words; "" when it fits."""
    expected = network.state_dict()
    # Batch counters are not in old checkpoints, and only training without momentum reads them.
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in found.items() if keys)


def fill(network: nn.Module, state: Mapping[str, Tensor], origin: object) -> None:
    """Put a state dict that fits into a network; `ModelError` when a value is not finite."""
    bad = [key for key, tensor in state.items() if tensor.is_floating_point() and not _finite(tensor)]
    if bad:
        raise ModelError(f"{origin} has NaN or infinite weights in {len(bad)} tensors: {_some(bad)}")
    network.load_state_dict(state, strict=False)  # only batch counters can be missing: see mismatch


def _finite(tensor: Tensor) -> bool:
    # A sum is not finite if any part is not, and ten times as quick as looking at each.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def write(network: nn.Module, path: str | Path, name: str) -> None:
    """Save a network's weights as `.safetensors`, whole or not at all; the catalog name goes into the header."""
    path = Path(path)
    # A tensor under two names (TPNet) is stored twice: the format has no aliases.
    state = {key: tensor.detach().clone().contiguous() for key, tensor in network.state_dict().items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        safetensors.torch.save_file(state, temporary, metadata={"name": name})
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _some(keys: Iterable[Any]) -> str:
    listed = list(keys)
    rest = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(map(str, listed[:SHOWN])) + rest
