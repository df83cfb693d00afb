"""Person detectors, one file per family."""
