"""`lift-3d`: 3D keypoints of every person."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from streamkp.errors import StreamkpError
from streamkp.graph.stage import BatchStage, StageOptions
from streamkp.models.lift import lifters
from streamkp.models.lift.base import ASSUMED_HEIGHT, LIVE_BUCKETS, LifterOptions
from streamkp.motion import extremities
from streamkp.motion.camera import Intrinsics
from streamkp.packet import Extremities, FloatArray, Keypoints3D, Packet, Person, WindowRequest
from streamkp.runtimes.base import Device, RunOptions, Runtime

Hands = Mapping[str, FloatArray]  # what `keypoints-parts` finds of hands in space, by side
REMEMBERED = 64  # frames of a track whose hands and feet are kept for a pose that comes later


class Camera(BaseModel):
    """A pinhole camera, in pixels of the source image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    focal: tuple[float, float] = Field(description="Focal length, x and y.")
    centre: tuple[float, float] = Field(description="Principal point, x and y.")


class Lift3D(BatchStage):
    """Lifts the 2D poses of all people of all streams in the batch to 3D in one call."""

    needs = ("keypoints_2d", "window")
    gives = ("keypoints_3d",)

    class Options(StageOptions):
        renamed: ClassVar[Mapping[str, str]] = {"hop": "stride"}

        model: str = Field("blazepose-world", description="Lifter: catalog name, or a checkpoint file.")
        checkpoint: str | None = Field(None, description="Checkpoint file for the network that `model` names.")
        lookahead: int = Field(
            0, ge=0, description="Frames by which a pose comes later, to be better; its frame_seq says which it is."
        )
        stride: int | None = Field(
            None,
            ge=1,
            le=48,
            description="HDFormer networks run every so many rows of the window, and a pose comes stride - 1 rows "
            "later; null: by what it costs.",
        )
        height_m: float | None = Field(
            None,
            ge=0.3,
            le=3.0,
            description="Height of the people in metres, to which their bones are scaled; null: everybody is taken "
            f"to be {ASSUMED_HEIGHT} m tall.",
        )
        cameras: dict[str, Camera] = Field(
            {}, description="Intrinsics by stream; a camera not named is taken to see 53 degrees along its longer side."
        )
        flip: bool | None = Field(
            None, description="Average with the mirrored pose; null: as the network's authors do (HDFormer: true)."
        )
        causal: bool | None = Field(
            None, description="A convolution network trained without later frames; null: as configuration.json says."
        )
        trajectory: bool = Field(
            False, description="Also the position of the pelvis in camera space (*-streamkp, hdformer, tpnet, *-semi*)."
        )
        incremental: bool | None = Field(
            None,
            description="Frame by frame instead of whole windows (convolution networks); null: where it is faster.",
        )
        extremities: bool = Field(
            True,
            description="Also face, hands and feet, where the 2D network has its own estimate in space (BlazePose) and "
            "the lifter has none of them; hands from `keypoints-parts`, where that is above.",
        )
        device: Device = Field("auto", description="Where the network runs; auto is the GPU where it can run there.")
        runtime: Runtime = Field("auto", description="What runs it; auto: openvino on a CPU, torch on CUDA.")
        threads: int = Field(2, ge=1, description="CPU threads of the network; with torch, of the whole process.")

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        lifters.check(options.model)

    @classmethod
    def reads_window(cls, options: Options) -> WindowRequest | None:
        return lifters.window_request(options.model, cls._lifter_options(options))

    @classmethod
    def requires(cls, options: Options) -> Collection[str]:
        return ("keypoints_2d",) if options.model in lifters.WEIGHTLESS else cls.needs

    @classmethod
    def shares_thread(cls, options: Options) -> bool:
        return options.model in lifters.WEIGHTLESS

    def open(self) -> None:
        o = self.options
        self._lifter = lifters.open_lifter(o.model, self._lifter_options(o), memory=self.per_track(lambda: None))
        self._seen = self.per_track(lambda: deque[tuple[int, FloatArray, Hands]](maxlen=REMEMBERED))
        self._played = self.per_track(lambda: deque[Keypoints3D](maxlen=REMEMBERED))

    def close(self) -> None:
        self._lifter.close()

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        try:
            self._lift(batch)
        except StreamkpError:
            self._lift_separately(batch)
        return batch

    def _lift_separately(self, batch: Sequence[Packet]) -> None:
        """Each packet by itself, so that what is wrong with one does not cost the others their 3D."""
        for packet in batch:
            try:
                self._lift([packet])
            except StreamkpError as error:
                self.context.failed(packet, error)

    def _lift(self, batch: Sequence[Packet]) -> None:
        people = [(packet, person) for packet in batch for person in packet.persons]
        if people:
            for (packet, person), keypoints in zip(people, self._lifter.lift(people), strict=True):
                before, person.keypoints_3d = person.keypoints_3d, keypoints
                if self.options.extremities and person.world is None:
                    person.keypoints_3d = self._recorded(packet, person, before, keypoints)
                elif self.options.extremities:
                    person.keypoints_3d = self._completed(packet, person, keypoints)

    def _completed(self, packet: Packet, person: Person, pose: Keypoints3D | None) -> Keypoints3D | None:
        """The pose with the face, hands and feet of its own frame, which may be an older one than the packet."""
        world = person.world
        if world is None or world.skeleton != "blazepose33" or (pose is not None and pose.skeleton != "h36m17"):
            return pose
        seen = self._seen[packet.stream, person.track]
        seen.append((packet.seq, world.points, person.extra.get("hands_world") or {}))
        if pose is None:
            return None
        found = next((each for each in reversed(seen) if each[0] <= pose.frame_seq), None)
        points = None if found is None else extremities.attach(pose.points, found[1], found[2])
        if found is None or points is None:
            return pose
        source = "blazepose-world and hand21" if found[2] else "blazepose-world"
        return replace(pose, extremities=Extremities(extremities.LAYOUT, points, source))

    def _recorded(
        self, packet: Packet, person: Person, before: Keypoints3D | None, pose: Keypoints3D | None
    ) -> Keypoints3D | None:
        """The pose with the extremities of the same frame's pose that came with it, of a recording played again."""
        played = self._played[packet.stream, person.track]
        if before is not None and before.extremities is not None:
            played.append(before)
        if pose is None or pose.skeleton != extremities.TARGET:
            return pose
        found = next((each for each in reversed(played) if each.frame_seq == pose.frame_seq), None)
        if found is None or found.extremities is None or found.skeleton != pose.skeleton:
            return pose
        points = extremities.carry(found.points, found.extremities.points, pose.points)
        return pose if points is None else replace(pose, extremities=replace(found.extremities, points=points))

    @staticmethod
    def _lifter_options(o: Options) -> LifterOptions:
        return LifterOptions(
            checkpoint=o.checkpoint,
            lookahead=o.lookahead,
            stride=o.stride,
            flip=o.flip,
            causal=o.causal,
            trajectory=o.trajectory,
            incremental=o.incremental,
            height_m=o.height_m,
            cameras={stream: Intrinsics(camera.focal, camera.centre) for stream, camera in o.cameras.items()},
            run=RunOptions(o.device, o.runtime, o.threads, buckets=LIVE_BUCKETS),
        )
