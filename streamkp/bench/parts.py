"""CPU time of the parts of a graph, each alone on frames of the clip, in milliseconds per frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from streamkp.graph.spec import GraphSpec
from streamkp.models.registry import open_detector, open_estimator
from streamkp.packet import Image
from streamkp.poses import Region
from streamkp.vision.crop import crop

FRAMES = 60  # enough for a steady mean
CROP = 256  # pixels; the side that BlazePose looks at


def run(graph: GraphSpec, clip: str, total_ms: float) -> dict[str, float]:
    """CPU milliseconds a frame of decode, convert, detect, crop and infer, and what is left of `total_ms`.

    Detection counts with the share of frames it runs on; crop and infer are for one person.
    """
    detect = next(stage.options for stage in graph.stages if stage.use == "detect-person")
    keypoints = next(stage.options for stage in graph.stages if stage.use == "keypoints-2d")
    frames = list(_frames(clip))
    convert = VideoReformatter()
    images = [bgr(convert, frame) for frame in frames]
    height, width = images[0].shape[:2]
    region = np.array((width / 2, height / 2, height * 0.8, height * 0.8, 0.1), np.float32)
    out = np.empty((CROP, CROP, 3), np.uint8)

    detector = open_detector(detect.model, threads=detect.threads)  # type: ignore[attr-defined]
    estimator = open_estimator(keypoints.model, threads=keypoints.threads)  # type: ignore[attr-defined]
    parts = {
        "decode": _cpu_ms(lambda: sum(1 for _ in _frames(clip))),
        "convert to BGR": _cpu_ms(lambda: [bgr(convert, frame) for frame in frames]),
        "detect": _cpu_ms(lambda: [detector.detect([image]) for image in images[:20]], 20) / detect.every,  # type: ignore[attr-defined]
    }
    parts["crop"] = _cpu_ms(lambda: _crops(images, region, out))
    parts["infer"] = _cpu_ms(lambda: [estimator.estimate([(image, region)]) for image in images]) - parts["crop"]
    detector.close()
    estimator.close()
    parts["python and the rest"] = max(total_ms - sum(parts.values()), 0.0)
    return parts


def bgr(convert: VideoReformatter, frame: av.VideoFrame) -> Image:
    """The pixels of a frame, converted by one thread as `decode` does it."""
    return np.asarray(convert.reformat(frame, format="bgr24", threads=1).to_ndarray(), np.uint8)


def _crops(images: list[Image], region: Region, out: Image) -> None:
    for image in images:
        crop(image, region, out)


def _frames(clip: str) -> Iterator[av.VideoFrame]:
    with av.open(clip) as container:
        yield from islice(container.decode(video=0), FRAMES)


def _cpu_ms(work: Callable[[], object], count: int = FRAMES) -> float:
    work()  # warm
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1e3 / count
