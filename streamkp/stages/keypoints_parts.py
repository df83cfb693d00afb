"""`keypoints-parts`: the hands and the face of every person, from crops that the body's keypoints point to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from pydantic import Field

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.graph.stage import LIVE, BatchStage, StageOptions
from streamkp.models import registry
from streamkp.models.detect.palm import PalmDetector
from streamkp.models.pose2d.face106 import Face106Estimator, FacePose
from streamkp.models.pose2d.face_landmarker import FaceEstimator, MeshPose
from streamkp.models.pose2d.hand_landmarker import HandPose
from streamkp.models.registry import PoseEstimator, open_estimator
from streamkp.packet import FloatArray, Image, Packet, Person
from streamkp.poses import Pose, Region
from streamkp.runtimes.base import Device, Precision, Runtime, Threads
from streamkp.skeletons import Skeleton
from streamkp.vision.body_parts import Side, face_region, hand_box, hand_square, has_face, has_hands

SIDES: tuple[Side, Side] = ("left", "right")
Part = Literal["left", "right", "face"]

_MESH_PER_HEAD = 1.7  # the square around a face for the mesh, against the head's width
_STRAYED = 0.5  # of its square's side: how far the part of the body that holds it may be from the middle
_OWN_REACH = 0.5  # of the longer side of the box around a person: how far beyond it a hand of theirs may be
_ONE_HAND = 0.25  # of the smaller square's side: two hands nearer than this are one


@dataclass(slots=True)
class _Look:
    """A part of a person that is looked for in a region of the image."""

    stream: str
    person: Person
    part: Part
    image: Image
    region: Region
    fresh: bool = True  # the body points to it; otherwise it is where it was last
    free: bool = False  # found without the body, which may have its wrist elsewhere
    pose: Pose | None = None


@dataclass(slots=True)
class _Followed:
    """Where a part of a person will be looked for next."""

    region: Region
    free: bool


@dataclass(slots=True)
class _Palms:
    """When the hands of a stream's people were last looked for in the whole image."""

    frames: int | None = None  # since then; None: never


class KeypointsParts(BatchStage):
    """Finds the joints of hands and the points of faces, batched over all people of all streams.

    Adds to every person on whom they are found (`Person.extra`, and so to what is published):

    * `hands`: `left` and `right`, the person's own, each float32 (21, 3): x, y in source pixels, score; in the order
      of the skeleton `hand21`. A hand that the body's keypoints do not point to is absent.
    * with `hand-landmarker` also, by side: `hands_world`, float32 (21, 3), metres in the camera's axes about the middle
      of the hand; `hands_depth`, float32 (21,), pixels away from the camera, the wrist at 0; `handedness`, how sure
      the network is, 0..1, that it is the hand of this side.
    * `face`: `skeleton`, and `points`, float32 (K, 3) as above in its order. With `face-landmarker` (`face478`) also
      `depth`, float32 (478,), pixels away from the camera, and `blendshapes`, 0..1 by ARKit's names. With
      `mobilenetv2-face106` every score is 1 since the network gives none; `angles`, float32 (3,), pitch, roll and yaw
      of the head in radians within its upright crop; `turn`, the angle in radians by which that crop was turned,
      clockwise on the screen.

    The networks of MediaPipe say whether there is a hand or a face: what is found is followed from frame to frame by
    its own points, until it is no longer there, or no longer where the body has it. The others look where the body
    points in every frame. While somebody lacks a hand, `palms` looks for hands in the whole image now and then: arms
    that are cut off by the picture, or before the body, are often seen wrongly. Such a hand goes to the nearest person
    who lacks one of its side.

    Works with every skeleton that has wrists and elbows, or eyes and nose. People who are only predicted, and frames
    without an image, pass unchanged.
    """

    needs = ("image", "keypoints_2d")
    gives = ("hands", "face")

    class Options(StageOptions):
        hands: str | None = Field("hand-landmarker", description="Hand network: catalog name or file; null for none.")
        face: str | None = Field("face-landmarker", description="Face network: catalog name or file; null for none.")
        palms: str | None = Field(
            "palm-detector",
            description="Finds hands that the body does not point to, for hand-landmarker; null for none.",
        )
        palms_every: int = Field(
            10, ge=1, description="Frames from one look at the whole image to the next.", json_schema_extra=LIVE
        )
        min_score: float = Field(
            0.3, ge=0, le=1, description="Least score of the joints that point to a part.", json_schema_extra=LIVE
        )
        min_presence: float = Field(
            0.5,
            ge=0,
            le=1,
            description="Least presence of a hand or face, where the network tells.",
            json_schema_extra=LIVE,
        )
        refine: int = Field(
            2,
            ge=0,
            le=6,
            description="Further looks at each face of 106 points, around those found; the authors take 6.",
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
        if options.hands is not None and options.palms is not None:
            registry.check(options.palms, registry.HANDS)

    def open(self) -> None:
        o = self.options
        self._hands: PoseEstimator | None = None
        self._face: PoseEstimator | None = None
        self._detector: PalmDetector | None = None
        self._followed = self.per_track(dict[Part, _Followed])
        self._palms = self.per_stream(_Palms)
        try:
            if o.hands is not None:
                self._hands = self._opened(o.hands, "hand21")
                if o.palms is not None and _follows(self._hands):
                    self._detector = registry.open_hand_detector(o.palms, threads=1)
            if o.face is not None:
                self._face = self._opened(o.face, "face478", "face106")
        except BaseException:
            self.close()
            raise
        # Who is followed depends on the frames before, but not on who else is in the batch.
        used = [estimator for estimator in (self._hands, self._face) if estimator is not None]
        self.batch_independent = all(getattr(estimator, "batch_independent", False) for estimator in used)

    def _opened(self, model: str, *known: str) -> PoseEstimator:
        o = self.options
        estimator = open_estimator(model, threads=o.threads, precision=o.precision, device=o.device, runtime=o.runtime)
        if estimator.skeleton not in known:
            estimator.close()
            raise UsageError(
                f"{model} finds {estimator.skeleton}; a network that finds {' or '.join(known)} is needed here"
            )
        return estimator

    def close(self) -> None:
        for network in (self._hands, self._face, self._detector):
            if network is not None:
                network.close()

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        hands: list[_Look] = []
        faces: list[_Look] = []
        for packet in batch:
            for person in packet.persons:
                if person.state != "predicted" and (image := packet.image) is not None:
                    hands += self._hands_of(packet.stream, person, image)
                    faces += self._face_of(packet.stream, person, image)
        self._see_hands(hands)
        if self._detector is not None:
            self._see_more_hands(self._detector, batch)
        self._see_faces(faces)
        return batch

    # --- where to look ---

    def _hands_of(self, stream: str, person: Person, image: Image) -> list[_Look]:
        if self._hands is None or person.keypoints_2d is None:
            return []
        skeleton, points = skeletons.get(person.keypoints_2d.skeleton), person.keypoints_2d.points
        if not has_hands(skeleton):
            raise UsageError(f"{skeleton.name} has no wrists and elbows to find hands by: set hands to null")
        found = []
        for side in SIDES:
            pointed: Region | None = None
            if _follows(self._hands):
                pointed = hand_square(points, skeleton, side, self.options.min_score)
            elif (box := hand_box(points, skeleton, side, self.options.min_score)) is not None:
                pointed = self._hands.region_from_box(box)
            wrist = points[skeleton.index(f"{side}_wrist")]
            found += self._look(stream, person, side, image, pointed, wrist)
        return found

    def _face_of(self, stream: str, person: Person, image: Image) -> list[_Look]:
        if self._face is None or person.keypoints_2d is None:
            return []
        skeleton, points = skeletons.get(person.keypoints_2d.skeleton), person.keypoints_2d.points
        if not has_face(skeleton):
            raise UsageError(f"{skeleton.name} has no eyes and nose to find a face by: set face to null")
        pointed = face_region(points, skeleton, self.options.min_score)
        if pointed is not None and _follows(self._face):
            pointed[2:4] *= _MESH_PER_HEAD
        return self._look(stream, person, "face", image, pointed, _between_eyes(points, skeleton))

    def _look(
        self, stream: str, person: Person, part: Part, image: Image, pointed: Region | None, holder: FloatArray
    ) -> list[_Look]:
        """Where the part was, if it can still be there, else where the body points. `holder` is (3,): x, y, score."""
        last = self._followed.get((stream, person.track), {}).get(part)
        free = False
        if last is not None and holder[2] >= self.options.min_score:
            away = np.hypot(*(holder[:2] - last.region[:2])) > _STRAYED * last.region[2]
            free = last.free and away and _in_reach(person, last.region[:2])
            if away and not free:
                last = None
        region = pointed if last is None else last.region
        if region is None or not _touches(_bounds(region), image):
            return []
        return [_Look(stream, person, part, image, region, last is None, free)]

    # --- looking ---

    def _see_hands(self, looks: Sequence[_Look]) -> None:
        if self._hands is None or not looks:
            return
        if not _follows(self._hands):
            self._estimate(self._hands, looks)
            for look in looks:
                assert look.pose is not None
                look.person.extra.setdefault("hands", {})[look.part] = look.pose.points
            return
        self._follow(self._hands, looks)
        for look in _without_twins(looks):
            _add_hand(look)
        self._remember(looks)

    def _see_more_hands(self, detector: PalmDetector, batch: Sequence[Packet]) -> None:
        """Hands that the body does not point to, of people who lack one, now and then."""
        looks: list[_Look] = []
        for packet in batch:
            palms = self._palms[packet.stream]
            palms.frames = None if palms.frames is None else palms.frames + 1
            people = [person for person in packet.persons if person.state != "predicted"]
            lacking = [person for person in people if len(person.extra.get("hands", {})) < len(SIDES)]
            due = palms.frames is None or palms.frames >= self.options.palms_every
            if not lacking or not due or (image := packet.image) is None:
                continue
            palms.frames = 0
            known = [hand for person in people for hand in person.extra.get("hands", {}).values()]
            for region in detector.hands(image):
                middles = [np.hypot(*(hand[:, :2].mean(axis=0) - region[:2])) for hand in known]
                near = [person for person in lacking if _in_reach(person, region[:2])]
                if near and not any(middle < _ONE_HAND * region[2] for middle in middles):
                    owner = min(near, key=lambda person: _apart(person, region))
                    looks.append(_Look(packet.stream, owner, "left", image, region, free=True))
        if not looks:
            return
        assert self._hands is not None
        self._follow(self._hands, looks)
        for look in looks:
            if look.pose is not None:
                look.part = "left" if cast(HandPose, look.pose).left >= 0.5 else "right"
                if look.part in look.person.extra.get("hands", {}):
                    look.pose = None  # nobody has two of a side
                else:
                    _add_hand(look)
        self._remember([look for look in looks if look.pose is not None])

    def _see_faces(self, looks: Sequence[_Look]) -> None:
        if self._face is None or not looks:
            return
        if isinstance(self._face, FaceEstimator):
            self._follow(self._face, looks)
            seen = [(look, cast(MeshPose, look.pose)) for look in looks if look.pose is not None]
            expressions = self._face.blendshapes([pose.points for _, pose in seen])
            for (look, pose), shapes in zip(seen, expressions, strict=True):
                face = {"skeleton": self._face.skeleton, "points": pose.points, "depth": pose.depth}
                if shapes:
                    face["blendshapes"] = {name: round(value, 4) for name, value in shapes.items()}
                look.person.extra["face"] = face
            self._remember(looks)
            return
        assert isinstance(self._face, Face106Estimator)
        for _ in range(self.options.refine):
            self._estimate(self._face, looks)
            for look in looks:
                assert look.pose is not None
                look.region = look.pose.next_region
        self._estimate(self._face, looks)
        for look in looks:
            pose106 = cast(FacePose, look.pose)
            look.person.extra["face"] = {
                "skeleton": self._face.skeleton,
                "points": pose106.points,
                "angles": pose106.angles,
                "turn": pose106.turn,
            }

    @staticmethod
    def _estimate(estimator: PoseEstimator, looks: Sequence[_Look]) -> None:
        poses = estimator.estimate([(look.image, look.region) for look in looks])
        for look, pose in zip(looks, poses, strict=True):
            look.pose = pose

    def _follow(self, estimator: PoseEstimator, looks: Sequence[_Look]) -> None:
        """Look; at what is new twice, around the points found first; what is not there has no pose."""
        self._estimate(estimator, looks)
        self._drop_absent(looks)
        again = [look for look in looks if look.fresh and look.pose is not None]
        for look in again:
            assert look.pose is not None
            look.region = look.pose.next_region
        if again:
            self._estimate(estimator, again)
            self._drop_absent(again)

    def _drop_absent(self, looks: Sequence[_Look]) -> None:
        for look in looks:
            if look.pose is not None and look.pose.presence < self.options.min_presence:
                look.pose = None

    def _remember(self, looks: Sequence[_Look]) -> None:
        for look in looks:
            followed = self._followed[look.stream, look.person.track]
            if look.pose is not None:
                followed[look.part] = _Followed(look.pose.next_region, look.free)
            else:
                followed.pop(look.part, None)


def _follows(estimator: PoseEstimator) -> bool:
    """Whether it says if there is a hand or a face, and where it will be next."""
    return getattr(estimator, "follows", False)


def _add_hand(look: _Look) -> None:
    """Put a hand that was found on its person."""
    pose = cast(HandPose, look.pose)
    for name, value in (
        ("hands", pose.points),
        ("hands_world", pose.world),
        ("hands_depth", pose.depth),
        ("handedness", round(_own_side(look), 3)),
    ):
        look.person.extra.setdefault(name, {})[look.part] = value


def _in_reach(person: Person, place: FloatArray) -> bool:
    """Whether a hand at that place may be this person's."""
    low, size = person.box[:2], person.box[2:]
    margin = _OWN_REACH * float(size.max())
    return bool(((place >= low - margin) & (place <= low + size + margin)).all())


def _apart(person: Person, region: Region) -> float:
    """How far a hand is from the middle of a person, in sizes of the person."""
    away = region[:2] - person.box[:2] - person.box[2:] / 2
    return float(np.hypot(*away)) / max(float(person.box[2:].max()), 1.0)


def _own_side(look: _Look) -> float:
    """How sure the network is that it is the hand of the side on which the body has it."""
    left = cast(HandPose, look.pose).left
    return left if look.part == "left" else 1 - left


def _without_twins(looks: Sequence[_Look]) -> list[_Look]:
    """The hands that were found. Of two looks of one person at the same hand the likelier side keeps it."""
    seen: dict[int, _Look] = {}
    for look in looks:
        if look.pose is None:
            continue
        other = seen.get(id(look.person))
        if other is not None and other.pose is not None:
            near = float(np.linalg.norm(look.pose.points[:, :2] - other.pose.points[:, :2], axis=1).mean())
            if near < _ONE_HAND * min(float(look.pose.next_region[2]), float(other.pose.next_region[2])):
                (other if _own_side(look) > _own_side(other) else look).pose = None
        seen[id(look.person)] = look
    return [look for look in looks if look.pose is not None]


def _between_eyes(points: FloatArray, skeleton: Skeleton) -> FloatArray:
    eyes = points[[skeleton.index("left_eye"), skeleton.index("right_eye")]]
    return np.array((*eyes[:, :2].mean(axis=0), eyes[:, 2].min()), np.float32)


def _bounds(region: Region) -> FloatArray:
    box: FloatArray = region[[0, 1, 2, 3]].copy()
    box[:2] -= box[2:] / 2
    return box


def _touches(box: FloatArray, image: Image) -> bool:
    """Whether any of a box (4,) lies in the image."""
    x, y, w, h = (float(v) for v in box)
    return x < image.shape[1] and y < image.shape[0] and x + w > 0 and y + h > 0
