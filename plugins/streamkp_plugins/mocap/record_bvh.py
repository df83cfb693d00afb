"""`record-bvh`: one person's motion as a BVH file, for Blender, Maya, MotionBuilder and others.

Rest rotations are identity (a T-pose that looks along +z, y up), the channels are the order of rotation, and offsets
are the person's bone lengths in the first frame. The number of frames in the header is right after every frame, so
that a file survives a killed process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.transform import Rotation

from streamkp.plugin import OutputError, Packet, Sink, StageOptions, refuse_existing
from streamkp_plugins.mocap.body import PARENTS, rest_offsets
from streamkp_plugins.mocap.performer import Performer

Array = NDArray[np.float64]
ENDS = {
    "Head": (0.0, 0.12, 0.0), "LeftHand": (0.17, 0.0, 0.0), "RightHand": (-0.17, 0.0, 0.0),
    "LeftFoot": (0.0, -0.06, 0.15), "RightFoot": (0.0, -0.06, 0.15),
}  # fmt: skip
_DIGITS = 10


class RecordBvh(Sink):
    """Writes the motion of one person to a BVH file."""

    class Options(StageOptions):
        path: Path = Field(description="File to write.")
        overwrite: bool = Field(False, description="Replace the file if it exists.")
        rate: float = Field(30.0, gt=0, le=240, description="Frames a second; a BVH file has one rate.")
        scale: float = Field(1.0, gt=0, description="1: metres; 100: centimetres.")
        stream: str | None = Field(None, description="Only this stream; the first that shows a person otherwise.")

    options: Options

    @classmethod
    def claims(cls, options: Options) -> Sequence[str]:
        return [f"file {options.path}"]

    @classmethod
    def outputs(cls, options: Options, streams: Sequence[str]) -> Sequence[Path]:
        return [options.path]

    def open(self) -> None:
        path = self.options.path
        refuse_existing(self.context.name, path, self.options.overwrite)
        try:
            self._file: BinaryIO = path.open("wb")
        except OSError as error:
            raise OutputError(f"{self.context.name}: cannot write {path}: {error.strerror}") from None
        self._performer = Performer(self.options.stream)
        self._frames = 0
        self._count_at = 0
        self._begin: int | None = None

    def process(self, packet: Packet) -> None:
        person = self._performer.choose(packet)
        if person is None:
            return
        found = person.extra["kinematics"]
        try:
            if self._begin is None:
                self._begin = packet.pts
                self._header(rest_offsets(found["lengths"]))
            due = int((packet.pts - self._begin) * self.options.rate / 1e9 + 1e-6) + 1
            if due - self._frames > 60 * self.options.rate:  # the clock has jumped: no minutes of standing still
                self._begin += packet.pts - self._begin - round(self._frames * 1e9 / self.options.rate)
                due = self._frames + 1
            line = self._line(found)
            for _ in range(self._frames, due):
                self._file.write(line)
            if due > self._frames:
                self._frames = due
                self._write_count()
        except OSError as error:
            path = self.options.path
            raise OutputError(f"{self.context.name}: cannot write to {path}: {error.strerror}") from None

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise OutputError(f"{self.context.name}: cannot finish {self.options.path}: {error.strerror}") from None
        if not self._frames:
            self.context.log.warning("%s is empty: nobody with `kinematics` was seen", self.options.path)

    def _header(self, offsets: dict[str, Array]) -> None:
        text = "\n".join(["HIERARCHY", *self._joint("Hips", offsets, 0), "MOTION", "Frames: "])
        self._file.write(text.encode())
        self._count_at = self._file.tell()
        self._file.write(f"{0:<{_DIGITS}}\nFrame Time: {1 / self.options.rate:.8f}\n".encode())

    def _joint(self, bone: str, offsets: dict[str, Array], depth: int) -> Iterator[str]:
        tab = "  " * depth
        yield f"{tab}{'JOINT' if depth else 'ROOT'} {bone}"
        yield f"{tab}{{"
        yield f"{tab}  OFFSET {self._spot(offsets[bone])}"
        places = "" if depth else "Xposition Yposition Zposition "
        yield f"{tab}  CHANNELS {3 if depth else 6} {places}Zrotation Xrotation Yrotation"
        for child in (name for name, parent in PARENTS.items() if parent == bone):
            yield from self._joint(child, offsets, depth + 1)
        if bone in ENDS:
            yield f"{tab}  End Site"
            yield f"{tab}  {{"
            yield f"{tab}    OFFSET {self._spot(np.array(ENDS[bone]))}"
            yield f"{tab}  }}"
        yield f"{tab}}}"

    def _spot(self, spot: Array) -> str:
        return " ".join(f"{value * self.options.scale:.6f}" for value in spot)

    def _line(self, found: dict[str, Any]) -> bytes:
        values = [f"{value * self.options.scale:.6f}" for value in found["hips"]]
        for bone in _depth_first("Hips"):
            # Intrinsic z, then x, then y: the order of the channels.
            angles = Rotation.from_quat(found["rotations"][bone]).as_euler("ZXY", degrees=True)
            values += [f"{angle:.6f}" for angle in angles]
        return (" ".join(values) + "\n").encode()

    def _write_count(self) -> None:
        end = self._file.tell()
        self._file.seek(self._count_at)
        self._file.write(f"{self._frames:<{_DIGITS}}".encode())
        self._file.seek(end)
        self._file.flush()


def _depth_first(bone: str) -> Iterator[str]:
    yield bone
    for child in (name for name, parent in PARENTS.items() if parent == bone):
        yield from _depth_first(child)
