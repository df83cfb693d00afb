"""Files from strangers, and what the shell does to a program: each command ends soon, in words, in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sources.videos import write_clip
from tests.system.running import PATIENCE, Running, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures the memory of children"),
]

PLAIN = "stages:\n  decode: {use: decode}\n  record: {use: record, path: out.jsonl}\n"
MARK = 'open("ran", "w").close()\n'
PLUGIN = (
    "from streamkp.plugin import MapStage\nclass P(MapStage):\n    def process(self, packet):\n        return packet\n"
)


@dataclass
class Done:
    """How a command ended."""

    code: int
    said: str
    peak: float  # MiB


def bomb(path: Path) -> None:
    """A checkpoint of a megabyte that unpacks to a gigabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        out.writestr("archive/version", b"3\n")
        with out.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(1024):
                member.write(bytes(1 << 20))


COMMANDS = {
    "large graph": ("graph", "check", "large.yaml"),
    "deep graph": ("graph", "check", "deep.yaml"),
    "no date": ("graph", "check", "date.yaml"),
    "long number": ("graph", "check", "number.yaml"),
    "plugin that ends": ("run", "exit.yaml", "--source", "clip.mp4"),
    "plugin not run": ("graph", "check", "--no-plugins", "mark.yaml"),
    "bomb": ("models", "convert", "bomb.pth", "out.safetensors", "--name", "videopose3d-27f"),
}


# Linux counts the memory of the process that starts another one as that one's: a small one in between.
MEASURED = """\
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[2:], stdout=sys.stderr, timeout=float(sys.argv[1])).returncode
print(json.dumps([code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrusted")
    write_clip(folder / "clip.mp4")
    (folder / "large.yaml").write_text(PLAIN + "# " + "x" * 10_000_000)
    (folder / "deep.yaml").write_text("stages: " + "[" * 3000 + "]" * 3000)
    (folder / "date.yaml").write_text(PLAIN + "streams: {a: {uri: 2020-99-99}}\n")
    (folder / "number.yaml").write_text(PLAIN + "version: " + "9" * 6000)
    for name, code in (("exit", "raise SystemExit(0)\n"), ("mark", MARK)):
        (folder / f"{name}.py").write_text(code + PLUGIN)
        (folder / f"{name}.yaml").write_text(PLAIN.replace("  record", f"  p: {{use: {name}.py:P}}\n  record"))
    bomb(folder / "bomb.pth")
    return folder


@pytest.fixture(scope="module")
def done(program_env: dict[str, str], folder: Path) -> dict[str, Done]:
    """All commands, two at a time."""
    results: dict[str, Done] = {}
    waiting = list(COMMANDS)

    def work() -> None:
        while waiting:
            name = waiting.pop()
            with (folder / f"{name}.txt").open("w+") as said:
                command = [sys.executable, "-m", "streamkp", *COMMANDS[name]]
                run = subprocess.run(
                    [sys.executable, "-c", MEASURED, str(2 * PATIENCE), *command], cwd=folder, env=program_env,
                    stdout=subprocess.PIPE, stderr=said, text=True, check=True,
                )  # fmt: skip
                code, peak = json.loads(run.stdout)
                said.seek(0)
                results[name] = Done(code, said.read(), peak / 1024)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("large graph", 2, "larger than a graph file may be"),
        ("deep graph", 2, "too large or too deep"),
        ("no date", 2, "date.yaml:4"),
        ("long number", 2, "number.yaml:4"),
        ("plugin that ends", 2, "exit.py"),
        ("plugin not run", 0, "not checked, being plugins: p"),
        ("bomb", 4, "unpacks to 1024 MB"),
    ],
)
def test_it_is_refused_in_words(done: dict[str, Done], name: str, code: int, words: str) -> None:
    found = done[name]
    assert found.code == code, found.said
    assert words in found.said
    assert "Traceback" not in found.said
    assert found.peak < 700, "memory"


def test_no_code_of_a_plugin_ran(done: dict[str, Done], folder: Path) -> None:
    assert "plugin not run" in done
    assert not (folder / "ran").exists()


def test_a_password_in_the_environment_shows_nowhere(program_env: dict[str, str], folder: Path) -> None:
    graph = folder / "cam.yaml"
    graph.write_text(
        "stages:\n  decode: {use: decode, wait_for_source: true}\n  web: {use: publish-websocket, port: 0}\n"
    )
    secret = "a'b<c>d e@f/9137"
    source = "rtsp://viewer:${CAM_PASSWORD}@127.0.0.1:9/live"
    program = Running("run", graph, "--source", source, env=program_env | {"CAM_PASSWORD": secret}, cwd=folder)
    try:
        program.wait_said("127.0.0.1:9/live", "refused", "trying again")
        texts = [program.said, str(program.stats()), program.get("/metrics")[1]]
        texts.append(Path(f"/proc/{program.process.pid}/cmdline").read_bytes().decode())
        for text in texts:
            assert "9137" not in text
        until(lambda: program.get("/readyz")[0] == 503, "not ready")
        assert program.stop() in (0, 3), program.said
    finally:
        program.kill()
