"""What a node does for others, by name; each can be switched off and on while the node runs.

A service that is off is to strangers as if the node had never had it: the reference passes over
datagrams of kinds that nobody has registered for, and so does this node, counting them. It costs
nothing while everything is on: handlers are exchanged, nobody asks about each packet.
"""

from collections import Counter
from collections.abc import Callable, Collection, Container

from core.endpoint import Endpoint

RELAY, ONION, ANNOUNCE, DATA, FORWARD, INFO, LAN = SERVICES = (
    "relay",
    "onion",
    "announce",
    "data",
    "forward",
    "bootstrap-info",
    "LAN",
)

KINDS = {
    ONION: (0x80, 0x81, 0x82, 0x8C, 0x8D, 0x8E),
    ANNOUNCE: (0x83, 0x85, 0x87),
    DATA: (0x93, 0x95, 0x97),
    FORWARD: (0x90, 0x91, 0x92),
    INFO: (0xF0,),
    LAN: (0x21,),
}
"""First bytes of the datagrams that belong to each; the relay has none."""

Handler = Callable[[bytes, Endpoint, float], None]


def reason(service: str) -> str:
    """Returns what is counted for each request to a service that is off."""
    return f"service_off:{service}"


def refusing(service: str, drops: Counter[str]) -> Handler:
    """Returns a handler that counts a datagram and does nothing."""
    why = reason(service)

    def refuse(packet: bytes, source: Endpoint, now: float) -> None:
        drops[why] += 1

    return refuse


def refusals(
    off: Collection[str], kinds: Container[int], drops: Counter[str]
) -> dict[int, Handler]:
    """Returns handlers that count, for those of the `kinds` that belong to services that are off.
    """
    return {
        kind: refusing(service, drops)
        for service in off
        for kind in KINDS.get(service, ())
        if kind in kinds
    }
