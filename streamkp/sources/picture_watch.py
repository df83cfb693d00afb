"""Tells that a camera's pictures stand still, or are black: it delivers, and there is nothing to see.

A camera that hangs may send its last picture for ever, and one whose lens is covered or that lost its sensor sends
black ones. Pictures of a real sensor differ from one second to the next, if only by noise and by the encoder's key
frames; only a few hundred pixels of a picture now and then are looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.graph.status import PictureFlag
from streamkp.packet import AnyImage, pixels_of

EVERY = 0.7  # seconds between two pictures that are looked at; not a whole one: what is tried out often repeats itself
GRID = 24  # pixels looked at along each side
DARK = 16.0  # mean brightness, 0..255, below which a picture is black: that is what limited-range video calls black
BRIGHT = 1.5  # times that much, and it is not any more
PLAIN = 4.0  # standard deviation of the brightness in a black picture: at night there are lights
MOVED = 2  # pictures in a row that differ from those before them, until they no longer stand still


class PictureWatch:
    """The pictures of one live stream."""

    def __init__(self, frozen_after: float | None, dark_after: float | None) -> None:
        """Seconds until pictures that stand still, or are black, are told of; None: never. Both may be set later."""
        self.frozen_after, self.dark_after = frozen_after, dark_after
        self._looked: float | None = None
        self._last: NDArray[Any] | None = None
        self._still_since = self._dark_since = 0.0
        self._is_frozen = self._is_dark = False
        self._moved = 0

    def see(self, picture: AnyImage, seconds: float) -> PictureFlag | None:
        """What is wrong with the pictures so far, the newest being that of `seconds`, a clock that never goes back."""
        if (self.frozen_after, self.dark_after) == (None, None):
            return None
        if self._looked is None or seconds - self._looked >= EVERY:
            self._look(pixels_of(picture), seconds)
            self._looked = seconds
        if self._is_dark and self.dark_after is not None:
            return "dark"
        return "frozen" if self._is_frozen and self.frozen_after is not None else None

    def _look(self, image: NDArray[np.uint8], seconds: float) -> None:
        rows, columns = (max(1, side // GRID) for side in image.shape[:2])
        seen = image[rows // 2 :: rows, columns // 2 :: columns].copy()
        last, self._last = self._last, seen
        fresh = last is None or seen.shape != last.shape
        self._frozen(last is None or not np.array_equal(seen, last), seconds)
        self._dark(float(seen.mean()), float(seen.std()), fresh, seconds)

    def _frozen(self, moved: bool, seconds: float) -> None:
        self._moved = self._moved + 1 if moved else 0
        if moved and (not self._is_frozen or self._moved >= MOVED):
            self._is_frozen, self._still_since = False, seconds
        elif not moved and self.frozen_after is not None:
            self._is_frozen |= seconds - self._still_since >= self.frozen_after

    def _dark(self, brightness: float, spread: float, fresh: bool, seconds: float) -> None:
        limit = DARK * BRIGHT if self._is_dark else DARK
        if brightness > limit or spread > PLAIN * (BRIGHT if self._is_dark else 1):
            self._is_dark, self._dark_since = False, seconds
            return
        if fresh:
            self._dark_since = seconds
        if self.dark_after is not None:
            self._is_dark |= seconds - self._dark_since >= self.dark_after
