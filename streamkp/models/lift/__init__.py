"""Lifters: 2D poses to 3D poses. `lifters` opens them for live streams, `sequence` for whole sequences."""
