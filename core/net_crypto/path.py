"""Where a peer can be reached directly, and whether it can be at this moment."""

from core.endpoint import Endpoint, is_ipv4, is_lan

ALIVE_S = 8.0  # c-toxcore net_crypto.h: UDP_DIRECT_TIMEOUT
PROBE_S = ALIVE_S / 2  # c-toxcore net_crypto.c: send_packet_to
PROBE_SIZE = 96  # c-toxcore net_crypto.c: send_packet_to; smaller packets try the direct way
NEVER = float("-inf")


class DirectPath:
    """The last known address of each family; LAN v4 is better than v6, and that than other v4."""

    __slots__ = ("_heard4", "_heard6", "_probed_at", "v4", "v6")

    def __init__(self) -> None:
        self.v4: Endpoint | None = None
        self.v6: Endpoint | None = None
        self._heard4 = self._heard6 = self._probed_at = NEVER

    def hint(self, endpoint: Endpoint, now: float) -> bool:
        """Takes an address that others name; tells whether it is a new one.

        An address through which the peer is heard stays, and so does a LAN address that was heard
        of less than 8 s ago (c-toxcore keeps one for ever: a peer that left the LAN is lost to it).
        """
        if is_ipv4(endpoint):
            if self.v4 == endpoint or (self.v4 is not None and self._heard4 + ALIVE_S > now):
                return False
            self.v4, self._heard4 = endpoint, NEVER
        else:
            if self.v6 == endpoint or (self.v6 is not None and self._heard6 + ALIVE_S > now):
                return False
            self.v6, self._heard6 = endpoint, NEVER
        return True

    def heard(self, endpoint: Endpoint, now: float) -> None:
        """An authentic packet came from this address: it is the peer's, and alive."""
        if len(endpoint) == 16:  # IPv4; said so here because this is called for each packet
            if endpoint != self.v4:
                lan_alive = self.v4 is not None and self._heard4 + ALIVE_S > now and is_lan(self.v4)
                if lan_alive:
                    return
                self.v4 = endpoint
            self._heard4 = now
        else:
            self.v6, self._heard6 = endpoint, now

    def alive_until(self) -> float:
        """Returns when the direct way counts as lost if nothing more is heard."""
        return max(self._heard4, self._heard6) + ALIVE_S

    def best(self, now: float) -> Endpoint | None:
        """Returns the best address that is alive, or None: then relays carry the session."""
        v4 = self.v4 if self._heard4 + ALIVE_S > now else None
        if self._heard6 + ALIVE_S <= now:
            return v4
        return v4 if v4 is not None and is_lan(v4) else self.v6

    def all(self) -> list[Endpoint]:
        """Returns all addresses, to be tried when none is alive."""
        return [one for one in (self.v4, self.v6) if one is not None]

    def next_probe(self) -> float:
        """Returns when a small packet tries the direct way again; never without an address."""
        if self.v4 is None and self.v6 is None:
            return float("inf")
        return self._probed_at + PROBE_S

    def to_probe(self, size: int, always: bool, now: float) -> list[Endpoint]:
        """Returns where a packet that goes by relay is sent as well, to wake the direct way."""
        if not always and (size >= PROBE_SIZE or self._probed_at + PROBE_S > now):
            return []
        targets = self.all()
        if targets:
            self._probed_at = now
        return targets
