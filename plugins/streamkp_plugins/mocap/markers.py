"""The joints of a person by name, y up and above the floor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamkp.plugin import Person, skeleton

Array = NDArray[np.float64]
UP = np.array([1.0, -1.0, -1.0])  # from the camera's axes


def markers(person: Person) -> dict[str, Array]:
    """Where the joints of the lifted pose are, and its extremities: (3,) metres each, x right, y up, z back.

    The person needs `kinematics`, which tells where the hips are.
    """
    pose = person.keypoints_3d
    assert pose is not None
    turn = np.ones(3) if pose.space == "world" else UP
    joints = skeleton(pose.skeleton).joints
    points = np.asarray(pose.points, np.float64) * turn
    places = dict(zip(joints, points, strict=True))
    if pose.extremities is not None:
        more = np.asarray(pose.extremities.points, np.float64) * turn
        places |= dict(zip(skeleton(pose.extremities.skeleton).joints, more, strict=True))
    hips = places["hip"] if "hip" in places else (places["left_hip"] + places["right_hip"]) / 2
    move = np.asarray(person.extra["kinematics"]["hips"], np.float64) - hips
    return {joint: place + move for joint, place in places.items()}
