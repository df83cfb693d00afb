"""`streamkp models` and `streamkp samples` as a user types them, on an empty cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from streamkp.cli import models, samples
from streamkp.cli.models import models_app
from streamkp.cli.samples import samples_app
from streamkp.errors import ModelError, UsageError
from streamkp.hub import catalog

app = typer.Typer()
app.add_typer(models_app, name="models")
app.add_typer(samples_app, name="samples")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAMKP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def fails(*arguments: str) -> Exception:
    """The error that the program's entry point would print."""
    result = run(*arguments)
    assert isinstance(result.exception, ModelError | UsageError), result.output
    return result.exception


def test_list_names_every_model_on_one_line() -> None:
    lines = run("models", "list").stdout.splitlines()
    for model in catalog.table().model:
        (line,) = [line for line in lines if f" {model.name} " in line]
        assert model.licence in line
        assert any(other.strip() == model.task for other in lines[: lines.index(line)])
        in_the_wheel = all(file.bundled for file in model.files)
        assert line.rstrip().endswith("MB" if in_the_wheel else "no")


def test_list_as_json() -> None:
    rows = {row["name"]: row for row in json.loads(run("models", "list", "--json").stdout)}
    assert rows["hdformer"]["published"]["Human3.6M MPJPE (mm), HRNet 2D"] == 40.3
    assert rows["hdformer"]["on_disk"] is False
    assert rows["blazepose-full"]["input_size"] == [256, 256]


def test_show_tells_licence_figures_and_address() -> None:
    text = run("models", "show", "videopose3d-original-cpn").stdout
    for part in ("CC-BY-NC-4.0", "Not for commercial use", "46.8", "https://dl.fbaipublicfiles.com/video-pose-3d/"):
        assert part in text


def test_pull_from_a_file_shows_the_licence_and_prints_the_path(assets: Path, home: Path) -> None:
    source = assets / "models" / "mediapipe" / "pose_landmark_lite.tflite"
    result = run("models", "pull", "blazepose-lite", "--from", str(source))
    assert result.exit_code == 0, result.output
    path = home / "models" / "blazepose-lite" / "pose_landmark_lite.tflite"
    assert result.stdout.strip() == str(path)
    assert "licence Apache-2.0" in result.stderr
    assert path.read_bytes() == source.read_bytes()
    assert run("models", "path", "blazepose-lite").stdout.strip() == str(path)
    checked = run("models", "verify").stdout.splitlines()
    bundled = ["tcn-streamkp/tcn-streamkp.safetensors: ok", "hdformer-streamkp/hdformer-streamkp.onnx: ok"]
    assert checked == ["blazepose-lite/pose_landmark_lite.tflite: ok", *bundled]
    path.write_bytes(b"bit rot")
    assert "streamkp models pull blazepose-lite" in str(fails("models", "verify"))


def test_pull_of_another_file_is_refused(assets: Path) -> None:
    source = assets / "models" / "mediapipe" / "pose_landmark_lite.tflite"
    assert "is not the file that the catalog names" in str(
        fails("models", "pull", "blazepose-heavy", "--from", str(source))
    )


def test_from_goes_with_one_name(tmp_path: Path) -> None:
    error = fails("models", "pull", "hdformer", "tpnet", "--from", str(tmp_path))
    assert isinstance(error, UsageError)


def test_unknown_names_fetch_nothing(home: Path) -> None:
    error = fails("models", "pull", "blazepose-lite", "blazepose-fool")
    assert "did you mean blazepose-full" in str(error)
    assert error.exit_code == 4
    assert not home.exists()


def test_verify_by_name_reports_what_is_absent() -> None:
    result = run("models", "verify", "hdformer")
    assert "hdformer/pytorch_model.pt: not on disk" in result.stdout
    assert "streamkp models pull hdformer" in str(result.exception)


def test_convert_is_for_networks_in_torch(tmp_path: Path) -> None:
    error = fails("models", "convert", "a.pth", str(tmp_path / "b.safetensors"), "--name", "blazepose-full")
    assert "not one of the networks in torch" in str(error)


def test_samples(assets: Path, home: Path, tmp_path: Path) -> None:
    text = run("samples", "list").stdout
    assert all(sample.name in text for sample in catalog.table().sample)
    clip = tmp_path / "any.mp4"
    shutil.copy(assets / "clips" / "sports2d_demo_walk_enter_leave.mp4", clip)
    path = home / "samples" / "walk" / "walk.mp4"
    assert run("samples", "pull", "walk", "--from", str(clip)).stdout.strip() == str(path)
    assert run("samples", "path", "walk").stdout.strip() == str(path)
    rows = {row["name"]: row for row in json.loads(run("samples", "list", "--json").stdout)}
    assert rows["walk"]["on_disk"] is True
    assert rows["people-cam01"]["on_disk"] is False


def test_the_list_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "console", lambda: Console(width=80))
    shown = CliRunner().invoke(models_app, ["list"]).stdout.splitlines()
    rows = [line for line in shown if line.startswith(tuple(model.name for model in catalog.table().model))]
    assert len(rows) == len(catalog.table().model)
    assert max(map(len, rows)) <= 80
    assert not [row for row in rows if "\N{HORIZONTAL ELLIPSIS}" in row]
    assert "published accuracy" not in shown[0]


def test_the_samples_fit_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "console", lambda: Console(width=80))
    shown = CliRunner().invoke(app, ["samples", "list"]).stdout.splitlines()
    assert max(map(len, shown)) <= 80
    text = "\n".join(shown)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for sample in catalog.table().sample:  # a title may go on in the next line; no word is broken
        assert all(part in text for part in (sample.name, *sample.title.split(), sample.video, sample.licence))
