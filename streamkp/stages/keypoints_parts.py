"""`keypoints-parts`: the hands and the face of every person, from crops that the body's keypoints point to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.graph.stage import LIVE, BatchStage, StageOptions
from streamkp.models import registry
from streamkp.models.pose2d.face106 import Face106Estimator
from streamkp.models.registry import PoseEstimator, open_estimator
from streamkp.packet import FloatArray, Image, Packet, Person
from streamkp.poses import Region
from streamkp.runtimes.base import Device, Precision, Runtime, Threads
from streamkp.vision.body_parts import Side, face_region, hand_box, has_face, has_hands

SIDES: tuple[Side, Side] = ("left", "right")


@dataclass(slots=True)
class _Hand:
    person: Person
    side: Side
    image: Image
    region: Region


@dataclass(slots=True)
class _Face:
    person: Person
    image: Image
    region: Region


class KeypointsParts(BatchStage):
    """Finds the joints of hands and the points of faces, batched over all people of all streams.

    Adds to every person on whom they are found (`Person.extra`, and so to what is published):

    * `hands`: `left` and `right`, the person's own, each float32 (21, 3): x, y in source pixels, score; in the order
      of the skeleton `hand21`. A hand that the body's keypoints do not point to is absent.
    * `face`: `points`, float32 (106, 3) as above, in the order of `face106`, every score being 1 since the network
      gives none; `angles`, float32 (3,), pitch, roll and yaw of the head in radians within its upright crop; `turn`,
      the angle in radians by which that crop was turned, clockwise on the screen.

    Works with every skeleton that has wrists and elbows, or eyes and nose. People who are only predicted, and frames
    without an image, pass unchanged.
    """

    needs = ("image", "keypoints_2d")
    gives = ("hands", "face")

    class Options(StageOptions):
        hands: str | None = Field("hrnet-w18-hand21", description="Hand network: catalog name or file; null for none.")
        face: str | None = Field(
            "mobilenetv2-face106", description="Face network of 106 points: catalog name or file; null for none."
        )
        min_score: float = Field(
            0.3, ge=0, le=1, description="Least score of the joints that point to a part.", json_schema_extra=LIVE
        )
        refine: int = Field(
            2,
            ge=0,
            le=6,
            description="Further looks at each face, around the points found; the authors take 6.",
            json_schema_extra=LIVE,
        )
        device: Device = Field("auto", description="Where the networks run.")
        runtime: Runtime = Field("auto", description="What runs the networks.")
        precision: Precision = Field("f32", description="Arithmetic of the networks.")
        threads: Threads = Field("auto", description="CPU threads of the networks; auto is all, for several crops.")

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        for model in filter(None, (options.hands, options.face)):
            registry.check(model, registry.KEYPOINTS)

    def open(self) -> None:
        o = self.options
        self._hands: PoseEstimator | None = None
        self._face: Face106Estimator | None = None
        try:
            if o.hands is not None:
                self._hands = self._opened(o.hands, "hand21")
            if o.face is not None:
                face = self._opened(o.face, "face106")
                assert isinstance(face, Face106Estimator)
                self._face = face
        except BaseException:
            self.close()
            raise

    def _opened(self, model: str, skeleton: str) -> PoseEstimator:
        o = self.options
        estimator = open_estimator(model, threads=o.threads, precision=o.precision, device=o.device, runtime=o.runtime)
        if estimator.skeleton != skeleton:
            estimator.close()
            raise UsageError(f"{model} finds {estimator.skeleton}; a network that finds {skeleton} is needed here")
        return estimator

    def close(self) -> None:
        for estimator in (self._hands, self._face):
            if estimator is not None:
                estimator.close()

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        hands: list[_Hand] = []
        faces: list[_Face] = []
        for packet in batch:
            for person in packet.persons:
                if person.state != "predicted" and (image := packet.image) is not None:
                    hands += self._hands_of(person, image)
                    faces += self._face_of(person, image)
        self._see_hands(hands)
        self._see_faces(faces)
        return batch

    def _hands_of(self, person: Person, image: Image) -> list[_Hand]:
        if self._hands is None or person.keypoints_2d is None:
            return []
        skeleton = skeletons.get(person.keypoints_2d.skeleton)
        if not has_hands(skeleton):
            raise UsageError(f"{skeleton.name} has no wrists and elbows to find hands by: set hands to null")
        found = []
        for side in SIDES:
            box = hand_box(person.keypoints_2d.points, skeleton, side, self.options.min_score)
            if box is not None and _touches(box, image):
                found.append(_Hand(person, side, image, self._hands.region_from_box(box)))
        return found

    def _face_of(self, person: Person, image: Image) -> list[_Face]:
        if self._face is None or person.keypoints_2d is None:
            return []
        skeleton = skeletons.get(person.keypoints_2d.skeleton)
        if not has_face(skeleton):
            raise UsageError(f"{skeleton.name} has no eyes and nose to find a face by: set face to null")
        region = face_region(person.keypoints_2d.points, skeleton, self.options.min_score)
        if region is None or not _touches(_bounds(region), image):
            return []
        return [_Face(person, image, region)]

    def _see_hands(self, hands: Sequence[_Hand]) -> None:
        if self._hands is None or not hands:
            return
        poses = self._hands.estimate([(hand.image, hand.region) for hand in hands])
        for hand, pose in zip(hands, poses, strict=True):
            hand.person.extra.setdefault("hands", {})[hand.side] = pose.points

    def _see_faces(self, faces: Sequence[_Face]) -> None:
        if self._face is None or not faces:
            return
        for _ in range(self.options.refine):
            for face, pose in zip(faces, self._face.faces([(f.image, f.region) for f in faces]), strict=True):
                face.region = pose.next_region
        for face, pose in zip(faces, self._face.faces([(f.image, f.region) for f in faces]), strict=True):
            face.person.extra["face"] = {"points": pose.points, "angles": pose.angles, "turn": pose.turn}


def _bounds(region: Region) -> FloatArray:
    box: FloatArray = region[[0, 1, 2, 3]].copy()
    box[:2] -= box[2:] / 2
    return box


def _touches(box: FloatArray, image: Image) -> bool:
    """Whether any of a box (4,) lies in the image."""
    x, y, w, h = (float(v) for v in box)
    return x < image.shape[1] and y < image.shape[0] and x + w > 0 and y + h > 0
