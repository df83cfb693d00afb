"""The numbers that fix the shape of the causal temporal network, for `networks.tcn` and for `lift.tcn`, which runs it
without torch."""

JOINTS = 17  # Human3.6M's
NUMBERS = 4  # of each joint: position x, y, z and the logarithm of its spread
TAPS = 3  # rows that a dilated layer reads
LOOKAHEADS = (0, 2, 5)  # rows that a pose may wait for: one head each
DILATIONS = (0, 1, 3, 9, 27, 0)  # of the layers, in rows; 0: the layer reads one row alone
EPSILON = 1e-6  # added to the mean square before its root is taken
