"""`record-trc`: one person's joints as a TRC file (marker trajectories), for OpenSim.

y is up and 0 on the floor, metres; somebody who faces the camera looks along +z, and has their left along +x.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamkp.plugin import Packet, Person
from streamkp_plugins.mocap.markers import markers
from streamkp_plugins.mocap.motion_file import Counted, MotionFile


class RecordTrc(MotionFile):
    """Writes the joints of one person to a TRC file, which OpenSim reads."""

    options: MotionFile.Options

    def header(self, packet: Packet, person: Person) -> list[str | Counted]:
        found = markers(person)
        self._names = list(found)
        rate = f"{self.options.rate:.2f}"
        axes = "".join(f"\tX{i}\tY{i}\tZ{i}" for i in range(1, len(found) + 1))
        return [
            f"PathFileType\t4\t(X/Y/Z)\t{self.options.path.name}\n"
            "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n"
            f"{rate}\t{rate}\t",
            Counted(),
            f"\t{len(found)}\tm\t{rate}\t1\t",
            Counted(),
            "\nFrame#\tTime\t" + "\t\t\t".join(self._names) + "\t\t\n\t" + axes + "\n\n",
        ]

    def values(self, packet: Packet, person: Person) -> Sequence[float]:
        found = markers(person)
        nowhere = np.full(3, np.nan)
        return [float(value) for name in self._names for value in found.get(name, nowhere)]

    def row(self, number: int, values: Sequence[float]) -> str:
        places = "\t".join("" if value != value else f"{value:.6f}" for value in values)
        return f"{number + 1}\t{number / self.options.rate:.6f}\t{places}\n"
