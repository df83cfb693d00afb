"""`lift-3d`: 3D keypoints of every person."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from streamkp.errors import UsageError
from streamkp.graph.stage import BatchStage, StageOptions
from streamkp.models.lifters import open_lifter
from streamkp.packet import Packet


class Lift3D(BatchStage):
    """Lifts all people of all streams in the batch to 3D at once."""

    class Options(StageOptions):
        model: str = Field("blazepose-world", description="Lifter: catalog name.")
        lookahead: int = Field(
            0, ge=0, description="Frames by which a pose comes later, to be better; its frame_seq says which it is."
        )
        threads: int = Field(2, ge=1, description="CPU threads of the network.")

    options: Options

    def open(self) -> None:
        o = self.options
        self._lifter = open_lifter(o.model, lookahead=o.lookahead, threads=o.threads)
        if o.lookahead and not self._lifter.frames:
            self._lifter.close()
            raise UsageError(f"{o.model} lifts each frame by itself: lookahead must be 0, not {o.lookahead}")

    def close(self) -> None:
        self._lifter.close()

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        people = [(packet, person) for packet in batch for person in packet.persons]
        if people:
            for (_, person), keypoints in zip(people, self._lifter.lift(people), strict=True):
                person.keypoints_3d = keypoints
        return batch
