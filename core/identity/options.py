"""How an identity reaches others."""

from dataclasses import dataclass

from core.endpoint import Endpoint
from core.packets.nodes import NodeInfo
from core.relay_client import Proxy
from core.relay_client.choosing import STANDING


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an identity reaches others."""

    udp: bool = True
    """False: by relays alone, so that nobody but these learns our address."""
    has_ipv4: bool = True
    has_ipv6: bool = True
    lan_discovery: bool = False
    lan_targets: tuple[Endpoint, ...] = ()
    bootstrap: tuple[NodeInfo, ...] = ()
    """Nodes to begin with: of the DHT, and relays (`tcp`)."""
    serves: bool = True
    """Whether it is a whole node: a hop of others' onion paths that keeps their announcements, as
    they expect of everybody whom they know by the DHT."""
    standing_relays: int = STANDING
    """Relays that are connected though nobody needs them, so that others find us there."""
    proxy: Proxy | None = None
    """Through which relays are reached; no datagram is sent then, for it would go around it."""
