"""Numbers the frames of one stream and keeps its clock in order: the one place that judges time stamps.

A single stamp that is out of line is put between its neighbours. What persists is believed: a gap is a gap; a clock
that goes on from a little earlier is shifted; one that goes on from somewhere else opens a new epoch. In a file the
following stamps tell which it is. A live stream cannot wait for them: it goes on by its times of arrival until three
stamps agree, and believes its stamps only as long as they keep pace with their arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import cv2
import numpy as np

from streamkp.graph.stage import StreamContext
from streamkp.packet import AnyImage, Image, Packet, pixels_of

NANO = 1_000_000_000
NUDGE = 1_000  # least distance of two times (ns)
FAR = NANO  # further than this ahead of the frame before, or behind it, a stamp must be confirmed by others
JUMP = 5 * NANO  # live: a confirmed stamp further ahead of its arrival than this belongs to another clock
AHEAD = 2  # files: how many frames are read ahead
CONFIRMED = 3  # live: how many stamps in order make a jump believable
LOOK = NANO // 2  # live: how often stamps are compared with their arrival
STRIKES = 3  # comparisons in a row that must fail
PACE, PACE_SLACK = 0.2, NANO // 10  # by how much of the time, and how many ns besides, they may differ
MEMORY = 10 * NANO  # and over what time at most
SAME_SHAPE = 0.02  # relative difference of two aspect ratios of one picture in two sizes


class Picture(NamedTuple):
    """A decoded frame: its image, the source's own time in ns where it gave one, and ns until the next frame."""

    image: AnyImage
    pts: int | None
    step: int


class Timeline:
    """Makes the packets of one stream: `seq` never goes back, `pts` only with a new `epoch`.

    All pictures of an epoch have one size. A smaller one of the same shape is enlarged, so that what has been measured
    in the pictures before stays true; a larger one, or one of another shape, opens a new epoch.
    """

    def __init__(self, stream: StreamContext, stale_after: float) -> None:
        self._stream = stream
        self._stale_after = int(stale_after * NANO)
        self._epoch = 0
        self._seq = -1
        self._size: tuple[int, int] | None = None
        self._pace = _Pace()
        self._told = False
        self.paced = True  # live: frames arrive as they are filmed, not by the segment
        self._begin()

    def _begin(self) -> None:
        self._last: int | None = None  # pts of the packet before, None at the start of an epoch
        self._shift = 0  # added to the source's stamps
        self._believed = True  # live: stamps keep pace with the clock
        self._arrived = 0
        self._usual: int | None = None  # between two stamps that were believed
        self._stamped = False  # a stamp of the source was believed in this epoch
        self._held: deque[int] = deque(maxlen=CONFIRMED)  # the latest stamps, none of which was believed
        self._pace.restart()

    @property
    def frames(self) -> int:
        """How many packets there have been."""
        return self._seq + 1

    def restart(self) -> None:
        """The source's clock starts again (reconnect, loop): the next packet opens a new epoch."""
        if self._last is not None:
            self._epoch += 1
            self._size = None
        self._begin()

    def packets(self, pictures: Iterator[Picture]) -> Iterator[Packet]:
        """The packets of a file. What was read before an error is yielded before the error is raised."""
        waiting: deque[Picture] = deque()
        error: Exception | None = None
        while True:
            while error is None and len(waiting) <= AHEAD:
                try:
                    waiting.append(next(pictures))
                except StopIteration:
                    break
                except Exception as raised:
                    error = raised
            if not waiting:
                break
            picture = waiting.popleft()
            pts = self._settled(picture, [other.pts for other in waiting if other.pts is not None])
            yield self._packet(picture, pts)
        if error is not None:
            raise error

    def packet(self, picture: Picture) -> Packet:
        """The packet of a live stream's next frame, which has just arrived."""
        return self._packet(picture, self._arrival(picture, self._stream.clock.monotonic()))

    def _packet(self, picture: Picture, pts: int) -> Packet:
        image = self._sized(picture.image)
        clock = self._stream.clock
        self._seq += 1
        self._last = pts
        height, width = image.shape[:2]
        return Packet(
            stream=self._stream.stream,
            epoch=self._epoch,
            seq=self._seq,
            pts=pts,
            captured_at=clock.now(),
            image=cast(Image, image),  # one on a GPU is fetched when somebody reads it
            width=width,
            height=height,
            expires_at=clock.monotonic() + self._stale_after if self._stream.live else None,
        )

    def _sized(self, image: AnyImage) -> AnyImage:
        height, width = image.shape[:2]
        if self._size in (None, (width, height)):
            self._size = width, height
            return image
        assert self._size is not None
        before_width, before_height = self._size
        alike = abs(width * before_height - before_width * height) <= SAME_SHAPE * before_width * height
        if alike and width <= before_width:
            return np.asarray(cv2.resize(pixels_of(image), self._size, interpolation=cv2.INTER_LINEAR), np.uint8)
        self._size = width, height
        self._epoch += 1
        return image

    # -- files --------------------------------------------------------------------------------------------------

    def _settled(self, picture: Picture, following: Sequence[int]) -> int:
        last, stamp, step = self._last, picture.pts, picture.step
        if last is None:
            if stamp is None:
                stamp = following[0] - step if following else 0
            return stamp
        later = [moved for other in following if (moved := other + self._shift) > last]
        if stamp is not None:
            stamp += self._shift
            lone = stamp - last > FAR and any(other < stamp for other in later)
            if stamp > last and not lone:
                return stamp
            if not later and following:  # it persists
                if last - stamp >= FAR:
                    self._epoch += 1
                    self._shift = 0
                    return picture.pts or 0
                self._shift += last + step - stamp
                return last + step
        return _between(last, last + step, min(later, default=None))

    # -- live streams -------------------------------------------------------------------------------------------

    def _arrival(self, picture: Picture, now: int) -> int:
        last, since = self._last, now - self._arrived
        self._arrived = now
        stamp = picture.pts if self._believed else None
        if last is None:
            if stamp is not None:
                self._stamped = True
                self._pace.keeps(stamp, now)
            return stamp or 0
        # In a burst, too, a frame lies between its neighbours.
        usual = self._usual
        invented = last + max(NUDGE, since if usual is None else min(max(since, usual // 2), 2 * usual))
        if stamp is None:
            return last + max(NUDGE, since)
        pts = self._judged(stamp, last, since, invented)
        settled = not self._held or len(self._held) == CONFIRMED
        if self.paced and settled and not self._pace.keeps(stamp, now):
            self._believed = False
            if not self._told:
                self._told = True
                self._stream.log.warning(
                    "%s: its time stamps do not keep pace with the clock (%.1f s in %.1f s); times of arrival are used",
                    self._stream.label, self._pace.said / NANO, self._pace.passed / NANO,
                )  # fmt: skip
        return pts

    def _judged(self, stamp: int, last: int, since: int, invented: int) -> int:
        moved = stamp + self._shift
        if 0 < moved - last <= since + FAR:
            if not self._held and self._stamped:
                self._usual = moved - last if self._usual is None else (7 * self._usual + moved - last) // 8
            self._held.clear()
            self._stamped = True
            return moved
        if not self._stamped:  # only guesses so far: they go on in the source's pace
            self._stamped = True
            self._shift = invented - stamp
            return invented
        self._held.append(stamp)
        in_order = all(0 < b - a <= since + FAR for a, b in pairwise(self._held))
        if len(self._held) < CONFIRMED or not in_order:
            return invented
        self._held.clear()
        if 0 < moved - last <= since + JUMP:
            return moved
        if -FAR < moved - last <= 0:
            self._shift = invented - stamp
            return invented
        self._epoch += 1
        self._shift = 0
        self._pace.restart()
        return stamp


class _Pace:
    """Whether the stamps of a live stream go as fast as they arrive."""

    def __init__(self) -> None:
        self.said = self.passed = 0  # ns of the latest comparison, by the stamps and by the clock
        self.restart()

    def restart(self) -> None:
        self._anchor: tuple[int, int] | None = None
        self._burst = True
        self._strikes = 0
        self._looked = 0

    def keeps(self, stamp: int, now: int) -> bool:
        """Take in a stamp that arrived `now`; False once they have disagreed for long enough."""
        if self._anchor is None:
            self._anchor, self._looked = (stamp, now), now
            return True
        if now - self._looked < LOOK:
            return True
        self._looked = now
        if self._burst:  # servers begin with what they have kept, at once
            self._anchor, self._burst = (stamp, now), False
            return True
        self.said, self.passed = stamp - self._anchor[0], now - self._anchor[1]
        off = self.said - self.passed
        if abs(off) <= PACE * self.passed + PACE_SLACK:
            self._strikes = 0
            if self.passed > MEMORY:
                self._anchor = stamp, now
            return True
        same = self._strikes == 0 or (off > 0) == (self._strikes > 0)
        self._strikes = (self._strikes if same else 0) + (1 if off > 0 else -1)
        return abs(self._strikes) < STRIKES


class BestEffort:
    """Presentation times of decoded frames, of which one of two stamps may be wrong.

    `pts` is right unless it falls back more often than `dts`, as in FFmpeg's best-effort time stamps (libavcodec,
    decode.c). Where a codec reorders frames and yet `pts` follows `dts` at a fixed distance in every packet, `pts`
    is a copy of the decoding time (AVI), and `dts`, which grows from one decoded frame to the next, is right.
    """

    def __init__(self) -> None:
        self._faulty_pts = self._faulty_dts = 0
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._distance: int | None = None  # from dts to pts
        self._fixed = True
        self._step = 0  # between the last two decoding times

    def packet(self, pts: int | None, dts: int | None) -> None:
        """Take in a packet, before it is decoded."""
        if pts is None or dts is None:
            self._fixed = False
        elif self._distance is None:
            self._distance = pts - dts
        elif pts - dts != self._distance:
            self._fixed = False

    def time(self, pts: int | None, dts: int | None, reorders: bool) -> int | None:
        """The time of the next frame out of the decoder, in the unit of `pts` and `dts`; None where neither tells."""
        if reorders and self._fixed and self._distance is not None:
            # The last frames come out of the decoder without a packet, and so without a decoding time.
            if dts is None and self._last_dts is not None:
                dts = self._last_dts + self._step
            if dts is not None:
                self._step = dts - self._last_dts if self._last_dts is not None else 0
                self._last_dts = dts
            return dts
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        return pts if pts is not None and (self._faulty_pts <= self._faulty_dts or dts is None) else dts


def _between(last: int, wanted: int, later: int | None) -> int:
    """`wanted`, or halfway to the time that comes later if that is earlier."""
    return wanted if later is None or wanted < later else max(last + 1, (last + later) // 2)
