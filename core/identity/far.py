"""The far half of an identity: its messenger, while another process has its carrier.

Messages of the near half (`core.identity.near`) go in, and messages to it and events come out by
the host. Whoever runs an `Engine` runs this in its place.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from core.crypto import PublicKey
from core.entropy import Entropy
from core.identity.engine import with_nodes
from core.identity.far_carrier import MOST_BYTES, FarCarrier, FarHost
from core.identity.options import EngineOptions
from core.messenger.module import Messenger
from core.net_crypto.memory import HeldMemory
from core.packets.nodes import NodeInfo
from core.savedata.profile import Profile

__all__ = ["FarEngine", "FarHost"]


class _Onion:
    """The onion client of the carrier (core.messenger.parts.OnionData)."""

    def __init__(self, carrier: FarCarrier) -> None:
        self._carrier = carrier

    def send(self, real_key: PublicKey, data: bytes, now: float) -> int:
        """Has data sent."""
        return self._carrier.send_onion(real_key, data)


class FarEngine:
    """One identity without its carrier."""

    def __init__(
        self,
        profile: Profile,
        entropy: Entropy,
        host: FarHost,
        now: float,
        unix_offset: float,
        options: EngineOptions,
        ports: tuple[int, int],
        hosts: tuple[str, ...],
        memory: HeldMemory | None = None,
    ) -> None:
        """`unix_offset` is what has to be added to `now` for Unix seconds; the carrier is to have a
        UDP port of `ports` (first, last) at the addresses `hosts`. All identities of a process
        share one `memory`."""
        self.options = options
        self.drops: Counter[str] = Counter()
        """What was refused, by reason."""
        self.carrier = FarCarrier(
            profile, entropy, host, options, ports, hosts, self.drops,
            memory or HeldMemory(MOST_BYTES),
        )  # fmt: skip
        self.messenger = Messenger(
            profile,
            self.carrier,
            _Onion(self.carrier),
            host,
            entropy,
            self.drops,
            now,
            unix_offset,
        )
        self.carrier.listener = self.messenger
        self.carrier.attach(now)

    @property
    def connected(self) -> bool:
        """Whether friends can find us."""
        return self.carrier.connected

    @property
    def port(self) -> int:
        """The UDP port; 0 without, or before it is known."""
        return self.carrier.port

    @property
    def refused(self) -> str:
        """Why the identity cannot be carried, for people; empty: it is."""
        return self.carrier.refused

    def bootstrap(self, nodes: Sequence[NodeInfo], now: float) -> None:
        """Takes nodes to begin with: of the DHT, and relays (`tcp`)."""
        self.carrier.bootstrap(nodes)

    # What comes in

    def handle_message(self, message: Any, now: float) -> None:
        """Takes what the near half tells."""
        self.carrier.handle_message(message, now)
        self.settle(now)

    def carrier_gone(self, now: float) -> None:
        """The process of the carrier is another one: attaches to that."""
        self.carrier.lost(now)

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        for part in (self.carrier, self.messenger):
            when = part.next_timer()
            if when is not None and when <= now:
                part.handle_timer(now)
        self.settle(now)

    def next_timer(self) -> float | None:
        """Returns when handle_timer wants to be called next."""
        parts = (self.carrier, self.messenger)
        due = [when for part in parts if (when := part.next_timer()) is not None]
        return min(due, default=None)

    def settle(self, now: float) -> None:
        """Tells the near half what was handed over; to be called after each command."""
        self.carrier.settle()

    # End

    def shut_down(self, now: float) -> None:
        """Ends all sessions, so that friends see at once that we are gone; to be saved before.

        Without it they live on, for the next process that has this identity's messenger.
        """
        self.carrier.detach()

    # To disk

    def profile(self, now: float) -> Profile:
        """Returns the identity as it is to be saved, with nodes to come back by."""
        return with_nodes(self.messenger.profile(now), self.carrier.known)
