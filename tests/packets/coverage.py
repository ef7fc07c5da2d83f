"""Where the packets between two identities are tried."""

from core.packets import messenger, net_crypto
from core.wire import Packet, Record

_DECLARED = [
    cls
    for family in (net_crypto, messenger)
    for cls in vars(family).values()
    if isinstance(cls, type) and issubclass(cls, Record) and cls.__module__ == family.__name__
]
OF_SESSIONS = tuple(cls for cls in _DECLARED if issubclass(cls, Packet))
"""What net_crypto sends over UDP and through relays."""
IN_SESSIONS = tuple(
    cls
    for cls in _DECLARED
    if cls.MAX_SIZE and not issubclass(cls, Packet) and not cls.__name__.endswith("Body")
)
"""What is said inside sessions."""
