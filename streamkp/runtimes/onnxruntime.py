"""ONNX files run by ONNX Runtime, on the CPU or a GPU. The package is imported only when a network is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamkp.errors import ModelError
from streamkp.runtimes.base import Array, NetworkSource, Pixels, Port, RunOptions, processors, require_finite

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_DTYPES |= {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(double)": np.float64}


class OnnxNetwork:
    """An ONNX file in ONNX Runtime, a `streamkp.runtimes.base.Network`.

    Raises:
        ModelError: the package is not installed, the file is not a model that it can read, or the precision is not
            that of the file.
    """

    def __init__(self, source: NetworkSource, options: RunOptions, device: str) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise ModelError(f"{source.name}: runtime onnxruntime is not installed: pip install onnxruntime") from None
        assert source.file is not None
        if options.precision != "f32":
            raise ModelError(f"{source.name}: runtime onnxruntime keeps the precision of the file: leave out precision")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = processors(options.threads)
        # Waiting threads of one network would take the processors from all others.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.log_severity_level = 3
        providers = ["CUDAExecutionProvider"] if device == "cuda" else []
        try:
            self._session = onnxruntime.InferenceSession(
                str(source.file), settings, providers=[*providers, "CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common base but this
            raise ModelError(f"{source.file} is not a model that ONNX Runtime can read: {error}") from None
        self.name = source.name
        self.device = device
        self.buckets = options.buckets
        self._channels = source.channels
        self._pixels = source.pixels
        self.inputs: Mapping[str, Port] = {port.name: _port(port) for port in self._session.get_inputs()}
        self._batch = {name: port.shape[0] for name, port in self.inputs.items()}
        found = {port.name: _port(port) for port in self._session.get_outputs()}
        wanted = tuple(found) if source.outputs is None else source.outputs
        if missing := [name for name in wanted if name not in found]:
            raise ModelError(f"{source.file} has no output {missing[0]}; it has {', '.join(found)}")
        self.outputs: Mapping[str, Port] = {name: found[name] for name in wanted}
        if self._pixels is not None:
            ((name, port),) = self.inputs.items()
            _, channels, height, width = port.shape
            self.inputs = {name: Port((-1, height, width, channels), np.dtype(np.uint8))}

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Network`."""
        given = {name: np.asarray(inputs[name]) for name in self.inputs}
        samples = len(next(iter(given.values())))
        fixed = min(self._batch.values())  # a file for one sample at a time gets one sample at a time
        step = fixed if fixed > 0 else max(samples, 1)
        parts = [self._run({k: v[i : i + step] for k, v in given.items()}) for i in range(0, max(samples, 1), step)]
        found = {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}
        require_finite(self.name, found)
        return found

    def submit(self, inputs: Mapping[str, Array]) -> _Done:
        """See `Network`. The work is done before it returns."""
        return _Done(self(inputs))

    def close(self) -> None:
        """Let go of the session."""
        del self._session

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = {name: self._prepared(values) for name, values in inputs.items()}
        try:
            outputs = self._session.run(list(self.outputs), given)
        except Exception as error:
            raise ModelError(f"{self.name} failed: {error}") from None
        found = dict(zip(self.outputs, outputs, strict=True))
        return {
            name: values[..., self._channels[name] : self._channels[name] + 1] if name in self._channels else values
            for name, values in found.items()
        }

    def _prepared(self, values: Array) -> Array:
        return values if self._pixels is None else normalised(values, self._pixels)


class _Done:
    def __init__(self, outputs: dict[str, Array]) -> None:
        self._outputs = outputs

    def result(self) -> dict[str, Array]:
        """See `Pending`."""
        return self._outputs


def normalised(images: Array, pixels: Pixels) -> Array:
    """A network's input float32 (N, 3, H, W) from uint8 images (N, H, W, 3) BGR."""
    channels = images[..., ::-1] if pixels.rgb else images
    mean, scale = np.asarray(pixels.mean, np.float32), np.asarray(pixels.scale, np.float32)
    values = (channels.astype(np.float32) - mean) / scale
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def _port(port: Any) -> Port:
    shape = tuple(d if isinstance(d, int) else -1 for d in port.shape)
    return Port(shape, np.dtype(_DTYPES.get(port.type, np.float32)))
