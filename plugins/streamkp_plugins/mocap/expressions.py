"""Expressions of avatars from the 52 blendshapes of a face (ARKit's names, 0 to 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# How much of a shape counts as none, for moods: a face at rest is not quite at zero.
DEAD = 0.25
# The presets of VRM 0 that are sent, by the protocol's names; case matters.
PRESETS = (
    "A", "I", "U", "E", "O", "Blink_L", "Blink_R", "Joy", "Angry", "Sorrow", "LookUp", "LookDown", "LookLeft",
    "LookRight",
)  # fmt: skip
ARKIT = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
MOST_OF = 40  # shapes by ARKit's names that make an avatar one for "perfect sync"


def presets(shapes: Mapping[str, float]) -> dict[str, float]:
    """The presets of VRM 0, 0 to 1, every one of `PRESETS`; shapes that are absent count as 0.

    The vowels are at most 1 together, so that a mouth does not open twice.
    """

    def both(name: str) -> float:
        return (_value(shapes, f"{name}Left") + _value(shapes, f"{name}Right")) / 2

    jaw, funnel, pucker = (_value(shapes, name) for name in ("jawOpen", "mouthFunnel", "mouthPucker"))
    wide = min(1.0, both("mouthStretch") + 0.5 * both("mouthSmile"))
    mouth = {
        "A": jaw * (1 - max(funnel, pucker)) * (1 - 0.5 * wide),
        "I": wide * (1 - jaw) * 0.6,
        "U": pucker * (1 - 0.5 * jaw),
        "E": wide * jaw,
        "O": funnel * (0.4 + 0.6 * jaw),
    }
    total = max(1.0, sum(mouth.values()))
    return {name: value / total for name, value in mouth.items()} | {
        "Blink_L": _value(shapes, "eyeBlinkLeft"),
        "Blink_R": _value(shapes, "eyeBlinkRight"),
        "Joy": _lively(both("mouthSmile")),
        "Angry": _lively(max(both("browDown"), both("noseSneer"))) * (1 - _lively(both("mouthSmile"))),
        "Sorrow": _lively(both("mouthFrown")),
        "LookUp": both("eyeLookUp"),
        "LookDown": both("eyeLookDown"),
        "LookLeft": (_value(shapes, "eyeLookOutLeft") + _value(shapes, "eyeLookInRight")) / 2,
        "LookRight": (_value(shapes, "eyeLookInLeft") + _value(shapes, "eyeLookOutRight")) / 2,
    }


def perfect_sync(shapes: Mapping[str, float], names: Sequence[str] = ()) -> dict[str, float]:
    """The 52 shapes themselves, by the names of the avatar (`names`, whatever their case), else in Pascal case."""
    own = {name.lower(): name for name in names}
    return {own.get(name.lower(), name[0].upper() + name[1:]): _value(shapes, name) for name in ARKIT}


def has_perfect_sync(names: Sequence[str]) -> bool:
    """Whether an avatar with expressions of these names has shapes by ARKit's."""
    own = {name.lower() for name in names}
    return sum(name.lower() in own for name in ARKIT) >= MOST_OF


def _value(shapes: Mapping[str, float], name: str) -> float:
    value = float(shapes.get(name) or 0.0)
    return min(max(value, 0.0), 1.0) if value == value else 0.0


def _lively(value: float) -> float:
    return max(0.0, value - DEAD) / (1 - DEAD)
