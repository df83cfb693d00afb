"""2D keypoint models, one file per family."""
