"""Bytes that nobody should send: at the codecs, at the modules, at an identity, at a running node.

`python -m tests.fuzz codecs|modules|identity|node --count N --seed N`. What goes wrong is told with
the seed that brings it back.
"""
