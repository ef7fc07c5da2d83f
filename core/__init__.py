"""Tox itself, without sockets, clocks, files or processes (only `core.link` touches the system)."""
