"""Accuracy of lifters on motion capture."""
