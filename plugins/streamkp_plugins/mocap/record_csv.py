"""`record-csv`: a row for each person and frame, for spreadsheets and R."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamkp.plugin import FreshFile, OutputError, Packet, Person, Sink, StageOptions, refuse_existing, skeleton

PLAIN = (str, int, float, np.number)  # and bool: what a cell can hold
FIXED = ("stream", "seq", "time_s", "track", "score")


class RecordCsv(Sink):
    """Writes keypoints to a CSV file: one row for each person and frame, three columns for each joint.

    `time_s` is that of the frame in its source's own clock. 2D has x and y in pixels and the score of each joint, 3D
    metres in the axes of the pose with the pelvis at the origin, and where that is (`root_*`). A value that is not
    known is empty. The columns are those of the first pose; people with another skeleton are left out, and counted.
    `extra: [joint_angles]` adds columns (`joint_angles.left_knee`) of what a stage above says of each person: those of
    the first person who has it all, with whom the rows begin.
    """

    class Options(StageOptions):
        path: Path = Field(description="File to write.")
        overwrite: bool = Field(False, description="Replace the file if it exists.")
        space: Literal["2d", "3d"] = Field("3d", description="Keypoints in the image, or in space.")
        extra: list[str] = Field(
            [], description="Columns of what stages above add to people, such as joint_angles or rep_counter."
        )
        stream: str | None = Field(None, description="Only this stream; all otherwise.")

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
            self._file = FreshFile(path)
        except OSError as error:
            raise OutputError(f"{self.context.name}: cannot write {path}: {error.strerror}") from None
        self._skeleton: str | None = None
        self._extremities: tuple[str, ...] = ()
        self._extra: dict[str, list[str]] = {}  # the keys of each extra that has a column
        self._seen = False  # a pose, perhaps without what `extra` names
        self._left_out = 0

    def process(self, packet: Packet) -> None:
        if self.options.stream not in (None, packet.stream):
            return
        rows = [row for person in packet.persons if (row := self._row(packet, person)) is not None]
        if not rows:
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._write(text.getvalue())

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise OutputError(f"{self.context.name}: cannot finish {self.options.path}: {error.strerror}") from None
        if self._skeleton is None:
            what = f"keypoints in {self.options.space}" + (" (space: 2d has those of the image)" * self._is_3d)
            if self._seen:
                what = " and ".join(self.options.extra)
            self.context.log.warning("nobody was seen with %s; %s was not written", what, self.options.path)
        if self._left_out:
            self.context.log.warning("%d poses with another skeleton than %s were left out", self._left_out,
                                     self._skeleton)  # fmt: skip

    @property
    def _is_3d(self) -> bool:
        return self.options.space == "3d"

    def _row(self, packet: Packet, person: Person) -> list[str] | None:
        pose = person.keypoints_2d if self.options.space == "2d" else person.keypoints_3d
        if pose is None:
            return None
        self._seen = True
        if self._skeleton is None:
            if not all(isinstance(person.extra.get(name), Mapping) for name in self.options.extra):
                return None
            self._begin(person, pose.skeleton)
        if pose.skeleton != self._skeleton:
            self._left_out += 1
            return None
        row = [packet.stream, str(packet.seq), f"{packet.pts / 1e9:.6f}", str(person.track), f"{person.score:.3f}"]
        row += _cells(pose.points, len(skeleton(pose.skeleton)))
        if self.options.space == "3d":
            solid = person.keypoints_3d
            assert solid is not None
            row += _cells(None if solid.root is None else solid.root[None], 1)
            more = solid.extremities
            row += _cells(None if more is None else more.points, len(self._extremities))
        for name, keys in self._extra.items():
            found = person.extra.get(name)
            row += [_cell(found.get(key)) if isinstance(found, Mapping) else "" for key in keys]
        return row

    def _begin(self, person: Person, name: str) -> None:
        self._skeleton = name
        joints = [*skeleton(name).joints]
        parts = ("x", "y", "score") if self.options.space == "2d" else ("x", "y", "z")
        if self.options.space == "3d":
            more = person.keypoints_3d.extremities if person.keypoints_3d is not None else None
            if more is not None:
                self._extremities = skeleton(more.skeleton).joints
            joints += ["root", *self._extremities]
        for extra in self.options.extra:
            found = person.extra[extra]
            self._extra[extra] = [key for key, value in found.items() if value is None or isinstance(value, PLAIN)]
        columns = [*FIXED, *(f"{joint}_{part}" for joint in joints for part in parts)]
        columns += [f"{extra}.{key}" for extra, keys in self._extra.items() for key in keys]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(columns)
        self._write(text.getvalue())

    def _write(self, text: str) -> None:
        try:
            file = self._file.begin()
            file.write(text.encode())
            file.flush()
        except OSError as error:
            path = self.options.path
            raise OutputError(f"{self.context.name}: cannot write to {path}: {error.strerror}") from None


def _cell(value: object) -> str:
    """A number, word or truth; empty where it is not known, or no longer one of these."""
    if isinstance(value, float | np.floating):
        return f"{value:g}" if np.isfinite(value) else ""
    return str(value) if isinstance(value, str | int | np.number) else ""


def _cells(points: NDArray[np.float32] | None, count: int) -> list[str]:
    """Three cells for each of so many joints; empty where a value is not known."""
    if points is None or len(points) != count:
        return [""] * (3 * count)
    return [f"{value:.5f}" if np.isfinite(value) else "" for value in points.ravel().tolist()]
