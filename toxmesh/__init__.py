"""Tox node on worker processes: command line, settings, supervisor and the files on disk."""

__version__ = "0.1.0"
