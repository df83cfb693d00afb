"""How people usually stand before a camera: means and deviations per Human3.6M joint, left and right alike.

For a lifter whose own statistics are missing. From the CMU motion capture (mocap.cs.cmu.edu) as seen by cameras like
those of Human3.6M: 1.6 m high, 5.2 m from a person who turns any way and moves within 2 m. Mirrored poses count too,
so the means of x are 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def _joints(
    middle: list[tuple[float, ...]], leg: list[tuple[float, ...]], arm: list[tuple[float, ...]]
) -> NDArray[np.float64]:
    """`middle`: hip, spine, thorax, neck, head; `leg`: hip, knee, ankle; `arm`: shoulder, elbow, wrist."""
    return np.array([middle[0], *leg, *leg, *middle[1:], *arm, *arm], np.float64)


# Camera plane, (x - centre) / focal length: [17, 2] each.
MEAN_2D = _joints(
    [(0, 0.010), (0, -0.032), (0, -0.078), (0, -0.113), (0, -0.130)],
    [(0, 0.010), (0, 0.082), (0, 0.152)],
    [(0, -0.087), (0, -0.044), (0, -0.027)],
)
STD_2D = _joints(
    [(0.156, 0.025), (0.157, 0.020), (0.158, 0.015), (0.158, 0.014), (0.159, 0.015)],
    [(0.156, 0.025), (0.156, 0.036), (0.158, 0.049)],
    [(0.161, 0.016), (0.163, 0.030), (0.164, 0.046)],
)
# Camera axes relative to the hip, millimetres: [17, 3] each.
MEAN_3D = _joints(
    [(0, 0, 0), (0, -215, -30), (0, -442, -60), (0, -617, -81), (0, -701, -93)],
    [(0, 0, 0), (0, 374, 53), (0, 738, 93)],
    [(0, -489, -65), (0, -276, -34), (0, -191, -17)],
)
STD_3D = _joints(
    [(0, 0, 0), (28, 13, 29), (51, 31, 51), (72, 44, 70), (86, 53, 81)],
    [(65, 13, 63), (126, 59, 122), (188, 106, 181)],
    [(147, 47, 144), (211, 117, 207), (243, 198, 238)],
)
