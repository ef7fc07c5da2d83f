"""Who may connect: counts by address and prefix; a flood starves only where it comes from."""

import resource

from broker.hooks import BrokerHooks
from broker.tcp_connection import Connection
from core.relay.limits import RelayLimits

_ROLES = ("dht", "onion", "relay", "net_crypto", "messenger")  # that have workers
_WORKER_DESCRIPTORS = 4  # two of the outlet, one in the inlet, and one more while it is replaced


def most_connections(limits: RelayLimits, hooks: BrokerHooks) -> int:
    """Returns how many connections there may be: descriptors are for links to workers as well."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return limits.connections
    tables = [table for role in _ROLES if (table := hooks.slots(role)) is not None]
    workers = sum(len(set(table.shards)) for table in tables)
    reserved = limits.reserved_descriptors + _WORKER_DESCRIPTORS * workers
    return max(1, min(limits.connections, limit - reserved))


class Admission:
    """Connections by address, by prefix, and the unconfirmed ones in the order they came."""

    def __init__(self, limits: RelayLimits) -> None:
        self.limits = limits
        self._by_address: dict[bytes, int] = {}
        self._by_prefix: dict[bytes, int] = {}
        self._unconfirmed_by: dict[bytes, int] = {}
        self.unconfirmed: dict[int, Connection] = {}  # by serial, the oldest first

    def refusal(self, address: bytes, prefix: bytes) -> str | None:
        """Returns why a new connection is refused, or None."""
        limits = self.limits
        count = self._by_address.get(address, 0)
        if limits.per_address and count >= limits.per_address:
            return "relay_per_address"
        if limits.per_prefix and self._by_prefix.get(prefix, 0) >= limits.per_prefix:
            return "relay_per_prefix"
        most = limits.unconfirmed_per_address
        if most and count >= most and self._unconfirmed_by.get(address, 0) >= most:
            return "relay_unconfirmed_per_address"
        return None

    def most_of_an_address(self) -> int:
        """Returns how many connections the address with the most of them has."""
        return max(self._by_address.values(), default=0)

    def most_of_a_prefix(self) -> int:
        """Returns the same of a prefix."""
        return max(self._by_prefix.values(), default=0)

    def most_unconfirmed_of_an_address(self) -> int:
        """Returns the same of an address, for unconfirmed ones."""
        return max(self._unconfirmed_by.values(), default=0)

    def add(self, connection: Connection) -> Connection | None:
        """Counts a new connection; returns the oldest unconfirmed one if that has to go for it."""
        address, prefix = connection.address, connection.prefix
        self._by_address[address] = self._by_address.get(address, 0) + 1
        self._by_prefix[prefix] = self._by_prefix.get(prefix, 0) + 1
        self._unconfirmed_by[address] = self._unconfirmed_by.get(address, 0) + 1
        self.unconfirmed[connection.serial] = connection
        if self.limits.unconfirmed and len(self.unconfirmed) > self.limits.unconfirmed:
            return next(iter(self.unconfirmed.values()))
        return None

    def confirmed(self, connection: Connection) -> None:
        """Takes a connection out of the unconfirmed ones."""
        if self.unconfirmed.pop(connection.serial, None) is not None:
            _lower(self._unconfirmed_by, connection.address)

    def remove(self, connection: Connection) -> None:
        """Forgets a connection."""
        self.confirmed(connection)
        _lower(self._by_address, connection.address)
        _lower(self._by_prefix, connection.prefix)


def _lower(counts: dict[bytes, int], name: bytes) -> None:
    left = counts.get(name, 0) - 1
    if left > 0:
        counts[name] = left
    else:
        counts.pop(name, None)
