"""Hand shapes: an embedding that tells them apart, seven named gestures, and gestures of one's own from a few examples.

Networks: Google MediaPipe, `gesture_embedder.tflite` and `canned_gesture_classifier.tflite`, Apache-2.0. Source: the
constants of MediaPipe's hand_gesture_recognizer graph, with which agreement is tested.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import UsageError
from streamkp.hub.catalog import ModelSpec
from streamkp.models.registry import ModelFile, ModelOptions
from streamkp.packet import FloatArray
from streamkp.runtimes.base import Network, NetworkSource, open_network

NONE = "None"  # of MediaPipe: a hand that shows none of the others
NAMED = (NONE, "Closed_Fist", "Open_Palm", "Pointing_Up", "Thumb_Down", "Thumb_Up", "Victory", "ILoveYou")
EMBEDDING = 128
_CLASSIFIER_FILE = "canned_gesture_classifier.tflite"  # beside the embedder
_WRIST = 0


@dataclass(frozen=True, slots=True)
class Hand:
    """One hand, as `hand-landmarker` sees it.

    Attributes:
        points: float32 (21, >= 2), x and y in pixels.
        depth: float32 (21,), pixels away from the camera.
        world: float32 (21, 3), metres.
        left: probability that it is a left hand.
    """

    points: FloatArray
    depth: FloatArray
    world: FloatArray
    left: float


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: it reads 21 landmarks twice and gives 128 numbers."""
    if file.signature is None or set(file.signature.inputs) != {"hand", "handedness", "world_hand"}:
        return None
    return ModelSpec(task="hand-gestures", family=__name__)


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> GestureNetwork:
    """See `streamkp.models.registry`. Named gestures come where their classifier lies beside the file."""
    options.refuse_flip(name)
    embedder = open_network(NetworkSource(name, file=path), options.run)
    beside = path.with_name(_CLASSIFIER_FILE)
    if not beside.is_file():
        return GestureNetwork(name, embedder, None)
    try:
        classifier = open_network(NetworkSource(f"{name}, classifier", file=beside), options.run)
    except BaseException:
        embedder.close()
        raise
    return GestureNetwork(name, embedder, classifier)


class GestureNetwork:
    """From the joints of hands to embeddings, and from these to the named gestures."""

    def __init__(self, name: str, embedder: Network, classifier: Network | None) -> None:
        self.name = name
        self._embedder = embedder
        self._classifier = classifier

    def embed(self, hands: Sequence[Hand]) -> FloatArray:
        """The embeddings (N, 128) of some hands. Raises `ModelError` if the network gives NaN."""
        if not hands:
            return np.zeros((0, EMBEDDING), np.float32)
        found = self._embedder(
            {
                "hand": np.stack([_placed(np.column_stack([hand.points[:, :2], hand.depth])) for hand in hands]),
                "world_hand": np.stack([_placed(hand.world) for hand in hands]),
                "handedness": np.array([[hand.left] for hand in hands], np.float32),
            }
        )
        (embedding,) = found.values()
        return np.asarray(embedding, np.float32)

    def named(self, embeddings: FloatArray) -> FloatArray:
        """The scores (N, 8) of the gestures in `NAMED`, adding up to 1; zeros where the classifier is not there."""
        if self._classifier is None or not len(embeddings):
            return np.zeros((len(embeddings), len(NAMED)), np.float32)
        ((name, _),) = self._classifier.inputs.items()
        (scores,) = self._classifier({name: embeddings}).values()
        return np.asarray(scores, np.float32)

    def close(self) -> None:
        """Let go of the networks."""
        self._embedder.close()
        if self._classifier is not None:
            self._classifier.close()


def _placed(points: NDArray[np.floating]) -> FloatArray:
    """The joints (21, 3) about the wrist, the larger side of the box around the hand in the image being 1."""
    around = points - points[_WRIST]
    size = np.ptp(around[:, :2], axis=0).max() + 1e-5
    placed: FloatArray = (around / size).astype(np.float32)
    return placed


# --- gestures of one's own ------------------------------------------------------------------------------------------


class Examples:
    """Embeddings of known gestures, and who of them is near to another.

    Two hands are as near as the angle between their embeddings is small: the distance is 1 less its cosine.
    """

    def __init__(
        self, vectors: FloatArray, labels: Sequence[str], groups: Sequence[str], reach: float | None = None
    ) -> None:
        """`vectors` is (N, 128), `groups` names the recording of each; `reach`: how far an example speaks for others.

        Without it the reach is that of the examples themselves: as far as nearly all of them have the nearest example
        of the same gesture, in another recording where there is one, and half as far again.
        """
        self.vectors = _unit(np.asarray(vectors, np.float32))
        self.labels = tuple(labels)
        self.groups = tuple(groups)
        self.reach = self._own_reach() if reach is None else reach

    @property
    def gestures(self) -> list[str]:
        """The names of the gestures, in order."""
        return sorted(set(self.labels))

    def vote(self, embedding: FloatArray, k: int, without: str | None = None) -> dict[str, float]:
        """The share of the `k` nearest examples within reach that each gesture has; {} where none is.

        The examples of the recording `without` are left out.
        """
        apart = 1 - self.vectors @ _unit(embedding)
        if without is not None:
            apart = np.where([group == without for group in self.groups], np.inf, apart)
        nearest = np.argsort(apart, kind="stable")[: min(k, len(apart))]
        shares: dict[str, float] = {}
        for i in nearest:
            if apart[i] <= self.reach:
                shares[self.labels[i]] = shares.get(self.labels[i], 0.0) + 1 / len(nearest)
        return shares

    def save(self, path: Path) -> None:
        """Write an `.npz` file. Raises OSError."""
        with path.open("wb") as file:
            np.savez_compressed(file, kind="streamkp gestures", vectors=self.vectors, labels=np.array(self.labels),
                                groups=np.array(self.groups), reach=np.float32(self.reach))  # fmt: skip

    def _own_reach(self) -> float:
        labels, groups = np.array(self.labels), np.array(self.groups)
        apart = 1 - self.vectors @ self.vectors.T
        nearest = []
        for i in range(len(labels)):
            same = (labels == labels[i]) & (np.arange(len(labels)) != i)
            others = same & (groups != groups[i])
            pool = others if others.any() else same
            if pool.any():
                nearest.append(float(apart[i][pool].min()))
        return max(1.5 * float(np.percentile(nearest, 95)), _LEAST_REACH) if nearest else _LONE_REACH


_LONE_REACH = 0.1  # where every gesture has but one example
_LEAST_REACH = 0.02


def load(path: Path) -> Examples:
    """The examples that `save` wrote. Raises `UsageError` if the file is something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["kind"]) != "streamkp gestures":
                raise KeyError("kind")
            vectors, labels, groups = file["vectors"], file["labels"].tolist(), file["groups"].tolist()
            reach = float(file["reach"])
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; `streamkp gestures learn` makes one") from None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(f"{path} is not a file that `streamkp gestures learn` has written: {error}") from None
    if vectors.ndim != 2 or vectors.shape[1] != EMBEDDING or not len(vectors) == len(labels) == len(groups) > 0:
        raise UsageError(f"{path} is not a file that `streamkp gestures learn` has written: its arrays do not fit")
    return Examples(vectors, labels, groups, reach)


def leave_one_out(examples: Examples, k: int) -> dict[str, tuple[int, int]]:
    """By gesture: how many examples the others tell right, and how many there are.

    All examples of one recording are left out together.
    """
    right = dict.fromkeys(examples.gestures, 0)
    count = dict.fromkeys(examples.gestures, 0)
    for vector, label, group in zip(examples.vectors, examples.labels, examples.groups, strict=True):
        shares = examples.vote(vector, k, without=group)
        count[label] += 1
        right[label] += bool(shares) and max(shares, key=lambda name: shares[name]) == label
    return {label: (right[label], count[label]) for label in count}


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float32)
