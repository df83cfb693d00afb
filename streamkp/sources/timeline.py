"""Numbers the frames of one stream and keeps its clock in order."""

from __future__ import annotations

from typing import NamedTuple

from streamkp.graph.stage import StreamContext
from streamkp.packet import Image, Packet

JUMP = 5_000_000_000  # a gap longer than this (ns) is a break: nothing remembered from before it is of use
NUDGE = 1_000  # keeps equal times apart (ns)


class Picture(NamedTuple):
    """A decoded frame: BGR image, the source's own time in ns where it gave one, and ns until the next frame."""

    image: Image
    pts: int | None
    step: int


class Timeline:
    """Makes the packets of one stream: `seq` never goes back, `pts` only with a new `epoch`."""

    def __init__(self, stream: StreamContext, stale_after: float) -> None:
        self._stream = stream
        self._budget = int(stale_after * 1e9) if stream.live else None
        self._epoch = 0
        self._seq = -1
        self._last: int | None = None  # pts of the packet before, None at the start of an epoch
        self._guessed = False  # that pts was derived from the frame rate

    @property
    def frames(self) -> int:
        """How many packets there have been."""
        return self._seq + 1

    def restart(self) -> None:
        """The source's clock starts again (reconnect, loop): the next packet opens a new epoch."""
        if self._last is not None:
            self._last = None
            self._epoch += 1

    def packet(self, picture: Picture) -> Packet:
        """The packet of the next frame."""
        pts = self._place(picture)
        clock = self._stream.clock
        self._seq += 1
        height, width = picture.image.shape[:2]
        return Packet(
            stream=self._stream.stream,
            epoch=self._epoch,
            seq=self._seq,
            pts=pts,
            captured_at=clock.now(),
            image=picture.image,
            width=width,
            height=height,
            expires_at=None if self._budget is None else clock.monotonic() + self._budget,
        )

    def _place(self, picture: Picture) -> int:
        last, pts, guessed = self._last, picture.pts, picture.pts is None
        if pts is None:
            pts = 0 if last is None else last + picture.step
        elif last is not None:
            # A little back is no break where the time before was a guess (cameras often send the first frame
            # without one), nor where two frames carry the same time.
            slack = 2 * picture.step if self._guessed else 0
            if last - slack <= pts <= last:
                pts, guessed = last + NUDGE, True
            elif not last < pts <= last + JUMP:
                self._epoch += 1
        self._last, self._guessed = pts, guessed
        return pts
