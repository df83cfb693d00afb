"""Streaming real-time video engine for human keypoints."""

__version__ = "0.1.0"
