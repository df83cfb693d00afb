from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from streamkp import wire
from streamkp.errors import SourceError
from streamkp.graph.status import STATES, Status
from streamkp.packet import Keypoints2D, Keypoints3D, Packet, Person

INT64 = st.integers(-(2**63), 2**63 - 1)
COUNT = st.integers(0, 2**53)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)

PLACE = st.tuples(st.floats(), st.floats())
ANNOTATIONS: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"type": st.just("label"), "text": TEXT},
    optional={"track": st.none() | st.integers(0, 9), "at": st.none() | PLACE},
) | st.fixed_dictionaries(
    {"type": st.just("line"), "points": st.lists(PLACE, min_size=2, max_size=3)},
    optional={"color": st.sampled_from([None, "#01aBff"])},
)


def _floats(shape: tuple[int, ...], bad: bool = True) -> st.SearchStrategy[Any]:
    one = st.floats(-1e6, 1e6, width=32)
    return arrays(np.float32, shape, elements=one | st.sampled_from([np.nan, np.inf, -np.inf]) if bad else one)


@st.composite
def persons(draw: st.DrawFn, track: int) -> Person:
    joints = draw(st.integers(0, 5))
    return Person(
        track,
        draw(st.sampled_from(["new", "tracked", "predicted"])),
        draw(_floats((4,), bad=draw(st.booleans()))),
        draw(st.floats()),
        draw(st.none() | st.builds(Keypoints2D, TEXT, _floats((joints, 3)))),
        draw(
            st.none()
            | st.builds(
                Keypoints3D,
                TEXT,
                _floats((joints, 3), draw(st.booleans())),
                COUNT,
                st.sampled_from(["camera", "world"]),
                st.none() | _floats((3,), draw(st.booleans())),
                st.none() | _floats((joints,), draw(st.booleans())).map(np.abs) | _floats((joints,)),
            )
        ),
        extra=draw(st.dictionaries(TEXT.map("plugin_".__add__), PLAIN | _floats((2, 2)), max_size=2)),
    )


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    return Packet(
        draw(TEXT), draw(COUNT), draw(COUNT), draw(INT64), draw(INT64), None, draw(COUNT), draw(COUNT),
        persons=[draw(persons(track)) for track in range(draw(st.integers(0, 3)))],
        events=draw(st.lists(st.dictionaries(TEXT, PLAIN, max_size=2), max_size=2)),
        annotations=draw(st.lists(ANNOTATIONS, max_size=2)),
    )  # fmt: skip


def _without_points(message: wire.Message) -> wire.Message:
    """What must be equal in both formats: everything but arrays."""

    def strip(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return None
        if isinstance(value, dict):
            return {
                k: None if k in ("points", "sigma") or k.startswith("plugin_") else strip(v) for k, v in value.items()
            }
        return [strip(v) for v in value] if isinstance(value, list) else value

    result: wire.Message = strip(message)
    return result


@given(packets(), st.sampled_from(["msgpack", "json"]))
def test_round_trip(packet: Packet, format: wire.Format) -> None:
    sent = wire.message(packet, 5, 2)
    data = wire.encode(sent, format)
    got = wire.decode(data)
    assert _without_points(got) == _without_points(sent)
    wire.FrameMessage.model_validate_json(wire.encode(sent, "json"))
    for before, after in zip(sent["persons"], got["persons"], strict=True):
        for key, digits in (("keypoints_2d", (0.005, 0.005, 0.0005)), ("keypoints_3d", (0.00005,) * 3)):
            if key not in before:
                assert key not in after
                continue
            a, b = before[key]["points"], after[key]["points"]
            assert b.dtype == np.float32
            assert b.shape == a.shape
            assert np.isfinite(b).all()
            if format == "msgpack":
                assert_array_equal(a, b)
            else:
                assert (np.abs(a - b) <= np.array(digits) * 1.01 + np.abs(a) * 1e-6).all()
            assert ("sigma" in before[key]) == ("sigma" in after[key])
            if "sigma" in before[key]:
                assert after[key]["sigma"].dtype == np.float32
                assert after[key]["sigma"].shape == (len(a),)
                np.testing.assert_allclose(after[key]["sigma"], before[key]["sigma"], rtol=1e-6, atol=0.000051)


@given(packets())
def test_json_is_strict_and_one_line(packet: Packet) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} went out")

    data = wire.encode(wire.message(packet, 5, 0), "json")
    json.loads(data, parse_constant=refuse)
    assert b"\n" not in data


def test_a_missing_field_is_named() -> None:
    sent = wire.message(_packet(_person()), 0, 0)
    del sent["seq"], sent["width"]
    with pytest.raises(SourceError, match="seq, width missing"):
        wire.decode(wire.encode(sent, "json"))


def _person(**fields: Any) -> Person:
    return Person(7, "tracked", np.array([1, 2, 30.126, 40], np.float32), 0.91234, **fields)


def _packet(*persons: Person, **fields: Any) -> Packet:
    return Packet("cam", 0, 3, 100, 200, None, 640, 480, persons=list(persons), **fields)


def test_a_joint_that_is_not_a_number_has_no_score() -> None:
    points = np.array([[np.nan, 5, 0.9], [1, 2, np.nan], [3, 4, 1.5]], np.float32)
    kept = points.copy()
    sent = wire.message(_packet(_person(keypoints_2d=Keypoints2D("x", points))), 0, 0)
    assert_array_equal(sent["persons"][0]["keypoints_2d"]["points"], [[0, 0, 0], [0, 0, 0], [3, 4, 1]])
    assert_array_equal(points, kept)


@pytest.mark.parametrize("format", ["msgpack", "json"])
def test_where_the_pelvis_is_goes_out_if_it_is_known(format: wire.Format) -> None:
    def sent(root: Any) -> Any:
        pose = Keypoints3D("h36m17", np.zeros((17, 3), np.float32), 3, root=root)
        message = wire.message(_packet(_person(keypoints_3d=pose)), 0, 0)
        return wire.decode(wire.encode(message, format))["persons"][0]["keypoints_3d"].get("root")

    assert sent(np.array([0.1, -0.25, 4.00004], np.float32)) == [0.1, -0.25, 4.0]
    assert sent(None) is None
    assert sent(np.array([0.1, np.nan, 4], np.float32)) is None


@pytest.mark.parametrize("format", ["msgpack", "json"])
def test_standard_deviations_go_out_if_they_are_known(format: wire.Format) -> None:
    def sent(sigma: Any) -> Any:
        pose = Keypoints3D("h36m17", np.zeros((17, 3), np.float32), 3, sigma=sigma)
        data = wire.encode(wire.message(_packet(_person(keypoints_3d=pose)), 0, 0), format)
        return wire.decode(data)["persons"][0]["keypoints_3d"].get("sigma")

    sigma = np.linspace(0, 0.08, 17, dtype=np.float32)
    np.testing.assert_allclose(sent(sigma), sigma, atol=0.00005)
    assert sent(sigma).dtype == np.float32
    assert sent(None) is None
    assert sent(sigma[:5]) is None
    assert sent(-sigma) is None
    assert sent(np.full(17, np.inf, np.float32)) is None


@pytest.mark.parametrize("sigma", [[0.1], [0.1] * 16 + [-0.1], [0.1] * 16 + [float("nan")], "x", [[0.1]] * 17])
def test_standard_deviations_that_are_none(sigma: Any) -> None:
    pose = Keypoints3D("h36m17", np.zeros((17, 3), np.float32), 3)
    sent = wire.message(_packet(_person(keypoints_3d=pose)), 0, 0)
    sent["persons"][0]["keypoints_3d"]["sigma"] = sigma
    sent["persons"][0]["keypoints_3d"]["points"] = np.zeros((17, 3)).tolist()
    with pytest.raises(SourceError, match="not a streamkp message"):
        wire.decode(msgpack.packb(sent))


def test_a_broken_3d_pose_is_left_out_and_told() -> None:
    pose = Keypoints3D("h36m17", np.full((17, 3), np.inf, np.float32), 3)
    sent = wire.message(_packet(_person(keypoints_3d=pose)), 0, 0)
    assert "keypoints_3d" not in sent["persons"][0]
    assert sent["events"] == [{"type": "invalid", "track": 7, "field": "keypoints_3d"}]


def test_a_broken_box_leaves_the_person_out_and_tells() -> None:
    person = Person(7, "new", np.array([np.nan, 0, 0, 0], np.float32), 1.0)
    sent = wire.message(_packet(person), 0, 0)
    assert sent["persons"] == []
    assert sent["events"] == [{"type": "invalid", "track": 7, "field": "box"}]


def test_plugins_cannot_replace_the_engines_own_fields() -> None:
    sent = wire.message(_packet(_person(extra={"track": 99, "reps": {"count": np.int64(3)}})), 0, 0)
    assert sent["persons"][0]["track"] == 7
    assert sent["persons"][0]["reps"] == {"count": 3}


def test_what_a_plugin_may_not_publish_is_named() -> None:
    with pytest.raises(TypeError, match=r"reps\.when: bytes"):
        wire.message(_packet(_person(extra={"reps": {"when": b"x"}})), 0, 0)


def test_sizes_of_a_usual_message() -> None:
    points = np.random.default_rng(0).random((33, 3), dtype=np.float32)
    person = _person(
        keypoints_2d=Keypoints2D("blazepose33", points * 500), keypoints_3d=Keypoints3D("blazepose33", points, 3)
    )
    sent = wire.message(_packet(person), 0, 0)
    assert len(wire.encode(sent, "msgpack")) < 1200
    assert b"[30.13," not in wire.encode(sent, "json")
    assert b"30.13" in wire.encode(sent, "json")
    raw = msgpack.unpackb(wire.encode(sent, "msgpack"))
    assert raw["persons"][0]["keypoints_3d"]["points"]["shape"] == [33, 3]


def test_unknown_fields_are_kept() -> None:
    sent = wire.message(_packet(_person()), 0, 0) | {"later": {"x": 1}}
    sent["persons"][0]["mood"] = "good"
    for format in ("msgpack", "json"):
        got = wire.decode(wire.encode(sent, format))  # type: ignore[arg-type]
        assert got["later"] == {"x": 1}
        assert got["persons"][0]["mood"] == "good"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"{}", b'{"v":2}', b'{"v":1}', b'{"v":1,"persons":3}', b'{"v":1,"persons":[]}',
        b"\xc1", b"[" * 100_000, b"{" * 9,
        msgpack.packb({"v": 1, "persons": []})[:-1],
    ],
)  # fmt: skip
def test_what_is_not_a_message(data: bytes) -> None:
    with pytest.raises(SourceError, match="not a streamkp message"):
        wire.decode(data)


@pytest.mark.parametrize(
    "points",
    [[[1, 2]], [1, 2, 3], [["x", 2, 3]], [[1, 2, float("nan")]], None, {}, {"shape": [9, 3], "data": b"1234"},
     {"shape": [-1, -1], "data": b"1234"}, {"shape": "1", "data": b"1234"}, {"shape": [2, 2], "data": b"1" * 16}],
)  # fmt: skip
def test_points_that_are_none(points: Any) -> None:
    sent = wire.message(_packet(_person()), 0, 0)
    sent["persons"][0]["keypoints_2d"] = {"skeleton": "x", "points": points}
    with pytest.raises(SourceError, match="not a streamkp message"):
        wire.decode(msgpack.packb(sent))


@given(st.binary(max_size=200))
def test_noise_is_an_error_not_a_crash(data: bytes) -> None:
    with contextlib.suppress(SourceError):
        assert isinstance(wire.decode(data), dict)


@pytest.mark.parametrize(
    "message", [wire.status_message("cam", Status("stalled", "no frame", 7).as_json()), wire.lost_message(3)]
)
@pytest.mark.parametrize("format", ["msgpack", "json"])
def test_other_messages(message: wire.Message, format: wire.Format) -> None:
    assert wire.decode(wire.encode(message, format)) == message


def test_schema_names_every_field() -> None:
    schema = wire.schema()
    status = wire.status_message("cam", Status("live", None, 1).as_json())
    assert set(schema["$defs"]["StatusMessage"]["properties"]) == set(status)
    assert tuple(schema["$defs"]["StatusMessage"]["properties"]["state"]["enum"]) == STATES
    frame = schema["$defs"]["FrameMessage"]
    sent = wire.message(_packet(_person()), 0, 0)
    assert set(frame["properties"]) - {"annotations"} == set(sent) == set(frame["required"])
    assert json.loads(json.dumps(schema)) == schema
    person = schema["$defs"]["PersonMessage"]
    assert "keypoints_3d" not in person["required"]
    assert person["additionalProperties"] is True


def test_drops_are_the_gaps_between_published_frames() -> None:
    counter = wire.DropCounter()
    seqs = [1, 2, 5, 6]
    drops = [counter.count(Packet("a", 0, seq, 0, 0, None, 1, 1)) for seq in seqs]
    assert drops == [1, 0, 2, 0]
    assert sum(drops) + len(seqs) == seqs[-1] + 1
    assert counter.count(Packet("b", 0, 0, 0, 0, None, 1, 1)) == 0
    assert counter.count(Packet("a", 1, 8, 0, 0, None, 1, 1)) == 1
    counter.forget("a")
    assert counter.count(Packet("a", 0, 0, 0, 0, None, 1, 1)) == 0


def test_large_points_survive_json() -> None:
    points = np.array([[3e38, -3e38, 1]], np.float32)
    got = wire.decode(wire.encode(wire.message(_packet(_person(keypoints_2d=Keypoints2D("x", points))), 0, 0), "json"))
    assert_allclose(got["persons"][0]["keypoints_2d"]["points"], points, rtol=1e-6)
    assert math.isfinite(got["persons"][0]["score"])


def test_annotations_are_published_when_there_are_any() -> None:
    packet = _packet(_person())
    assert "annotations" not in wire.message(packet, 0, 0)
    packet.annotations += [
        {"type": "label", "track": np.int64(7), "text": "3 squats"},
        {"type": "line", "points": np.array([[1, 2.126], [3, 4]]), "color": "#ff0000"},
        {"type": "label", "text": "gone", "at": [math.nan, 0]},
    ]  # type: ignore[list-item]
    sent = wire.message(packet, 0, 0)
    assert sent["annotations"] == [
        {"type": "label", "track": 7, "text": "3 squats", "at": None},
        {"type": "line", "points": [[1, 2.13], [3, 4]], "color": "#ff0000"},
    ]
    assert sent["events"] == [{"type": "invalid", "track": None, "field": "annotations"}]
    for format in ("json", "msgpack"):
        assert wire.decode(wire.encode(sent, format))["annotations"] == sent["annotations"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"type": "arrow"}, '"label" or "line"'),
        ({"type": "label", "text": 3}, "not 3"),
        ({"type": "label", "text": "a", "at": [1, 2, 3]}, "x and y"),
        ({"type": "line", "points": [[1, 2]]}, "two or more"),
        ({"type": "line", "points": [[1, 2], [3, 4]], "color": "red"}, "#rrggbb"),
    ],
)
def test_what_is_no_annotation_is_refused(wrong: Any, words: str) -> None:
    packet = _packet()
    packet.annotations.append(wrong)
    with pytest.raises(TypeError, match=words):
        wire.message(packet, 0, 0)
    sent = wire.message(_packet(), 0, 0) | {"annotations": [wrong]}
    with pytest.raises(SourceError, match="no annotation"):
        wire.decode(wire.encode(sent, "json"))
