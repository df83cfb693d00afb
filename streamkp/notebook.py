"""Results as pictures in a notebook."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from streamkp.errors import UsageError
from streamkp.packet import Packet
from streamkp.vision import draw


def show(result: Packet, *, width: int = 960, azimuth: float = 0.0, elevation: float = 12.0) -> Any:
    """Draw a result for a Jupyter notebook: boxes, ids and 2D skeletons over the frame, the 3D poses beside it.

    Args:
        result: a frame of `streamkp.stream`; without an image (a recording) it is drawn on black.
        width: of the picture in pixels.
        azimuth, elevation: from where the 3D poses are seen, degrees; 0, 0 as the camera does.

    Returns:
        An `IPython.display.Image`, a JPEG that a notebook shows where it is the last value of a cell; `.data` has its
        bytes.

    Raises:
        UsageError: IPython is not installed.

    Examples:
        >>> async with streamkp.stream("sample:walk") as results:                       # doctest: +SKIP
        ...     streamkp.show(await anext(results))
    """
    try:
        from IPython.display import Image as NotebookImage
    except ImportError:
        raise UsageError("show draws in a notebook, and IPython is not installed: pip install jupyter") from None
    image = result.image
    if image is None:
        image = np.zeros((result.height, result.width, 3), np.uint8)
    picture = draw.overlay(image, result.persons, result.annotations)
    if any(person.keypoints_3d is not None for person in result.persons):
        side = min(picture.shape[:2])
        panel = np.full((picture.shape[0], side, 3), draw.DARK, np.uint8)
        top = (picture.shape[0] - side) // 2
        panel[top : top + side] = draw.inset(result.persons, side, azimuth, elevation)
        picture = np.concatenate([picture, panel], axis=1).astype(np.uint8, copy=False)
    if picture.shape[1] > width:
        size = width, max(1, round(picture.shape[0] * width / picture.shape[1]))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    make: Any = NotebookImage
    return make(data=data.tobytes(), format="jpeg")
