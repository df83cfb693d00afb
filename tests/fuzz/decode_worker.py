"""Decodes files, one after the other, in a process with bounded memory; says before and after each how it went.

Reads names of files from its standard input; writes `begin NAME`, then `end NAME FRAMES WORDS`.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from streamkp.errors import StreamkpError
from streamkp.graph.clock import Clock
from streamkp.graph.stage import StageContext, StreamContext
from streamkp.sources.decode import Decode

ROOM = 1 << 30  # bytes of address space beyond what the program has when it has loaded everything
MAX_PIXELS = 1920 * 1080


def address_space() -> int:
    """Bytes that this process has mapped."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def decode(path: str) -> tuple[int, str]:
    """Frames that came out, and how it ended."""
    frames = 0
    stream = StreamContext("fuzz", path, Path(path).name, Clock(), live=False)
    try:
        for packet in Decode(Decode.Options(threads=1, max_pixels=MAX_PIXELS), StageContext("decode")).frames(stream):
            assert packet.image is not None
            assert packet.image.shape == (packet.height, packet.width, 3)
            assert packet.width * packet.height <= MAX_PIXELS
            frames += 1
            if frames >= 500:
                return frames, "endless"
    except StreamkpError as error:
        return frames, f"refused: {error}"
    return frames, "whole"


def main() -> None:
    """Until the standard input ends."""
    first = sys.stdin.readline().strip()
    print("begin", first, flush=True)
    print("end", first, *decode(first), flush=True)  # a whole file: everything is loaded now
    limit = address_space() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        name = line.strip()
        print("begin", name, flush=True)
        frames, words = decode(name)
        print("end", name, frames, " ".join(words.split()), flush=True)


if __name__ == "__main__":
    main()
