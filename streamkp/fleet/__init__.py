"""Many machines: a supervisor that gives streams to nodes, nodes that run them, and the ways in which they speak."""
