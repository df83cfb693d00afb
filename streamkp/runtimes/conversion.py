"""Torch modules as OpenVINO files, made once and kept in the cache.

Tracing and converting a large network takes several seconds and needs torch; a file that is there already needs
neither.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import re
import shutil
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

from streamkp.errors import ModelError
from streamkp.hub import store
from streamkp.hub.lock import locked
from streamkp.runtimes.base import TorchModule

_VERSION = 2  # of what this module makes of the same network
_log = logging.getLogger("streamkp.runtimes")


def openvino_file(name: str, module: TorchModule) -> Path:
    """An OpenVINO file of the module for any number of samples, with its names of inputs and outputs.

    It lies in the `converted` folder of the cache, under a key made of the module's fingerprint, its inputs and the
    versions of OpenVINO and of this conversion. Of several processes that need it one converts, the others wait.
    Raises `ModelError` as `module.build` does, or when the cache folder cannot be written.
    """
    folder = store.home() / "converted"
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(name).stem)  # the name may be a file's
    target = folder / f"{readable}-{_key(module)}.xml"
    if target.is_file():
        return target
    try:
        with locked(store.home() / "locks" / f"converted-{target.stem}.lock", threading.Event()):
            if not target.is_file():
                _log.info("converting %s for OpenVINO, once", name)
                _into(folder, target, module)
    except OSError as error:
        where = error.filename or target
        raise ModelError(f"{where}: {error.strerror} (STREAMKP_HOME chooses another cache folder)") from None
    return target


def _into(folder: Path, target: Path, module: TorchModule) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".", dir=folder))
    try:
        _save(converted(module), work / "network.xml")
        for suffix in (".bin", ".xml"):  # the second is what another process looks for
            os.replace(work / f"network{suffix}", target.with_suffix(suffix))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def converted(module: TorchModule) -> Any:
    """An OpenVINO model of the module, for any number of samples, with its names of inputs and outputs."""
    network = module.build()
    import openvino as ov
    import torch

    # A batch of two, because a length of one could be taken for a constant.
    examples = tuple(torch.zeros(2, *shape) for shape in module.inputs.values())
    with torch.no_grad(), warnings.catch_warnings():
        # Of checks in forward() that are the same for every batch, and of tracing itself, which is deprecated. But a
        # large network is traced and converted in 7 s, and exported and converted in 29 s.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network.requires_grad_(False), examples, check_trace=False)  # type: ignore[no-untyped-call]
        shapes = [(ov.PartialShape([-1, *shape]), ov.Type.f32) for shape in module.inputs.values()]
        # Frozen first, OpenVINO's part takes half the time.
        model = ov.convert_model(torch.jit.freeze(traced), input=shapes)
    for ports, names in ((model.inputs, module.inputs), (model.outputs, module.outputs)):
        for port, name in zip(ports, names, strict=True):
            port.get_tensor().set_names({name})
    return model


def _save(model: Any, target: Path) -> None:
    import openvino as ov

    try:
        ov.save_model(model, target, compress_to_fp16=False)
    except RuntimeError as error:
        raise ModelError(f"cannot write {target}: is the disk full?") from error


def _key(module: TorchModule) -> str:
    parts = (
        _VERSION,
        importlib.metadata.version("openvino"),
        dict(module.inputs),
        module.outputs,
        module.fingerprint(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
