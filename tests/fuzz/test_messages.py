"""Bytes that are not quite a message: one is decoded, or there is an error in words."""

from __future__ import annotations

import json
import time
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkp import wire
from streamkp.errors import SourceError
from tests.fuzz.mutate import mutated
from tests.sinks.walker import make_packet

LIMIT = 5.0  # seconds for one message: a hang, not a measure of speed


def refused_or_decoded(data: bytes, format: wire.Format | None = None) -> None:
    started = time.monotonic()
    try:
        message = wire.decode(data, format)
    except SourceError as error:
        said = str(error)
    else:
        said = "it is a message"
        assert message["v"] == 1
        for person in message.get("persons", ()) if "type" not in message else ():
            for key in {"keypoints_2d", "keypoints_3d"} & person.keys():
                assert person[key]["points"].dtype == np.float32
                assert np.isfinite(person[key]["points"]).all()
    assert said
    assert time.monotonic() - started < LIMIT


def real(format: wire.Format) -> bytes:
    return wire.encode(wire.message(make_packet(7), 1_700_000_000_000_000_000, 3), format)


@pytest.mark.parametrize("format", ["msgpack", "json"])
def test_damaged_messages(format: wire.Format) -> None:
    data = real(format)
    for seed in range(2000):
        refused_or_decoded(mutated(data, seed))


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=24),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["points", "shape", "data", "track"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in nested maps and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [p for key, value in items for p in ((*path, key), *places(value, (*path, key)))]


@settings(max_examples=400)
@given(st.data())
def test_any_value_in_any_place(data: st.DataObject) -> None:
    message = msgpack.unpackb(real("msgpack"))
    *way, last = data.draw(st.sampled_from(places(message)))
    at = message
    for key in way:
        at = at[key]
    at[last] = data.draw(VALUES)
    refused_or_decoded(msgpack.packb(message))
    try:
        text = json.dumps(message)
    except TypeError:  # bytes have no place in JSON
        return
    refused_or_decoded(text.encode())


@settings(max_examples=300)
@given(st.binary(max_size=64), st.sampled_from(["msgpack", "json", None]))
def test_noise(data: bytes, format: wire.Format | None) -> None:
    refused_or_decoded(data, format)


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of four billion
        b"\xdf\xff\xff\xff\xff",  # a map
        b"\xc6\xff\xff\xff\xff",  # a binary of 4 GB
        b"\x91" * 100_000,
        b"[" * 100_000,
        b'{"v":' + b"9" * 10_000 + b"}",
        b'{"v":1e999}',
        b"\x81\xa1v\xcb\x7f\xf8\0\0\0\0\0\0",  # v: NaN
        msgpack.packb({"shape": [2**62, 2**62, 0], "data": b""}),
        msgpack.packb({"v": 1, "type": "lost", "x": {"shape": [0, 2**63 - 1], "data": b""}}),
        msgpack.packb({"v": 1, "type": "lost", "x": {"shape": [1] * 70, "data": b"1234"}}),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_breaks_decoders(data: bytes) -> None:
    refused_or_decoded(data)
