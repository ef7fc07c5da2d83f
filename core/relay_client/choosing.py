"""Which relays are connected to, and which connections are given up: what is needed decides."""

from collections.abc import Iterable

from core.entropy import Entropy
from core.relay_client.relays import Relay, RelayState

STANDING = 3  # relays that are connected though nobody needs them: c-toxcore's kill_nonused_tcp
ONION_RELAYS = 3  # c-toxcore TCP_connection.h: NUM_ONION_TCP_CONNECTIONS
UNUSED_S = 10.0  # c-toxcore TCP_connection.h: TCP_CONNECTION_ANNOUNCE_TIMEOUT


def is_needed(relay: Relay) -> bool:
    """Tells whether the onion uses this relay, or a peer that is awake needs it."""
    return relay.onion or any(peer.wants(relay) for peer in relay.peers.values())


def for_onion(relays: Iterable[Relay]) -> list[Relay]:
    """Returns the connected relays that the onion shall use besides those it has."""
    relays = list(relays)
    room = ONION_RELAYS - sum(relay.onion for relay in relays)
    free = [one for one in relays if one.state is RelayState.CONNECTED and not one.onion]
    free.sort(key=lambda relay: (relay.doubt, relay.connected_at))
    return free[: max(0, room)]


def to_dial(relays: Iterable[Relay], lines: int, standing: int, entropy: Entropy) -> list[Relay]:
    """Returns the idle relays to connect to: those that are needed, and others until `standing`
    of them are there with the `lines` that are open or being opened."""
    idle = [relay for relay in relays if relay.state is RelayState.IDLE]
    needed = [relay for relay in idle if is_needed(relay)]
    room = standing - lines - len(needed)
    if room <= 0:
        return needed
    spare = [
        ((not relay.general, not relay.proven, relay.failures, entropy.below(256)), relay)
        for relay in idle
        if relay not in needed
    ]
    spare.sort(key=lambda row: row[0])
    return needed + [relay for _, relay in spare[:room]]


def to_drop(relays: Iterable[Relay], surplus: int, now: float) -> list[Relay]:
    """Returns up to `surplus` connected relays that had no use for 10 s."""
    if surplus <= 0:
        return []
    unused = [
        relay
        for relay in relays
        if relay.state is RelayState.CONNECTED
        and relay.used_at + UNUSED_S <= now
        and not is_needed(relay)
    ]
    unused.sort(key=lambda relay: (-relay.doubt, relay.general, relay.used_at))
    return unused[:surplus]
