"""Lifters: 2D poses to 3D poses."""
