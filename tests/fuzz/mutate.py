"""Damages bytes at random, the same way for the same seed."""

from __future__ import annotations

import random

_EXTREMES = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\0", b"\0\0\0\1", b"\xff\xff", b"\0")


def mutated(data: bytes, seed: int) -> bytes:
    """The bytes with a few things wrong: bits, numbers, pieces missing, twice, in the wrong place, or cut off."""
    chance = random.Random(seed)
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not out:
            break
        # Half of the damage falls on the start, where most formats keep what describes the rest.
        end = len(out) if chance.random() < 0.5 else max(1, min(len(out), 512))
        at = chance.randrange(end)
        size = min(chance.choice((1, 4, 16, 64, 1024)), len(out) - at)
        match chance.randrange(8):
            case 0 | 1:
                out[at] ^= 1 << chance.randrange(8)
            case 2 | 3:
                extreme = chance.choice(_EXTREMES)
                out[at : at + len(extreme)] = extreme
            case 4:
                out[at : at + size] = chance.randbytes(size)
            case 5:
                del out[at : at + size]
            case 6:
                out[at:at] = out[at : at + size]
            case 7:
                if chance.random() < 0.3:
                    del out[at:]
                else:
                    out[at : at + size] = bytes(size)
    return bytes(out)
