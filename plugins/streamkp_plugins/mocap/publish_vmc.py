"""`publish-vmc`: one person's bones to an avatar, by the VMC protocol (OSC over UDP).

Facts of the protocol and its receivers (protocol.vmc.info): every bone in every frame, local rotations in Unity's axes
(left-handed, y up), positions of bones are the avatar's rest offsets (receivers that apply them collapse an avatar
whose offsets are zero), `/VMC/Ext/OK` takes ints, `/VMC/Ext/T` comes last, no datagram over 1,472 bytes (what fits into
an Ethernet frame), one socket for the whole run, at most 60 frames a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder

from streamkp.plugin import Packet, Person
from streamkp_plugins.mocap.avatar import HALF_TURN, Avatar, default_avatar, read_vrm
from streamkp_plugins.mocap.body import ANKLE_HEIGHT, PARENTS
from streamkp_plugins.mocap.expressions import has_perfect_sync, perfect_sync, presets
from streamkp_plugins.mocap.osc_sink import OscSink, osc_message
from streamkp_plugins.mocap.rotations import matrix, quaternion

Array = NDArray[np.float64]
Blends = Literal["auto", "vrm0", "perfect-sync", "off"]
LARGEST = 1472  # bytes of a datagram


class PublishVmc(OscSink):
    """Moves an avatar in Unity, Unreal, Godot, Blender, VSeeFace and others: the VMC protocol over UDP."""

    protocol = "VMC"

    class Options(OscSink.Options):
        port: int = Field(39539, ge=1, le=65535, description="Its port.")
        vrm: Path | None = Field(None, description="The avatar (VRM 0 or 1), for its bones; a default one otherwise.")
        normalized: bool = Field(
            False,
            description="Leave out the avatar's rest rotations: for receivers with a control rig (VRM 1 in Unity).",
        )
        blends: Blends = Field(
            "auto",
            description="Names of the expressions, sent where the face's blendshapes are known (`keypoints-parts`): "
            "vrm0 (A, Blink_L, Joy ...), perfect-sync (ARKit's 52) or off; auto: perfect-sync for an avatar that has "
            "them.",
        )
        move: bool = Field(True, description="Also move the hips in space; false keeps them over one place.")

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        if options.vrm is not None:
            read_vrm(options.vrm)

    def open(self) -> None:
        avatar = default_avatar() if self.options.vrm is None else read_vrm(self.options.vrm)
        self._avatar = avatar.upright() if self.options.normalized else avatar
        self._blends = self.options.blends
        if self._blends == "auto":
            self._blends = "perfect-sync" if has_perfect_sync(avatar.blends) else "vrm0"
        self._face: dict[str, float] = {}  # what was sent last
        self._begin: int | None = None
        super().open()

    def datagrams(self, packet: Packet, person: Person) -> list[bytes]:
        if self._begin is None:
            self._begin = packet.pts
        seconds = max(0.0, (packet.pts - self._begin) / 1e9)
        self._face = self._expressions(person)
        return datagrams(person.extra["kinematics"], self._avatar, seconds, move=self.options.move, blends=self._face)

    def _expressions(self, person: Person) -> dict[str, float]:
        """What the face shows; without a face, once it was seen, nothing at all: 0 for every name."""
        face = person.extra.get("face")
        shapes = face.get("blendshapes") if isinstance(face, Mapping) else None
        if self._blends == "off" or not isinstance(shapes, Mapping):
            return dict.fromkeys(self._face, 0.0)
        return perfect_sync(shapes, self._avatar.blends) if self._blends == "perfect-sync" else presets(shapes)


def local_poses(kinematics: dict[str, Any], avatar: Avatar, *, move: bool = True) -> dict[str, tuple[Array, Array]]:
    """By bone of the avatar: local position (metres) and rotation (x, y, z, w) in Unity's left-handed axes."""
    turns: dict[str, Array] = {}
    locals_ = {bone: matrix(np.asarray(q, np.float64)) for bone, q in kinematics["rotations"].items()}
    for bone, parent in PARENTS.items():
        turns[bone] = locals_[bone] if parent is None else turns[parent] @ locals_[bone]
    world: dict[str, Array] = {}  # what each bone of the avatar does in the world, looking along -z
    for bone, above in _top_down(avatar.parents):
        if bone in turns:
            world[bone] = turns[bone] * np.outer(HALF_TURN, HALF_TURN)
        else:
            world[bone] = np.eye(3) if above is None else world[above]
            if bone in locals_:  # a finger
                world[bone] = world[bone] @ (locals_[bone] * np.outer(HALF_TURN, HALF_TURN))
    poses = {}
    for bone, above in avatar.parents.items():
        whole = world[bone] @ avatar.rest[bone]
        local = whole if above is None else (world[above] @ avatar.rest[above]).T @ whole
        place = _hips(kinematics, avatar, move) if bone == "Hips" else avatar.offsets[bone]
        x, y, z, w = quaternion(local)
        poses[bone] = place * [1.0, 1.0, -1.0], np.array([x, y, -z, -w])
    return poses


def _hips(kinematics: dict[str, Any], avatar: Avatar, move: bool) -> Array:
    size = kinematics["lengths"]
    legs = size["upper_leg"] + size["lower_leg"] + ANKLE_HEIGHT
    scale = avatar.hips_height / legs if legs > 0 else 1.0
    place = np.asarray(kinematics["hips"], np.float64) * HALF_TURN * scale
    return np.asarray(place if move else place * [0.0, 1.0, 0.0])


def _top_down(parents: dict[str, str | None]) -> Iterator[tuple[str, str | None]]:
    done: set[str] = set()
    waiting = list(parents.items())
    while waiting:
        ready = [(bone, above) for bone, above in waiting if above is None or above in done]
        yield from ready
        done |= {bone for bone, _ in ready}
        waiting = [(bone, above) for bone, above in waiting if bone not in done]
        if not ready:
            return


def datagrams(
    kinematics: dict[str, Any],
    avatar: Avatar,
    seconds: float,
    *,
    move: bool = True,
    blends: Mapping[str, float] | None = None,
) -> list[bytes]:
    """The datagrams of one frame: root, bones, expressions, state, and the time last."""
    messages = [osc_message("/VMC/Ext/Root/Pos", "sfffffff", "root", 0, 0, 0, 0, 0, 0, 1)]
    for bone, (place, turn) in local_poses(kinematics, avatar, move=move).items():
        messages.append(osc_message("/VMC/Ext/Bone/Pos", "sfffffff", bone, *place, *turn))
    if blends:
        messages += [osc_message("/VMC/Ext/Blend/Val", "sf", name, value) for name, value in blends.items()]
        messages.append(osc_message("/VMC/Ext/Blend/Apply", ""))
    messages.append(osc_message("/VMC/Ext/OK", "iiii", 1, 3, 0, 1))
    messages.append(osc_message("/VMC/Ext/T", "f", seconds))
    bundles: list[list[Any]] = [[]]
    used = 16  # "#bundle", zero, and the time tag
    for message in messages:
        if used + 4 + message.size > LARGEST:
            bundles.append([])
            used = 16
        bundles[-1].append(message)
        used += 4 + message.size
    return [_bundle(each) for each in bundles]


def _bundle(messages: list[Any]) -> bytes:
    builder = OscBundleBuilder(IMMEDIATELY)
    for message in messages:
        builder.add_content(message)
    data: bytes = builder.build().dgram
    return data
