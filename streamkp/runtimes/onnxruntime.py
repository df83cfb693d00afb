"""ONNX files run by ONNX Runtime, on the CPU or a GPU. The package is imported only when a network is opened."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streamkp.errors import ModelError
from streamkp.runtimes.base import Array, NetworkSource, Pixels, Port, RunOptions, processors, require_finite

_log = logging.getLogger("streamkp.runtimes")
_MOST = 64  # samples at once on a GPU
_USUAL = 8
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_DTYPES |= {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(double)": np.float64}


class OnnxNetwork:
    """An ONNX file in ONNX Runtime, a `streamkp.runtimes.base.Network`.

    Inputs and outputs are bound, so that on a GPU each goes over once; tensors of torch that lie there stay. Where
    memory runs out, the batch is halved.

    Raises:
        ModelError: the package is not installed, the file is not a model that it can read, the GPU cannot be used, or
            the precision is not that of the file.
    """

    def __init__(self, source: NetworkSource, options: RunOptions, device: str, *, tensorrt: bool = False) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise ModelError(f"{source.name}: runtime onnxruntime is not installed: pip install onnxruntime") from None
        assert source.file is not None
        if options.precision == "bf16" or (options.precision == "f16" and not tensorrt):
            raise ModelError(f"{source.name}: runtime onnxruntime keeps the precision of the file: leave out precision")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = processors(options.threads)
        # Waiting threads of one network would take the processors from all others.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.log_severity_level = 3
        gpu = _gpu_providers(source.file, settings, options, tensorrt=tensorrt) if device == "cuda" else []
        try:
            self._session = onnxruntime.InferenceSession(
                str(source.file), settings, providers=[*gpu, "CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common base but this
            raise ModelError(f"{source.file} is not a model that ONNX Runtime can read: {error}") from None
        if gpu and gpu[0][0] not in self._session.get_providers():
            raise ModelError(
                f"{source.name} cannot run on device cuda: {gpu[0][0]} of ONNX Runtime does not start; "
                "its CUDA, cuDNN or TensorRT libraries are missing or of another version"
            )
        self._ort = onnxruntime
        self.name = source.name
        self.device = device
        self._most = _MOST if device == "cuda" else None  # samples at once
        self._channels = source.channels
        self._pixels = source.pixels
        self.inputs: Mapping[str, Port] = {port.name: _port(port) for port in self._session.get_inputs()}
        self._batch = min(port.shape[0] for port in self.inputs.values())
        found = {port.name: _port(port) for port in self._session.get_outputs()}
        wanted = tuple(found) if source.outputs is None else source.outputs
        if missing := [name for name in wanted if name not in found]:
            raise ModelError(f"{source.file} has no output {missing[0]}; it has {', '.join(found)}")
        self.outputs: Mapping[str, Port] = {name: found[name] for name in wanted}
        if self._pixels is not None:
            ((name, port),) = self.inputs.items()
            _, channels, height, width = port.shape
            self.inputs = {name: Port((-1, height, width, channels), np.dtype(np.uint8))}

    @property
    def buckets(self) -> tuple[int, ...] | None:
        """See `Network`: one sample where the file is for one."""
        return (self._batch,) if self._batch > 0 else None

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """See `Network`."""
        given = {name: inputs[name] for name in self.inputs}
        samples = len(next(iter(given.values())))
        parts: list[dict[str, Array]] = []
        done = 0
        while done < samples or not parts:
            step = self._batch if self._batch > 0 else min(samples - done, self._most or samples)
            try:
                parts.append(self._run({k: v[done : done + step] for k, v in given.items()}))
                done += max(step, 1)
            except Exception as error:  # of classes that the package does not name
                if self._batch > 0 or step < 2 or "allocate memory" not in str(error):
                    raise ModelError(f"{self.name} failed: {error}") from None
                self._most = step // 2
                _log.warning("%s: out of memory with %d at once; going on with %d", self.name, step, self._most)
        found = {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}
        require_finite(self.name, found)
        return found

    side_by_side = None

    def submit(self, inputs: Mapping[str, Any], *, crowded: bool = True) -> _Done:
        """See `Network`. The work is done before it returns."""
        return _Done(self(inputs))

    def close(self) -> None:
        """Let go of the session."""
        del self._session

    def _run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        binding = self._session.io_binding()
        held = [self._bind(binding, name, values) for name, values in inputs.items()]
        for name in self.outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        del held
        found = dict(zip(self.outputs, binding.copy_outputs_to_cpu(), strict=True))
        return {
            name: values[..., self._channels[name] : self._channels[name] + 1] if name in self._channels else values
            for name, values in found.items()
        }

    def _bind(self, binding: Any, name: str, values: Any) -> Any:
        """Bind an input; what is returned has to live until the run is over."""
        if hasattr(values, "data_ptr") and values.is_cuda:
            import torch

            tensor = values if self._pixels is None else _normalised_tensor(values, self._pixels)
            tensor = tensor.contiguous()
            torch.cuda.current_stream(tensor.device).synchronize()  # ONNX Runtime works on a stream of its own
            kind = np.dtype(str(tensor.dtype).removeprefix("torch."))
            binding.bind_input(name, "cuda", tensor.device.index or 0, kind, tuple(tensor.shape), tensor.data_ptr())
            return tensor
        array = np.asarray(values)
        array = np.ascontiguousarray(array if self._pixels is None else normalised(array, self._pixels))
        value = self._ort.OrtValue.ortvalue_from_numpy(array, self.device, 0)
        binding.bind_ortvalue_input(name, value)
        return value, array


def _gpu_providers(file: Path, settings: Any, options: RunOptions, *, tensorrt: bool) -> list[Any]:
    """ONNX Runtime's providers for a GPU, the preferred first, and their options."""
    whole = "0" if options.precision == "f32" else "1"
    # The exhaustive search would begin anew with each number of samples.
    cuda = ("CUDAExecutionProvider", {"use_tf32": whole, "cudnn_conv_algo_search": "HEURISTIC"})
    if not tensorrt:
        return [cuda]
    from streamkp.hub import store

    folder = store.home() / "tensorrt"
    folder.mkdir(parents=True, exist_ok=True)
    compiler = {
        "trt_fp16_enable": "1" if options.precision == "f16" else "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    } | _profile(file, settings)
    return [("TensorrtExecutionProvider", compiler), cuda]


def _profile(file: Path, settings: Any) -> dict[str, str]:
    """For which numbers of samples TensorRT compiles; without it, it would compile again for each."""
    import onnxruntime

    plain = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    ports = {port.name: _port(port) for port in plain.get_inputs()}
    if any(port.shape[0] > 0 or -1 in port.shape[1:] for port in ports.values()):
        return {}

    def shapes(samples: int) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, (samples, *port.shape[1:])))}" for name, port in ports.items())

    return {
        "trt_profile_min_shapes": shapes(1),
        "trt_profile_opt_shapes": shapes(_USUAL),
        "trt_profile_max_shapes": shapes(_MOST),
    }


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


def _normalised_tensor(images: Any, pixels: Pixels) -> Any:
    """`normalised` of a tensor, where it lies."""
    import torch

    channels = images.flip(-1) if pixels.rgb else images
    mean, scale = (torch.tensor(v, dtype=torch.float32, device=images.device) for v in (pixels.mean, pixels.scale))
    return ((channels.float() - mean) / scale).permute(0, 3, 1, 2)


def _port(port: Any) -> Port:
    shape = tuple(d if isinstance(d, int) else -1 for d in port.shape)
    return Port(shape, np.dtype(_DTYPES.get(port.type, np.float32)))
