"""The best and the worst frames of the accuracy page: `python docs/accuracy_pictures.py CALIB REFERENCE VIDEO... OUT`.

Runs the default graph on each view, compares the 3D of every frame with the reference, and draws those with the least
and the largest error of each view with the 3D pose (left) beside the true one as that camera sees it (right).
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.evaluation.multi_camera import calibration, reference
from streamkp.evaluation.multi_camera.evaluate import SKELETON, in_world_time, match_videos, nearest
from streamkp.evaluation.multi_camera.live_views import record
from streamkp.motion import metrics
from streamkp.packet import Keypoints2D, Keypoints3D, Person
from streamkp.vision import draw

HEIGHT = 480  # of each picture


def main(calib: Path, given: Path, videos: list[Path], out: Path) -> None:
    """Write `best-VIEW.jpg` and `worst-VIEW.jpg` to `out`, and print each one's error."""
    cameras = calibration.read(calib)
    truth = reference.read(given)
    for camera in cameras:
        files = match_videos(cameras, videos)
        view = record(files[camera.name], pose="blazepose-full", model="tcn-streamkp")
        frames = len(truth.poses)
        smooth = in_world_time(camera, view, "smooth", frames)
        who = nearest(camera, [skeletons.convert(p, view.skeleton, SKELETON) for p in smooth], truth.poses)
        lifted = reference.picked(in_world_time(camera, view, "lifted", frames), who)
        flat = reference.picked(smooth, who)
        errors = np.full(frames, np.nan)
        for t in range(frames):
            if np.isfinite(lifted[t]).all() and np.isfinite(truth.poses[t]).all():
                errors[t] = metrics.p_mpjpe(lifted[t : t + 1], truth.poses[t : t + 1])
        for name, at in (("best", int(np.nanargmin(errors))), ("worst", int(np.nanargmax(errors)))):
            true = (truth.poses[at] - truth.poses[at][:1]) @ camera.rotation.T
            picture = drawn(frame(files[camera.name], at), view.skeleton, flat[at], lifted[at], true)
            cv2.imwrite(str(out / f"{name}-{camera.name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 82])
            print(f"{camera.name} {name}: frame {at}, {1000 * errors[at]:.0f} mm")


def frame(path: Path, number: int) -> NDArray[np.uint8]:
    """One frame of a video."""
    capture = cv2.VideoCapture(str(path))
    image = None
    for _ in range(number + 1):
        _, image = capture.read()
    capture.release()
    assert image is not None
    return image.astype(np.uint8, copy=False)


def drawn(
    image: NDArray[np.uint8],
    skeleton: str,
    flat: NDArray[np.float32],
    lifted: NDArray[np.float32],
    true: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """The frame with the 2D keypoints, and beside it the lifted and the true pose."""
    low, high = flat[:, :2].min(0), flat[:, :2].max(0)
    box = np.concatenate([low - 20, high - low + 40]).astype(np.float32)
    poses = [Keypoints3D(SKELETON, np.asarray(p - p[:1], np.float32), 0) for p in (lifted, true)]
    person = Person(1, "tracked", box, 1.0, Keypoints2D(skeleton, flat.astype(np.float32)), poses[0])
    other = Person(2, "tracked", box, 1.0, None, poses[1])
    picture = draw.overlay(image, [person])
    picture = cv2.resize(
        picture, (round(image.shape[1] * HEIGHT / image.shape[0]), HEIGHT), interpolation=cv2.INTER_AREA
    )
    panels = [draw.inset([each], HEIGHT, 0.0, 5.0)[:, HEIGHT // 5 : -HEIGHT // 5] for each in (person, other)]
    return np.concatenate([picture, *panels], axis=1).astype(np.uint8, copy=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(p) for p in sys.argv[3:-1]], Path(sys.argv[-1]))
