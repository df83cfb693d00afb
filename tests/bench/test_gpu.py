"""`bench gpu`: every part gives figures, on the CPU with tiny sizes, and on CUDA where there is one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from streamkp.bench import gpu
from streamkp.cli.bench import bench_app
from streamkp.errors import UsageError
from streamkp.hub import store

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
)


@pytest.fixture(scope="module")
def models() -> dict[str, Path]:
    if missing := [name for name in gpu.MODELS if not store.is_cached(name)]:
        pytest.skip(f"needs {missing[0]} in the cache: streamkp models pull {missing[0]}")
    return {name: store.path(name) for name in gpu.MODELS}


def _run(device: str, models: dict[str, Path], parts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    options = gpu.Options(
        models=models,
        device=device,
        seconds=120,
        batches=(1, 2),
        precision="f32",
        stream_counts=(1,),
        size=(320, 192),
        parts=parts,
    )
    return {figures["part"]: figures for figures in gpu.run(options)}


@pytest.mark.parametrize("device", [CUDA])
def test_device_and_cpu_agree(device: str, models: dict[str, Path]) -> None:
    figures = _run(device, models, ("parity",))["parity"]
    assert figures["ok"], figures
    assert figures["landmarks f32"]["of_scale"] <= 1e-3


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_rates_and_streams_have_figures(device: str, models: dict[str, Path]) -> None:
    found = _run(device, models, ("ceilings", "landmarks", "streams", "upload"))
    assert list(found) == ["ceilings", "streams", "landmarks", "upload"]
    assert not [figures for figures in found.values() if "error" in figures]
    rates = found["landmarks"]["f32"]
    assert list(rates["batch"]) == ["1", "2"]
    assert rates["mflop"] == pytest.approx(702.7, rel=0.01)  # counted by hand from the file's shapes
    assert found["streams"]["runs"][0]["streams"] == 1


def test_a_part_that_fails_says_why_and_the_next_goes_on(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model at all")
    found = _run("cpu", dict.fromkeys(gpu.MODELS, broken), ("machine", "landmarks", "upload"))
    assert "not a TensorFlow Lite model" in found["landmarks"]["error"]
    assert found["upload"]["i420"]["frames_per_s"] > 0


def test_the_command_prints_a_json_object_for_each_part(models: dict[str, Path]) -> None:
    arguments = ["gpu", "--device", "cpu", "--json", "--part", "machine", "--part", "upload", "--size", "64x64"]
    result = CliRunner().invoke(bench_app, arguments)
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["part"] for line in result.stdout.splitlines()] == ["machine", "upload"]


def test_the_command_prints_each_part_for_people(models: dict[str, Path]) -> None:
    result = CliRunner().invoke(bench_app, ["gpu", "--device", "cpu", "--part", "machine", "--size", "64x64"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("machine:\n  torch: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "foo"], "foo is no device"),
        (["--device", "cuda:99"], "finds .* GPU.* here; --device cpu tries the same code"),
        (["--device", "cpu", "--part", "nosuch"], "nosuch is no part of bench gpu: they are machine, "),
        (["--device", "cpu", "--part", "compiled"], "needs --compile"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(arguments: list[str], message: str) -> None:
    error = CliRunner().invoke(bench_app, ["gpu", *arguments]).exception
    assert isinstance(error, UsageError)
    assert re.search(message, str(error))
