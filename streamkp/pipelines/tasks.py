"""`streamkp.pipeline`: one call from a file, address or image to keypoints, by the stages of the graphs."""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from streamkp import skeletons
from streamkp.errors import ModelError, UsageError
from streamkp.graph.graph import Graph
from streamkp.hub import catalog
from streamkp.models.lift.base import LifterOptions
from streamkp.models.lift.lifters import WEIGHTLESS
from streamkp.motion.camera import Intrinsics
from streamkp.packet import Packet
from streamkp.pipelines import drawing, results
from streamkp.pipelines.footage import FRAME_RATE, MediaInput, media_input
from streamkp.pipelines.lifting import TrackLifter
from streamkp.pipelines.results import Finder, Persons, Result
from streamkp.pipelines.session import Progress, Session, inherited
from streamkp.runtimes.base import RunOptions
from streamkp.sources.orientation import Rotate


@dataclass(frozen=True)
class Task:
    """`model` is the default one, `persons` who is in the result unless told otherwise, `part` what of each person."""

    model: str
    persons: Persons
    find: Finder
    part: Literal["body", "hands", "face"] = "body"


TASKS = {
    "body-3d-keypoints": Task("tcn-streamkp", "main", results.body_3d),
    "body-2d-keypoints": Task("blazepose-full", "all", results.body_2d),
    "human-wholebody-keypoint": Task("hrnet-w48-wholebody133", "all", results.body_2d),
    "hand-2d-keypoints": Task("hrnet-w18-hand21", "all", results.hands, "hands"),
    "face-2d-keypoints": Task("mobilenetv2-face106", "all", results.faces, "face"),
}
CROWD = 64  # people, where `tiles` says that there may be many
# As in graphs/wholebody.yaml; other bodies take the stage's own defaults.
_SMOOTH_WHOLEBODY = {"min_cutoff": 1.0, "beta": 0.007, "derivative_cutoff": 1.0}


def pipeline(
    task: str,
    model: str | os.PathLike[str] | None = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    pose2d: str = "blazepose-full",
    detector: str | None = "efficientdet-lite0",
    detect_every: int = 10,
    score: float | None = None,
    max_persons: int | None = None,
    tiles: int = 1,
    persons: Persons | None = None,
    smooth: bool = True,
    camera: Intrinsics | None = None,
    flip: bool | None = None,
    causal: bool | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    runtime: Literal["auto", "openvino", "torch"] = "auto",
    threads: int = 2,
    rotate: Rotate = "auto",
    azimuth: float = 0.0,
    elevation: float = 12.0,
) -> Pipeline:
    """A callable that finds keypoints in whatever it is given.

    Args:
        task: `body-3d-keypoints`, `body-2d-keypoints`, `human-wholebody-keypoint`, `hand-2d-keypoints` or
            `face-2d-keypoints`.
        model: catalog name, ModelScope's or MMPose's name for it, or a checkpoint file; by default the task's own.
        checkpoint: file with weights for the network that `model` names.
        pose2d: 2D network of the body: what a 3D network lifts, and what points to hands and faces.
        detector: finds the people; None takes the whole image for one person (or hand).
        detect_every: frames from one detection to the next.
        score: least score of a person, 0..1; None for the default of `detect-person`.
        max_persons: people found and followed at most; None for the defaults of the stages, or 64 with `tiles`. A
            warning is logged where it leaves somebody out.
        tiles: look for people in `tiles` x `tiles` overlapping parts of the image as well, for crowds and people who
            are far away; 2 makes detection five times as expensive.
        persons: "main", the one who covers most of the image over all frames; "prominent", in every frame the one
            of those seen in it who does, so that a row is empty only where nobody is seen; or "all".
        smooth: One-Euro filter over the 2D keypoints of the body.
        camera: intrinsics in pixels, for 3D networks that need them; otherwise a view of 53 degrees is assumed.
        flip: average with the mirrored input; None as the network's authors do.
        causal: the 3D convolution network was trained to see no later frames; None as configuration.json says.
        device, runtime, threads: where and by what `model` runs, and CPU threads.
        rotate: turn the pictures of files and addresses clockwise by 0, 90, 180 or 270 degrees; "auto" as the file
            says. Arrays are taken as they are.
        azimuth, elevation: from where the output video shows 3D poses, degrees; 0, 0 as the camera does.

    Raises:
        UsageError: the task is unknown, the model is for another one, or options do not go together.
        ModelError: the model is unknown.

    Examples:
        >>> body3d = streamkp.pipeline("body-3d-keypoints")                             # doctest: +SKIP
        >>> out = body3d("walking.mp4", output_video="out.mp4")                         # doctest: +SKIP
        >>> out["keypoints"].shape, out["timestamps"][1]                                # doctest: +SKIP
        ((230, 17, 3), '00:00:00.033')
    """
    found = _task(task)
    name = found.model if model is None else os.fspath(model)
    _check_model(task, name)
    if persons not in (None, *get_args(Persons)):
        raise UsageError(f"persons is {' or '.join(get_args(Persons))}, not {persons!r}")
    if detector is None and (score is not None or tiles != 1):
        raise UsageError("score and tiles are options of the detector, and there is none")
    if detector is None and found.part == "face":
        raise UsageError("a face is found through the body: face-2d-keypoints needs a detector")
    file = None if checkpoint is None else os.fspath(checkpoint)
    if name in WEIGHTLESS and (file is not None or causal is not None):
        raise UsageError(f"{name} hands on what {pose2d} gives: it takes no checkpoint and is not causal or otherwise")
    runs: dict[str, Any] = {"device": device, "runtime": runtime, "threads": threads}
    lifter: LifterOptions | None = None
    if task == "body-3d-keypoints" and name not in WEIGHTLESS:
        lifter = LifterOptions(checkpoint=file, flip=flip, causal=causal, run=RunOptions(device, runtime, threads))

    if max_persons is None and tiles > 1:
        max_persons = CROWD
    limit: dict[str, Any] = {} if max_persons is None else {"max_persons": max_persons}
    found_by = limit if score is None else {**limit, "score": score}

    def stages(graph: Graph) -> Graph:
        if detector is not None:
            graph.add("detect", "detect-person", model=detector, every=detect_every, tiles=tiles, **found_by)
        if found.part == "hands" and detector is None:
            return graph.add("keypoints", "keypoints-2d", model=name, checkpoint=file, flip=bool(flip), **limit, **runs)
        if found.part != "body":
            parts = {"hands": None, "face": None, found.part: file or name}
            return graph.add("keypoints", "keypoints-2d", model=pose2d, **limit).add(
                "parts", "keypoints-parts", **parts, **runs
            )
        if task == "body-3d-keypoints":
            graph.add("keypoints", "keypoints-2d", model=pose2d, **limit)
        else:
            graph.add("keypoints", "keypoints-2d", model=name, checkpoint=file, flip=bool(flip), **limit, **runs)
        if smooth:
            graph.add("smooth", "smooth-one-euro", **(_SMOOTH_WHOLEBODY if "wholebody" in task else {}))
        return graph.add("lift", "lift-3d", model=name, device=device) if name in WEIGHTLESS else graph

    session = Session(stages, rotate=rotate)
    session.check()
    find = results.lone_hand if found.part == "hands" and detector is None else found.find
    return Pipeline(
        task,
        name,
        session,
        find,
        persons or found.persons,
        lifter=lifter,
        camera=camera,
        view={"azimuth": azimuth, "elevation": elevation},
    )


class Pipeline:
    """Made by `pipeline`. Models are loaded with the first call and kept; `close`, or `with`, lets go of them.

    May be called from several threads; the calls take turns.
    """

    def __init__(
        self,
        task: str,
        model: str,
        session: Session,
        find: Finder,
        persons: Persons,
        *,
        lifter: LifterOptions | None,
        camera: Intrinsics | None,
        view: dict[str, float],
    ) -> None:
        self.task = task
        self.model = model
        self._session = session
        self._find = find
        self._persons = persons
        self._lifter_options = lifter
        self._camera = camera
        self._lifter: TrackLifter | None = None
        self._view = view
        self._turn = threading.Lock()
        self._process = os.getpid()

    def __call__(
        self,
        given: Any,
        *,
        output_video: str | os.PathLike[str] | None = None,
        fps: float = FRAME_RATE,
        progress: Progress | None = None,
    ) -> Any:
        """Find the keypoints in a video or image.

        Args:
            given: a path or http(s) address of a video or image; an image (height, width, 3) BGR, grey or BGRA; a video
                (frames, height, width, 3) with `fps`; a `cv2.VideoCapture`; or a list of these, for a list of results.
            output_video: .mp4, .mov or .mkv file for the video with the results drawn in; an existing one is replaced.
            fps: frames per second of a video given as an array.
            progress: called with the frames done, and those in all or None, after every frame.

        Returns:
            A dict of float32 arrays under ModelScope's names. T frames, N people (or hands, or faces) in one of them:

            * `body-3d-keypoints`: `keypoints` (T, 17, 3), metres, x right, y down, z away from the camera, pelvis at
              the origin, in the order of Human3.6M.
            * `body-2d-keypoints` and `human-wholebody-keypoint`: `keypoints` (N, K, 2) pixels, `scores` (N, K),
              `boxes` (N, 4) x1, y1, x2, y2.
            * `hand-2d-keypoints`: `keypoints` (N, 21, 3), the third being the score, and `boxes`.
            * `face-2d-keypoints`: `keypoints` (N, 106, 2), `poses` (N, 3) pitch, roll, yaw in radians, and `boxes`;
              with `face-landmarker` `keypoints` (N, 478, 2) and `boxes`.

            For a video these are lists of T such arrays where all persons are asked for, and arrays (T, ...) where it
            is the main or most prominent one (hands and faces: lists either way). Rows of frames in which this person
            is not seen are NaN; `valid`, bool (T,), says which rows are there. With "prominent" `tracks` (T,) says
            whose row it is, -1 for nobody's.
            Besides: `timestamps`, T of hh:mm:ss.mmm (videos and 3D); `incomplete`, the reason why a video could not be
            read to its end, where that is so; `tracks`, the ids that link the persons of one
            frame to those of the next (all persons); `skeleton`, the joint layout; `output_video` where asked for.

        Raises:
            UsageError: the input is of no known kind, or a camera.
            SourceError: nothing of it can be read.
            ModelError: a model cannot be fetched or does not fit, or the network gave NaN.
            OutputError: the video cannot be written.
        """
        if isinstance(given, list | tuple):
            if output_video is not None:
                raise UsageError("a list of inputs has no single output video: call once for each")
            return [self(each, fps=fps, progress=progress) for each in given]
        clip = media_input(given, fps)
        video = None if output_video is None else Path(output_video)
        if video is not None:
            drawing.check(clip, video)
        self._check_process()
        with self._turn:
            packets = self._packets(clip, progress)
        times = results.seconds(packets)
        result = self._result(packets, clip)
        if not _still(packets, clip) or self.task == "body-3d-keypoints":
            result["timestamps"] = results.timestamps(times)
        if clip.incomplete is not None:
            result["incomplete"] = clip.incomplete
        if video is not None:
            drawing.draw(clip, packets, video, self._view)
            result["output_video"] = str(video)
        return result

    def close(self) -> None:
        """Let go of the models."""
        self._check_process()
        with self._turn:
            self._session.close()
            self._lifter = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_process(self) -> None:
        """After a fork the threads of the parent are missing, and its locks may be held for ever: load models anew."""
        if os.getpid() != self._process:
            self._process = os.getpid()
            self._turn = threading.Lock()
            self._session.after_fork()
            if self._lifter is not None:
                inherited.append(self._lifter)
                self._lifter = None

    def _packets(self, clip: MediaInput, progress: Progress | None) -> list[Packet]:
        if self._lifter_options is not None and self._lifter is None:  # before the work on the clip, not after it
            self._lifter = TrackLifter(self.model, self._lifter_options, self._camera)
        packets = []
        for packet in self._session.run(clip, progress):
            packet.image = None  # a video does not fit into memory
            packets.append(packet)
        if self._lifter is not None:
            self._lifter.lift(packets, results.seconds(packets))
        return packets

    def _result(self, packets: list[Packet], clip: MediaInput) -> Result:
        main = results.main_tracks(packets)
        skeleton = self._skeleton(packets, main)
        count = len(skeletons.get(skeleton))
        shapes: dict[str, tuple[int, ...]]
        if self.task == "body-3d-keypoints":
            shapes = {"keypoints": (count, 3)}
        elif self.task == "hand-2d-keypoints":
            shapes = {"keypoints": (count, 3), "boxes": (4,)}
        elif self.task == "face-2d-keypoints":
            poses: dict[str, tuple[int, ...]] = {"poses": (3,)} if skeleton == "face106" else {}
            shapes = {"keypoints": (count, 2), **poses, "boxes": (4,)}
        else:
            shapes = {"keypoints": (count, 2), "scores": (count,), "boxes": (4,)}
        if self._persons == "prominent":
            chosen, tracks = results.prominent(packets)
            if TASKS[self.task].part == "body":
                result = {**results.of_rows(chosen, self._find, shapes), "tracks": tracks}
                result["valid"] = results.valid(result["keypoints"])
            else:
                result = results.per_frame(chosen, self._find, shapes)
        elif self._persons == "main" and TASKS[self.task].part == "body":
            result = results.of_tracks(packets, self._find, shapes, main)
            result["valid"] = results.valid(result["keypoints"])
        else:
            result = results.per_frame(packets, self._find, shapes, None if self._persons == "all" else main)
        if _still(packets, clip) and self.task != "body-3d-keypoints":
            result = {name: values[0] for name, values in result.items()}
        return {**result, "skeleton": skeleton}

    def _skeleton(self, packets: Sequence[Packet], main: frozenset[int]) -> str:
        if self.task == "body-3d-keypoints":
            lifted = any(person.keypoints_3d is not None for packet in packets for person in packet.persons)
            if self._lifter is None and main and not lifted:
                raise UsageError(f"{self.model} hands on the 3D of BlazePose; the 2D network in pose2d gives none")
            return "h36m17"
        if self.task == "hand-2d-keypoints":
            return "hand21"
        if self.task == "face-2d-keypoints":
            return _catalogued(self.model) or "face106"
        seen = {p.keypoints_2d.skeleton for packet in packets for p in packet.persons if p.keypoints_2d is not None}
        return seen.pop() if seen else _catalogued(self.model) or "coco17"


def _still(packets: Sequence[Packet], clip: MediaInput) -> bool:
    return clip.still and len(packets) == 1


def _task(name: str) -> Task:
    try:
        return TASKS[name]
    except KeyError:
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the tasks are {', '.join(TASKS)}"
        raise UsageError(f"there is no task {name!r}; {hint}") from None


def _check_model(task: str, model: str) -> None:
    """Refuse a model of another task and a name that means nothing, before anything is loaded."""
    if model in WEIGHTLESS or Path(model).expanduser().is_file():
        return
    row = catalog.get(model)
    if row.task != task and not (task == "body-3d-keypoints" and model in WEIGHTLESS):
        fitting = [other.name for other in catalog.table().model if other.task == task]
        raise ModelError(f"{model} is a model for {row.task}; those for {task} are {', '.join(fitting)}")


def _catalogued(model: str) -> str | None:
    try:
        return catalog.get(model).skeleton
    except ModelError:
        return None
