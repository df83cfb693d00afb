"""`rep-counter`: counts the repetitions of an exercise while it happens.

Every person's joint angles and distances become one progress, 0 at rest and 1 at the far end (a weighted median of all
signals and sides, which outvotes a hidden limb). Turning points come from a zigzag with hysteresis, so no knowledge of
the future is needed; a movement there and back then counts if its range, start, duration, visibility and posture fit
the exercise. Less range is a partial repetition. Where the ideas come from: start and leave thresholds apart from each
other, as in ML Kit's pose classification and QuickPose; turning points by reversal, as in rainflow counting
(ASTM E1049); the rest by what users of other counters complained about.
"""

from streamkp_plugins.rep_counter.stage import RepCounter

__all__ = ["RepCounter"]
