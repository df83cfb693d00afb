"""`lift-3d`: 3D keypoints of every person."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydantic import BaseModel, ConfigDict, Field

from streamkp.errors import StreamkpError
from streamkp.graph.stage import BatchStage, StageOptions
from streamkp.models.lift import lifters
from streamkp.models.lift.lifters import open_lifter
from streamkp.motion.camera import Intrinsics
from streamkp.packet import Packet
from streamkp.runtimes.torch import Device, Runtime


class Camera(BaseModel):
    """A pinhole camera, in pixels of the source image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    focal: tuple[float, float] = Field(description="Focal length, x and y.")
    centre: tuple[float, float] = Field(description="Principal point, x and y.")


class Lift3D(BatchStage):
    """Lifts all people of all streams in the batch to 3D at once."""

    needs = ("keypoints_2d", "window")
    gives = ("keypoints_3d",)

    class Options(StageOptions):
        model: str = Field("blazepose-world", description="Lifter: catalog name, or a checkpoint file.")
        checkpoint: str | None = Field(None, description="Checkpoint file for the network that `model` names.")
        lookahead: int = Field(
            0, ge=0, description="Frames by which a pose comes later, to be better; its frame_seq says which it is."
        )
        hop: int | None = Field(
            None,
            ge=1,
            le=48,
            description="HDFormer networks run every so many rows of the window, and a pose comes hop - 1 rows later; "
            "null: by what it costs.",
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
        trajectory: bool = Field(False, description="Also where the pelvis is in space (hdformer*, tpnet, *-semi*).")
        incremental: bool | None = Field(
            None,
            description="Frame by frame instead of whole windows (convolution networks); null: where it is faster.",
        )
        device: Device = Field("auto", description="Where the network runs; auto: CUDA where there is one.")
        runtime: Runtime = Field("auto", description="What runs it; auto: openvino on a CPU, torch on CUDA.")
        threads: int = Field(2, ge=1, description="CPU threads of the network; with torch, of the whole process.")

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        lifters.check(options.model)

    @classmethod
    def requires(cls, options: Options) -> Collection[str]:
        return ("keypoints_2d",) if options.model in lifters.LIFTERS else cls.needs

    def open(self) -> None:
        o = self.options
        self._lifter = open_lifter(
            o.model,
            checkpoint=o.checkpoint,
            lookahead=o.lookahead,
            hop=o.hop,
            threads=o.threads,
            device=o.device,
            runtime=o.runtime,
            flip=o.flip,
            causal=o.causal,
            trajectory=o.trajectory,
            incremental=o.incremental,
            memory=self.per_track(lambda: None),
            cameras={stream: Intrinsics(camera.focal, camera.centre) for stream, camera in o.cameras.items()},
        )

    def close(self) -> None:
        self._lifter.close()

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        try:
            self._lift(batch)
        except StreamkpError:
            self._lift_apart(batch)
        return batch

    def _lift_apart(self, batch: Sequence[Packet]) -> None:
        """Each packet by itself, so that what is wrong with one does not cost the others their 3D."""
        for packet in batch:
            try:
                self._lift([packet])
            except StreamkpError as error:
                self.context.failed(packet, error)

    def _lift(self, batch: Sequence[Packet]) -> None:
        people = [(packet, person) for packet in batch for person in packet.persons]
        if people:
            for (_, person), keypoints in zip(people, self._lifter.lift(people), strict=True):
                person.keypoints_3d = keypoints
