"""Errors that people read, and the exit code of each.

Every error that a user can cause is a `StreamkpError`: its text says what was wrong, where, and what to do.
The command line prints that text without a traceback and exits with `exit_code`.
"""

from __future__ import annotations


class StreamkpError(Exception):
    """Base of all errors meant for the user."""

    exit_code = 1


class UsageError(StreamkpError):
    """A graph file, option or argument is wrong, or a stage could not be opened."""

    exit_code = 2


class SourceError(StreamkpError):
    """A video source cannot be opened, or broke before its end."""

    exit_code = 3


class ModelError(StreamkpError):
    """A model is unknown, cannot be fetched, or its file is not what it should be."""

    exit_code = 4


class OutputError(StreamkpError):
    """A result cannot be written or published: disk full, port in use, broker refused."""

    exit_code = 5
