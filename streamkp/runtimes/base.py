"""What a runtime offers: a network as named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray


class Network(Protocol):
    """One network ready to run, for one thread at a time."""

    buckets: tuple[int, ...]  # batch sizes that it is prepared for, ascending
    device: str
    precision: str

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name; the first dimension of each is the batch, of any size.

        Raises `ModelError` if an output is NaN or infinite, or not even one sample fits into memory.
        """

    def close(self) -> None:
        """Let go of the network."""
