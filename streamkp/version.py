"""The version of this package, which every part may know."""

__version__ = "0.1.0"
