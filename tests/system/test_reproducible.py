"""Every clip alone and beside three others, on a busy machine, some of them three times: the records are equal to the
byte. With STREAMKP_ALL_RUNS=1 every clip three times alone and three times beside others, which takes ten minutes.

Left out of the comparison are the times at which a frame was captured and published; lines of different streams may
come in any order.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.system.conftest import Streamkp
from tests.test_reproducible import busy

pytestmark = pytest.mark.system
ALL = os.environ.get("STREAMKP_ALL_RUNS") == "1"
REPEATED = ("sports2d_demo_walk_enter_leave", "squat_single_person", "pose2sim_multi_cam02")
TIMES = re.compile(rb'"(captured_at|published_at)":\d+,')


def streams(record: Path) -> dict[bytes, list[bytes]]:
    """The lines of each stream, without times."""
    lines: dict[bytes, list[bytes]] = {}
    for line in record.read_bytes().splitlines():
        found = re.search(rb'"stream":"([^"]+)"', line)
        assert found is not None
        lines.setdefault(found[1], []).append(TIMES.sub(b"", line))
    return lines


@pytest.mark.timeout(3600)
def test_every_clip_gives_the_same_alone_and_beside_others(streamkp: Streamkp, assets: Path, tmp_path: Path) -> None:
    clips = sorted((assets / "clips").glob("*.mp4"))
    repeated = clips if ALL else [clip for clip in clips if clip.stem in REPEATED]

    def record(name: str, *sources: Path) -> dict[bytes, list[bytes]]:
        path = tmp_path / f"{name}.jsonl"
        named = [argument for source in sources for argument in ("--source", source)]
        done = streamkp("run", "demo", "--no-page", "--control", "off", "--record", path, *named)
        assert done.code == 0, done.err
        return streams(path)

    with busy(2):
        alone = {clip.stem.encode(): record(f"{clip.stem}-0", clip)[clip.stem.encode()] for clip in clips}
        for run in (1, 2):
            for clip in repeated:
                assert record(f"{clip.stem}-{run}", clip) == {clip.stem.encode(): alone[clip.stem.encode()]}
        for run in range(3 if ALL else 1):
            for first in range(0, len(clips), 4):
                four = [clips[i % len(clips)] for i in range(first, first + 4)]
                together = record(f"four-{first}-{run}", *four)
                assert together == {clip.stem.encode(): alone[clip.stem.encode()] for clip in four}
