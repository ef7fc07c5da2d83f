"""NAT boxes: who may send to a mapped port, and which port a destination sees."""

from enum import Enum

from core.endpoint import Endpoint, ip_of, port_of, with_port


class NatKind(Enum):
    """The four classic kinds (RFC 3489, section 5)."""

    FULL_CONE = "full cone"  # one port for all; anybody may send to it
    RESTRICTED = "restricted"  # one port; addresses that were sent to may send
    PORT_RESTRICTED = "port restricted"  # one port; endpoints that were sent to may send
    SYMMETRIC = "symmetric"  # a port for each destination, which alone may send to it


class NatBox:
    """One NAT with one public IPv4 address; ports are handed out in ascending order."""

    def __init__(
        self, kind: NatKind, public: Endpoint, mapping_s: float = 60.0, first_port: int = 40_000
    ) -> None:
        self.kind = kind
        self.public = public
        """The public address; its port is not used."""
        self._mapping_s = mapping_s
        self._next_port = first_port
        self._ports: dict[tuple[Endpoint, Endpoint | None], int] = {}
        self._inside: dict[int, Endpoint] = {}
        self._allowed: dict[tuple[int, bytes], float] = {}  # port and permission, until when
        self._until: dict[int, float] = {}

    def _permission(self, peer: Endpoint) -> bytes:
        if self.kind is NatKind.FULL_CONE:
            return b""
        return ip_of(peer) if self.kind is NatKind.RESTRICTED else peer

    def outward(self, inside: Endpoint, peer: Endpoint, now: float) -> Endpoint:
        """Returns the public endpoint that `peer` sees for a packet from `inside`."""
        mapping = (inside, peer if self.kind is NatKind.SYMMETRIC else None)
        port = self._ports.get(mapping)
        if port is None or self._until[port] < now:
            port = self._next_port
            self._next_port += 1
            self._ports[mapping] = port
            self._inside[port] = inside
        self._until[port] = now + self._mapping_s
        self._allowed[port, self._permission(peer)] = now + self._mapping_s
        return with_port(self.public, port)

    def inward(self, public: Endpoint, peer: Endpoint, now: float) -> Endpoint | None:
        """Returns who gets a packet from `peer` to a public endpoint of this NAT; None: nobody."""
        port = port_of(public)
        if self._until.get(port, -1.0) < now:
            return None
        if self._allowed.get((port, self._permission(peer)), -1.0) < now:
            return None
        return self._inside[port]
