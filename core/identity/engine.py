"""The engine of one identity in one process: its carrier and its messenger together.

Datagrams and bytes of relay connections go in; datagrams, bytes, dials and events come out by the
host. Nothing here knows a socket or a clock.
"""

from dataclasses import replace
from typing import Protocol

from core.crypto import PublicKey
from core.entropy import Entropy
from core.identity.carrier import Carrier, CarrierHost, KnownNodes
from core.identity.neighbours import Neighbours
from core.identity.options import EngineOptions
from core.messenger.events import Event, IdentityConnected
from core.messenger.module import Messenger
from core.savedata.profile import Profile


class EngineHost(CarrierHost, Protocol):
    """Who owns the sockets of an identity, and hears its events."""

    def event(self, event: Event | IdentityConnected, now: float) -> None:
        """Something happened that a person or program wants to know."""
        ...


class Engine(Carrier):
    """One identity. Its DHT keys are new at each start, as the protocol wants."""

    def __init__(
        self,
        profile: Profile,
        entropy: Entropy,
        host: EngineHost,
        now: float,
        unix_offset: float,
        options: EngineOptions | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        """`unix_offset` is what has to be added to `now` for Unix seconds, `neighbours` what the
        identities of this process share."""
        super().__init__(
            profile.keys,
            entropy,
            host,
            now,
            unix_offset,
            options := options or EngineOptions(),
            profile.dht_nodes,
            neighbours=neighbours,
        )
        self._tell = host.event
        self.listener = self
        self.messenger = Messenger(
            profile, self.friends, self.onion, host, entropy, self.drops, now, unix_offset
        )
        self.friends.listener = self.messenger
        self.keep_time_for(self.messenger, *self.messenger.clocks())
        self.bootstrap((*options.bootstrap, *profile.relays), now)
        self.bootstrap(profile.path_nodes, now, saved=True)

    # What the carrier tells (core.identity.carrier.CarrierListener)

    def friend_request(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Somebody sent a friend request."""
        self.messenger.onion_data(real_key, data, now)

    def reachable(self, connected: bool, now: float) -> None:
        """Friends can find us now, or not any more."""
        self._tell(IdentityConnected(connected), now)

    # To disk

    def profile(self, now: float) -> Profile:
        """Returns the identity as it is to be saved, with nodes to come back by."""
        return with_nodes(self.messenger.profile(now), self.known_nodes())


def with_nodes(profile: Profile, known: KnownNodes) -> Profile:
    """Returns a profile with the nodes that are known; kinds of which there is none stay."""
    return replace(
        profile,
        dht_nodes=known.dht_nodes or profile.dht_nodes,
        relays=known.relays or profile.relays,
        path_nodes=known.path_nodes or profile.path_nodes,
    )
