"""Long sequences through networks that read a fixed number of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Span:
    """A window that begins at frame `start`; frames `first` up to `stop` of the sequence are taken from it."""

    start: int
    first: int
    stop: int


def pad_edges(sequence: Floats, before: int, after: int) -> Floats:
    """(T, ...) to (before + T + after, ...), the first and the last frame repeated."""
    padding = [(before, after)] + [(0, 0)] * (sequence.ndim - 1)
    return np.pad(sequence, padding, mode="edge")


def plan_spans(frames: int, length: int, step: int) -> list[Span]:
    """Windows of `length` frames every `step` frames, such that every frame is taken from exactly one.

    Each window gives its first `step` frames and the last whole one also the rest of its frames (the scheme of
    ModelScope's HDFormer); where that leaves frames over, or for a sequence shorter than a window, one more window
    that ends with the last frame gives them. `cut` repeats the last frame of a short sequence.

    Raises ValueError unless frames >= 1 and 1 <= step <= length.
    """
    if frames < 1 or not 1 <= step <= length:
        raise ValueError(f"cannot cover {frames} frames with windows of {length} every {step}")
    starts = range(0, frames - length + 1, step)
    spans = [Span(start, start, start + step) for start in starts[:-1]]
    if starts:
        spans.append(Span(starts[-1], starts[-1], starts[-1] + length))
    covered = spans[-1].stop if spans else 0
    if covered < frames:
        spans.append(Span(max(0, frames - length), covered, frames))
    return spans


def cut(sequence: Floats, spans: Sequence[Span], length: int) -> Floats:
    """(T, ...) to (len(spans), length, ...); a sequence shorter than a window is continued with its last frame."""
    frames = np.minimum(np.arange(length) + np.array([[span.start] for span in spans]), len(sequence) - 1)
    out: Floats = sequence[frames]
    return out


def join(windows: Floats, spans: Sequence[Span]) -> Floats:
    """(len(spans), length, ...) to (T, ...): of every window the frames that its span asks for."""
    pairs = zip(windows, spans, strict=True)
    return np.concatenate([window[span.first - span.start : span.stop - span.start] for window, span in pairs])
