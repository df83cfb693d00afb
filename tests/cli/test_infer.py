"""`streamkp infer` on real images, as a user runs it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streamkp.cli.main import app
from streamkp.errors import UsageError
from tests.sources.videos import write_clip


@pytest.fixture(autouse=True)
def _quiet_root_logger() -> Iterator[None]:
    handlers = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = handlers


@pytest.fixture
def photos(assets: Path, tmp_path: Path) -> list[Path]:
    found = sorted((assets / "mmpose_testdata/tests/data/coco").glob("*.jpg"))[:2]
    return [Path(shutil.copy(photo, tmp_path)) for photo in found]


def infer(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["infer", *map(str, arguments)])


def test_many_files_one_of_them_bad_and_then_again(photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    done = infer("body-2d-keypoints", photos[0], bad, photos[1], "--out", out)
    assert done.exit_code == 3
    assert "bad.jpg" in done.output
    assert "2 done, 0 there already, 1 failed" in done.output
    assert sorted(file.name for file in out.iterdir()) == sorted(photo.stem + ".json" for photo in photos)
    result = json.loads((out / f"{photos[0].stem}.json").read_text())
    assert (result["task"], result["model"], result["skeleton"]) == (
        "body-2d-keypoints",
        "blazepose-full",
        "blazepose33",
    )
    assert [len(person) for person in result["keypoints"]] == [33]
    first = (out / f"{photos[0].stem}.json").stat().st_mtime_ns
    (out / f"{photos[1].stem}.json").unlink()
    again = infer("body-2d-keypoints", *photos, "--out", out)
    assert again.exit_code == 0
    assert "1 done, 1 there already, 0 failed" in again.output
    assert (out / f"{photos[0].stem}.json").stat().st_mtime_ns == first


def test_a_video_that_was_cut_off_is_told_and_tried_again(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "walk.avi", frames=30)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    for _ in range(2):
        done = infer("body-2d-keypoints", cut, "--out", tmp_path / "out")
        assert done.exit_code == 3
        assert "cut.avi: only a part: " in done.output
        assert "1 done (1 of them in part), 0 there already, 0 failed" in done.output
    result = json.loads((tmp_path / "out" / "cut.json").read_text())
    assert 0 < len(result["timestamps"]) < 30
    assert result["incomplete"]
    shutil.copy(whole, cut)
    done = infer("body-2d-keypoints", cut, "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert len(json.loads((tmp_path / "out" / "cut.json").read_text())["timestamps"]) == 30


def test_video_and_3d(photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert infer("body-3d-keypoints", photos[0], "--out", out, "--video", "--quiet").exit_code == 0
    result = json.loads((out / f"{photos[0].stem}.json").read_text())
    assert [len(frame) for frame in result["keypoints"]] == [17]
    assert result["timestamps"] == ["00:00:00.000"]
    assert (out / result["output_video"]).stat().st_size > 1000
    everybody = infer("body-3d-keypoints", photos[0], "--out", tmp_path / "all", "--all-persons", "--quiet")
    assert everybody.exit_code == 0
    assert json.loads((tmp_path / "all" / f"{photos[0].stem}.json").read_text())["tracks"] == [[1]]


def test_files_of_one_name_and_results_of_something_else(photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    twin = Path(shutil.copy(photos[1], tmp_path / "b" / photos[0].name))
    out = tmp_path / "out"
    assert infer("body-2d-keypoints", photos[0], twin, "--out", out, "-q").exit_code == 0
    results = [json.loads(file.read_text()) for file in out.iterdir()]
    assert {result["input"] for result in results} == {str(photos[0]), str(twin)}
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{photos[0].stem}.json").write_text('{"task": "something"}')
    refused = infer("body-2d-keypoints", photos[0], "--out", other)
    assert refused.exit_code == 2
    assert "choose another --out" in refused.output.replace("\n", " ")
    assert (other / f"{photos[0].stem}.json").read_text() == '{"task": "something"}'


def test_a_frame_without_the_person_is_null(tmp_path: Path) -> None:
    import av
    import numpy as np

    film = tmp_path / "empty.mp4"
    with av.open(str(film), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((120, 160, 3), 90, np.uint8), format="bgr24")))
        file.mux(stream.encode(None))
    assert infer("body-3d-keypoints", film, "--out", tmp_path / "out", "-q").exit_code == 0
    assert json.loads((tmp_path / "out/empty.json").read_text())["keypoints"] == [None, None, None]


def test_a_result_that_would_be_the_input(photos: list[Path], tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"precious")
    (tmp_path / "out").symlink_to(tmp_path)
    error = infer("body-2d-keypoints", film, "--out", tmp_path / "out", "--video").exception
    assert isinstance(error, UsageError)
    assert "film.mp4" in str(error)
    assert film.read_bytes() == b"precious"


def test_a_video_of_somebody_else_is_left_alone(photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    theirs = out / f"{photos[0].stem}.mp4"
    theirs.write_bytes(b"precious")
    assert infer("body-2d-keypoints", photos[0], "--out", out, "--video").exit_code == 2
    assert theirs.read_bytes() == b"precious"
    assert infer("body-2d-keypoints", photos[0], "--out", out, "--video", "--overwrite").exit_code == 0
    assert theirs.stat().st_size > 1000


def test_other_options_are_another_result(photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert infer("body-2d-keypoints", photos[0], "--out", out).exit_code == 0
    refused = infer("body-2d-keypoints", photos[0], "--out", out, "--tiles", 2)
    assert refused.exit_code == 2
    assert "and options" in refused.output
    assert infer("body-2d-keypoints", photos[0], "--out", out, "--tiles", 2, "--overwrite").exit_code == 0
    assert json.loads((out / f"{photos[0].stem}.json").read_text())["options"] == {"tiles": 2}


def test_a_crowd_of_small_people(tmp_path: Path) -> None:
    crowd = Path(os.environ.get("STREAMKP_SHARED", Path(__file__).parents[3] / "shared")) / "cases"
    crowd = crowd / "small-people-in-a-crowd" / "crowd24.jpg"
    if not crowd.is_file():
        pytest.skip("needs the development folder cases/")
    done = infer("body-2d-keypoints", crowd, "--out", tmp_path, "--tiles", 2)
    assert done.exit_code == 0, done.output
    assert len(json.loads((tmp_path / "crowd24.json").read_text())["keypoints"]) == 24
