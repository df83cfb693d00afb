"""Networks written in torch as OpenVINO files, made once and kept in the cache.

Tracing and converting a large network takes several seconds and needs torch; a file that is there already needs
neither.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import logging
import os
import shutil
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

from streamkp.errors import ModelError
from streamkp.hub import store
from streamkp.models import zoo

_log = logging.getLogger("streamkp.models")


def openvino_file(name: str, checkpoint: Path, input_shape: tuple[int, int, int]) -> Path:
    """The network `name` with the weights of a checkpoint, as an OpenVINO file for any number of samples.

    `input_shape` is (channels, height, width) of one sample; outputs are called `0`, `1`, ... in order. Raises
    `ModelError` as `zoo.load` does, or when the cache folder cannot be written.
    """
    folder = store.home() / "converted"
    target = folder / f"{name}-{_key(name, checkpoint, input_shape)}.xml"
    if target.is_file():
        return target
    _log.info("converting %s for OpenVINO, once", name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".", dir=folder))
    except OSError as error:
        raise ModelError(f"{folder}: {error.strerror} (STREAMKP_HOME chooses another cache folder)") from None
    try:
        _convert(name, checkpoint, input_shape, work / "network.xml")
        for suffix in (".bin", ".xml"):  # the second is what another process looks for
            os.replace(work / f"network{suffix}", target.with_suffix(suffix))
    except OSError as error:
        raise ModelError(f"cannot write {target}: {error.strerror}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _convert(name: str, checkpoint: Path, input_shape: tuple[int, int, int], target: Path) -> None:
    network = zoo.load(name, checkpoint)
    import openvino as ov
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        # Deprecated, but a large network is traced and converted in 7 s, and exported and converted in 29 s.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(network, torch.zeros(2, *input_shape), check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(traced, input=[-1, *input_shape])
    model.inputs[0].get_tensor().set_names({"image"})
    for i, output in enumerate(model.outputs):
        output.get_tensor().set_names({str(i)})
    try:
        ov.save_model(model, target, compress_to_fp16=False)
    except RuntimeError as error:
        raise ModelError(f"cannot write {target}: is the disk full?") from error


def _key(name: str, checkpoint: Path, input_shape: tuple[int, int, int]) -> str:
    """Changes with the weights, with the code of the network, and with OpenVINO."""
    digest = hashlib.sha256(repr((input_shape, importlib.metadata.version("openvino"))).encode())
    source = inspect.getsourcefile(import_module(zoo.__name__)) or ""
    module = Path(source).parent / f"{zoo.NETWORKS[name][0].split(':')[0].rsplit('.', 1)[1]}.py"
    digest.update(module.read_bytes())
    with checkpoint.open("rb") as handle:
        digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:16]
