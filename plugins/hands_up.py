"""Says when somebody raises both hands above their nose: the stage that the README shows.

stages:
  ...
  hands-up: {use: plugins/hands_up.py:HandsUp, hold: 0.3}
  publish:  {use: publish-websocket}
"""

from __future__ import annotations

from pydantic import Field

from streamkp.plugin import MapStage, Packet, StageOptions, skeleton


class HandsUp(MapStage):
    """Adds `hands_up` to every person, and an event when it begins."""

    class Options(StageOptions):
        hold: float = Field(0.3, ge=0, description="Seconds for which the hands must stay up.")

    options: Options

    def open(self) -> None:
        self._since = self.per_track(lambda: [None, False])  # pts of the first frame with hands up, and if it was told

    def process(self, packet: Packet) -> Packet:
        for person in packet.persons:
            if person.keypoints_2d is None:
                continue
            joints, y = skeleton(person.keypoints_2d.skeleton), person.keypoints_2d.points[:, 1]
            wrists = max(y[joints.index("left_wrist")], y[joints.index("right_wrist")])
            state = self._since[packet.stream, person.track]
            if wrists > y[joints.index("nose")]:
                state[:] = [None, False]
            elif state[0] is None:
                state[0] = packet.pts
            up = state[0] is not None and packet.pts - state[0] >= self.options.hold * 1e9
            person.extra["hands_up"] = up
            if up and not state[1]:
                packet.events.append({"type": "hands_up", "track": person.track})
                state[1] = True
        return packet
