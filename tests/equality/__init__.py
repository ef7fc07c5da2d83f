"""The hot paths do what the declared packets and the plain rules say, byte for byte.

`rules.py` says the rules of the stores and the table plainly, `declared.py` and
`declared_relay.py` handle packets with the classes of `core.packets` alone, `makers.py` makes valid
and broken packets, and `world.py` gives each to both and compares all effects.
"""
