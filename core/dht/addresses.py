"""Which addresses that others name may be asked anything, and what we know of our own."""

from collections import Counter
from collections.abc import Iterable

from core.dht.lists import BAD_NODE_S, Client
from core.endpoint import Endpoint, ip_of, is_ipv4, is_lan, port_of

_NOWHERE6 = bytes(16)


def refusal(
    endpoint: Endpoint, from_lan: bool, has_ipv4: bool = True, has_ipv6: bool = True
) -> str | None:
    """Returns why no packet may go to an address that a node named, or None if it may.

    `from_lan` says that the naming node is on a local network itself: nobody outside may make us
    send into ours.
    """
    if not port_of(endpoint):
        return "dht_address_port"
    ip = ip_of(endpoint)
    if is_ipv4(endpoint):
        if not has_ipv4:
            return "dht_address_family"
        if ip[0] == 0 or ip[0] >= 224:  # this network; multicast, reserved and broadcast
            return "dht_address_nowhere"
    else:
        if not has_ipv6:
            return "dht_address_family"
        if ip[0] == 0xFF or ip == _NOWHERE6:
            return "dht_address_nowhere"
    if not from_lan and is_lan(endpoint):
        return "dht_address_lan"
    return None


def own_addresses(clients: Iterable[Client], now: float) -> list[tuple[Endpoint, int]]:
    """Returns the addresses under which good nodes see us, with the number of their voices."""
    voices: Counter[Endpoint] = Counter()
    for client in clients:
        for association in client.associations():
            report = association.reported
            if (
                report is not None
                and association.reported_self
                and association.reported_at + BAD_NODE_S > now
            ):
                voices[report] += 1
    return voices.most_common(8)
