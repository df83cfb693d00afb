"""Damaged video and image files: an error in words or the frames that can be read, soon, in bounded memory."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest

from tests.fuzz.decode_worker import decode
from tests.fuzz.mutate import mutated
from tests.sources.videos import picture, write_clip

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space"),
]

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 5.0  # seconds for one file
STARTING = 60.0  # seconds until a worker has loaded everything
PER_KIND = 42  # damaged files of each of the twelve kinds
VIDEOS = {
    "clip.mp4": "libx264",
    "clip.mkv": "libx264",
    "clip.webm": "libvpx",
    "clip.avi": "mjpeg",
    "xvid.avi": "mpeg4",
    "clip.ts": "libx264",
    "clip.flv": "flv",
    "clip.mov": "libx264",
    "clip.gif": "gif",
}
IMAGES = ("photo.jpg", "photo.png", "photo.webp")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A whole file of each kind."""
    folder, files = tmp_path_factory.mktemp("whole"), []
    for name, codec in VIDEOS.items():
        if codec == "gif":
            command = ["ffmpeg", "-v", "error", "-i", folder / "clip.mp4", "-frames:v", "5", folder / name]
            subprocess.run(command, check=True)
            files.append(folder / name)
        else:
            every = 4 if codec == "libx264" else None
            files.append(write_clip(folder / name, codec=codec, frames=12, keyframes_every=every))
    for name in IMAGES:
        cv2.imwrite(str(folder / name), picture((64, 48), 1))
        files.append(folder / name)
    return files


class Worker:
    """The decoding process; restarted after a file that it did not survive."""

    def __init__(self, example: Path) -> None:
        self._example = example
        self._process: subprocess.Popen[str] | None = None

    def decode(self, path: Path) -> str:
        """How it went: what the worker says, `hangs`, or how the worker died."""
        if self._process is None:
            self._start()
        return self._ask(path, LIMIT)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.decode_worker"], cwd=ROOT, env=os.environ | {"PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        self._complaints: list[str] = []
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()
        threading.Thread(target=self._listen, args=(self._process, self._complaints), daemon=True).start()
        said = self._ask(self._example, STARTING)
        assert said.endswith("whole"), said

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    @staticmethod
    def _listen(process: subprocess.Popen[str], complaints: list[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            complaints.append(line)
            del complaints[:-60]

    def _ask(self, path: Path, limit: float) -> str:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        for start in ("begin ", "end "):
            try:
                line = self._lines.get(timeout=limit)
            except queue.Empty:
                self.close()
                return "hangs"
            if not line.startswith(start):
                code = self._process.wait()
                self._process = None
                return f"died with {code}: {''.join(self._complaints[-25:])}"
        return line.removeprefix(f"end {path} ").strip()


def test_damaged_files(examples: list[Path], tmp_path: Path) -> None:
    jobs = [(example, seed) for seed in range(PER_KIND) for example in examples]
    assert len(jobs) > 500

    def work(share: list[tuple[Path, int]]) -> list[tuple[str, str]]:
        worker, found = Worker(examples[0]), []
        try:
            for example, seed in share:
                path = tmp_path / f"{example.stem}-{seed}{example.suffix}"
                path.write_bytes(mutated(example.read_bytes(), seed))
                found.append((path.name, worker.decode(path)))
                path.unlink()
        finally:
            worker.close()
        return found

    with ThreadPoolExecutor(2) as pool:
        results = [each for found in pool.map(work, (jobs[::2], jobs[1::2])) for each in found]
    bad = [f"{name}: {words}" for name, words in results if words.startswith(("hangs", "died", "500 "))]
    assert not bad, "\n".join(bad)
    assert len(results) == len(jobs)
    refused = sum("refused" in words for _, words in results)
    assert len(jobs) / 10 < refused < len(jobs), "some are damaged beyond use, others are not"


@pytest.mark.parametrize("number", range(len(VIDEOS) + len(IMAGES)))
def test_whole_files(examples: list[Path], number: int) -> None:
    example = examples[number]
    assert decode(str(example)) == (1 if example.name in IMAGES else 5 if example.suffix == ".gif" else 12, "whole")
