"""A picture in the memory of a GPU is fetched when its pixels are read, and once."""

from dataclasses import dataclass, replace

import numpy as np

from streamkp.packet import Image, Packet


@dataclass
class Remote:
    """An image somewhere else, which counts how often it is fetched."""

    shape: tuple[int, int, int] = (4, 6, 3)
    fetched: int = 0
    kept: Image | None = None

    def pixels(self) -> Image:
        if self.kept is None:
            self.fetched += 1
            self.kept = np.full(self.shape, 7, np.uint8)
        return self.kept


def _packet(image: object) -> Packet:
    return Packet(stream="s", epoch=0, seq=3, pts=0, captured_at=0, image=image, width=6, height=4)  # type: ignore[arg-type]


def test_pixels_are_fetched_when_they_are_read() -> None:
    remote = Remote()
    packet = _packet(remote)
    other = packet.fork()
    assert packet.picture is other.picture is remote
    assert "image" not in repr(packet)
    assert remote.fetched == 0
    assert packet.image is other.image
    assert (packet.image == 7).all()
    assert remote.fetched == 1


def test_an_image_on_the_host_is_itself() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    packet = _packet(image)
    assert packet.image is packet.picture is image
    assert replace(packet, seq=4).image is image
    packet.image = None
    assert packet.picture is None
    assert _packet(None).fork().image is None


def test_branches_of_a_frame_keep_their_annotations_apart_until_they_meet() -> None:
    packet = _packet(None)
    packet.annotations.append({"type": "label", "track": 1, "text": "a"})
    other = packet.fork()
    other.annotations.append({"type": "line", "points": [[0, 0], [1, 1]]})
    assert len(packet.annotations) == 1
    packet.merge(other)
    assert [each["type"] for each in packet.annotations] == ["label", "line"]  # the label, which both had, once
