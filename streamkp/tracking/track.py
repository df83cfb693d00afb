"""One followed person, and the thresholds by which people are followed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamkp.packet import FloatArray, TrackState
from streamkp.poses import Pose, Region
from streamkp.tracking.box_filter import BoxFilter


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """Thresholds of the tracker. Times are seconds of the source's clock, lengths are sizes of the person.

    The size of a person is the longer side of their box; overlaps are intersection over union, 0..1.

    Attributes:
        max_persons: tracks at most.
        min_score: least presence of a pose, 0..1.
        max_miss: a person unseen for longer is gone.
        max_doubt: a person whom the detector does not confirm for longer, looking twice, was a false detection.
        confirmed_score: least presence of a confirmed person as a share of `min_score`.
        confirm_overlap: overlap of a detection with the track that it confirms.
        same_person: keypoint similarity from which two poses are one person.
        reach: distance at which the closeness of a person just seen is exp(-1/2), and its growth per second unseen.
        min_closeness: least closeness of a person found again, 0..1.
        max_resize: how many times larger or smaller a person found again may be.
        max_jump: how far a pose may be from its prediction, and the growth per second since the last frame.
        min_inside: share of the box in the image below which a person has left.
        min_inside_unseen: the same for a person whom nothing shows any more.
        trial: a track that fails at this age or earlier was a mistake and ends at once.
        strain_memory: share of the last frame's strain that is kept in the next.
        detection_interval: time between detections asked for because somebody is lost.
        convincing_score: presence and score of most joints that background was not seen to reach.
        convincing_patience: how many times `max_doubt` such a person may go unconfirmed.
        predicted_score: score of a predicted person as a share of that of the last pose.
    """

    max_persons: int = 16
    min_score: float = 0.5
    max_miss: float = 1.0
    max_doubt: float = 0.6
    confirmed_score: float = 0.5
    confirm_overlap: float = 0.2
    same_person: float = 0.5
    reach: tuple[float, float] = (0.25, 0.5)
    min_closeness: float = 0.1
    max_resize: float = 2.5
    max_jump: tuple[float, float] = (0.35, 3.0)
    min_inside: float = 0.1
    min_inside_unseen: float = 0.4
    trial: float = 0.3
    strain_memory: float = 0.7
    detection_interval: float = 0.1
    convincing_score: float = 0.9
    convincing_patience: float = 5.0
    predicted_score: float = 0.3


@dataclass(slots=True, eq=False)
class Track:
    """One person. `box` (4,) and `pose` are those of this frame, in source pixels; predicted ones when unseen."""

    id: int
    pose: Pose
    box: FloatArray
    state: TrackState
    motion: BoxFilter
    born: int  # pts of the first frame
    seen: int  # pts of the last frame with a pose
    agreed: int  # pts of the last frame in which the detector found this person
    doubts: int = 0  # detections since then that did not
    doubted: int = 0  # pts of the first of them
    strain: float = 0.0  # recent distance between pose and prediction, in sizes
    last: Pose = field(init=False)  # the last one seen, and where the filter saw its centre
    last_centre: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.pose
        self.last_centre = self.motion.centre

    @property
    def unseen(self) -> bool:
        """Whether this frame shows no pose of this person."""
        return self.state == "predicted"

    @property
    def moved(self) -> NDArray[np.float64]:
        """How far the person is predicted to have moved since the last pose, (2,) in pixels."""
        return self.motion.centre - self.last_centre

    @property
    def region(self) -> Region:
        """Where to look for the person: the region that the last pose gave, moved on if they are unseen."""
        region = self.last.next_region.copy()
        if self.unseen:
            region[:2] += self.moved
        return region

    def confirm(self, pts: int) -> None:
        """The detector found this person at `pts`."""
        self.agreed, self.doubts = pts, 0

    def doubt(self, pts: int) -> None:
        """The detector looked at `pts` and did not find this person."""
        self.doubted = self.doubted if self.doubts else pts
        self.doubts += 1

    def see(self, pose: Pose, box: FloatArray, strain: float, pts: int) -> None:
        """Take in the pose of the frame at `pts`."""
        self.motion.update(box)
        self.pose = self.last = pose
        self.last_centre = self.motion.centre
        self.box, self.strain, self.seen, self.state = box, strain, pts, "tracked"

    def miss(self, detected: FloatArray | None, score: float) -> None:
        """No pose in this frame; `detected` is the detector's box (4,), `score` the share of the last scores left."""
        self.state = "predicted"
        self.strain = 1.0  # who is found again must give way to those who were never lost
        if detected is not None:  # hidden in part: the detector knows the place, the network not the pose
            self.motion.update(detected)
        self.box = self.motion.box
        points = self.last.points.copy()
        points[:, :2] += self.moved
        points[:, 2] *= score
        self.pose = Pose(points, self.last.presence * score, self.region)
