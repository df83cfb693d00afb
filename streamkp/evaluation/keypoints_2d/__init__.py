"""Accuracy of 2D keypoints on annotated images."""
