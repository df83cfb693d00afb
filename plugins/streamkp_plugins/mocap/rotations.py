"""Quaternions (x, y, z, w) and rotation matrices, for single rotations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])


def length(vector: NDArray[Any]) -> float:
    """Of a single vector; several times as fast as numpy's norm."""
    return math.sqrt(float(vector @ vector))


def cross(a: NDArray[Any], b: NDArray[Any]) -> Array:
    """The cross product of two single vectors (3,); several times as fast as numpy's."""
    ax, ay, az = a.tolist()
    bx, by, bz = b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def unit(vector: NDArray[Any]) -> Array:
    """The vector with length 1; zero stays zero."""
    size = length(vector)
    return np.asarray(vector / size if size > 1e-9 else np.zeros_like(vector, dtype=np.float64))


def frame(primary: NDArray[Any], secondary: NDArray[Any]) -> Array:
    """Columns: the primary direction, the secondary one made orthogonal to it, and their cross product."""
    a = unit(primary)
    b = unit(secondary - a * float(a @ secondary))
    return np.stack([a, b, cross(a, b)], axis=1)


def swing(before: NDArray[Any], after: NDArray[Any]) -> Array:
    """The smallest rotation matrix that turns one direction into another."""
    a, b = unit(before), unit(after)
    axis, cosine = cross(a, b), float(a @ b)
    if cosine < -0.999999:  # the opposite: about any axis across
        axis = unit(cross(a, np.array([1.0, 0.0, 0.0] if abs(a[0]) < 0.9 else [0.0, 1.0, 0.0])))
        return np.asarray(2 * np.outer(axis, axis) - np.eye(3))
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + skew + skew @ skew / (1 + cosine))


def quaternion(matrix: NDArray[Any]) -> Array:
    """Of a rotation matrix, w >= 0 (Shepperd's method: the largest of the four terms is divided by)."""
    m = matrix
    trace = float(np.trace(m))
    terms = [m[0, 0], m[1, 1], m[2, 2], trace]
    k = int(np.argmax(terms))
    if k == 3:
        q = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + trace])
    else:
        i, j, n = k, (k + 1) % 3, (k + 2) % 3
        q = np.zeros(4)
        q[i] = 1 + 2 * m[i, i] - trace
        q[j], q[n] = m[j, i] + m[i, j], m[n, i] + m[i, n]
        q[3] = m[n, j] - m[j, n]
    return unit(-q if q[3] < 0 else q)


def matrix(q: NDArray[Any]) -> Array:
    """Of a quaternion."""
    x, y, z, w = (float(value) for value in unit(q))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def twist_about(rotation: NDArray[Any], axis: NDArray[Any]) -> float:
    """The angle, radians, of a rotation's part about an axis (swing-twist decomposition)."""
    q = quaternion(rotation)
    return float(2 * np.arctan2(q[:3] @ axis, q[3]))


def about(axis: NDArray[Any], angle: float) -> Array:
    """The rotation matrix about an axis by an angle in radians."""
    return matrix(np.append(unit(axis) * np.sin(angle / 2), np.cos(angle / 2)))


def part(rotation: NDArray[Any], share: float) -> Array:
    """The rotation matrix about the same axis by a share of the angle, 0 to 1."""
    q = quaternion(rotation)
    size = length(q[:3])
    return np.eye(3) if size < 1e-9 else about(q[:3], share * 2 * float(np.arctan2(size, q[3])))


def toward(known: NDArray[Any] | None, wanted: NDArray[Any], most: float) -> Array:
    """From a rotation to another, by `most` radians at most; all the way where none is known."""
    if known is None:
        return np.asarray(wanted, np.float64)
    q = quaternion(known.T @ wanted)
    angle = 2 * float(np.arctan2(length(q[:3]), q[3]))
    return np.asarray(wanted if angle <= most else known @ about(q[:3], most), np.float64)
