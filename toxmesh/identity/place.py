"""Where a carrier is at work: its sockets and its timer, on an asyncio loop."""

import asyncio
import time
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from core.endpoint import Endpoint
from core.entropy import SystemEntropy
from core.identity import Carrier, EngineOptions, Neighbours
from core.relay_client import Target
from toxmesh.identity.dialer import AsyncDialer
from toxmesh.identity.udp import PortError, UdpPort
from toxmesh.identity.wakes import Wakes


class _Together:
    """What the carriers of one loop share; no two threads have one."""

    def __init__(self) -> None:
        self.entropy = SystemEntropy()
        """One source for all, for it keeps 8 KiB at hand."""
        self.neighbours: dict[tuple[bool, bool], Neighbours] = {}
        """Of those that can send to IPv4, and to IPv6."""


_together: WeakKeyDictionary[asyncio.AbstractEventLoop, _Together] = WeakKeyDictionary()


class CarrierPlace:
    """Runs a carrier until `close`; times are the loop's.

    Who derives from it makes the carrier, with the place as its host, and calls `begin`.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._dialer = AsyncDialer(self._loop)
        self._closed = False
        self._udp: UdpPort | None = None
        self.carrier: Carrier
        """What is at work here."""

    def clock(self) -> tuple[float, float]:
        """Returns the time, and what is to be added to it for Unix seconds."""
        now = self._loop.time()
        return now, time.time() - now

    def entropy(self) -> SystemEntropy:
        """Returns the source of chance of all carriers on this loop."""
        return self._together().entropy

    def neighbours(self, options: EngineOptions) -> Neighbours:
        """Returns what carriers on this loop share that reach the same families of addresses."""
        known = self._together().neighbours
        families = options.has_ipv4, options.has_ipv6
        if families not in known:
            known[families] = Neighbours(self.entropy())
        return known[families]

    def _together(self) -> _Together:
        made = _together.get(self._loop)
        if made is None:
            made = _together[self._loop] = _Together()
        return made

    def begin(self, carrier: Carrier, ports: tuple[int, int], hosts: tuple[str, ...]) -> None:
        """Binds the UDP port, if the carrier uses UDP. Raises PortError where none can be had."""
        self.carrier = carrier
        self._wakes = Wakes(self._loop, carrier.next_timer, self._wake)
        self._dialer.listener = self
        if carrier.options.udp:
            try:
                self._udp = UdpPort(self._loop, self._came, carrier.drops, ports, hosts)
            except PortError:
                carrier.leave()
                raise
        self.plan()

    @property
    def port(self) -> int:
        """The UDP port; 0 without."""
        return 0 if self._udp is None else self._udp.port

    def close(self) -> None:
        """Gives sockets and timer back; nothing is told any more."""
        if self._closed:
            return
        self._closed = True
        self.carrier.leave()
        self._wakes.close()
        if self._udp is not None:
            self._udp.close()
        self._dialer.close()

    # What comes in

    def _came(self, packets: Sequence[bytes], sources: Sequence[Endpoint]) -> None:
        self.carrier.handle_packets(packets, sources, self._loop.time())
        self.plan()

    def handle_connected(self, line: int, now: float) -> None:
        """A relay connection is there."""
        self.carrier.relays.handle_connected(line, now)
        self.plan()

    def handle_bytes(self, line: int, data: bytes, now: float) -> None:
        """Bytes of a relay came."""
        self.carrier.handle_relay_bytes(line, data, now)
        self.plan()

    def handle_writable(self, line: int, now: float) -> None:
        """A relay connection takes bytes again."""
        self.carrier.relays.handle_writable(line, now)
        self.plan()

    def handle_closed(self, line: int, now: float) -> None:
        """A relay connection is gone."""
        self.carrier.relays.handle_closed(line, now)
        self.plan()

    # Time

    def settle(self, now: float) -> None:
        """A turn ends: what it has come to may be told before its datagrams leave."""

    def plan(self) -> None:
        """Sends what waits and sets the timer; to be called after each command to the carrier."""
        if self._closed:
            return
        self.settle(self._loop.time())
        if self._udp is not None:
            self._udp.flush()
        self._wakes.plan()

    def _wake(self, now: float) -> None:
        self.carrier.handle_timer(now)
        self.plan()

    # What the carrier does (core.identity.carrier.CarrierHost)

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        """Sends a datagram with the next flush."""
        if self._udp is not None:
            self._udp.send(endpoint, packet)

    def dial(self, line: int, target: Target) -> None:
        """Opens a connection to a relay."""
        self._dialer.dial(line, target)

    def write(self, line: int, data: bytes) -> int:
        """Sends bytes to a relay."""
        return self._dialer.write(line, data)

    def hang_up(self, line: int) -> None:
        """Closes a connection to a relay."""
        self._dialer.hang_up(line)
