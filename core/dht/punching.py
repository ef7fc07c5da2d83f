"""Hole punching: which ports to try on the NAT of a searched node, and when."""

from collections import Counter

from core.dht.lists import BAD_NODE_S, NEVER, Client
from core.endpoint import Endpoint, ip_of, is_ipv4, port_of, with_port

MAX_PORTS_A_ROUND = 48  # c-toxcore DHT.c: MAX_PUNCHING_PORTS
PUNCH_INTERVAL_S = 3.0  # c-toxcore DHT.c: PUNCH_INTERVAL
PUNCH_RESET_S = 40.0  # c-toxcore DHT.c: PUNCH_RESET_TIME
MAX_NORMAL_TRIES = 5  # c-toxcore DHT.c: MAX_NORMAL_PUNCHING_TRIES
FIRST_EXTRA_PORT = 1024  # c-toxcore DHT.c: punch_holes
MIN_REPORTS = 4  # c-toxcore DHT.c: do_nat, MAX_FRIEND_CLIENTS / 2
MIN_ROUTERS = 2  # c-toxcore DHT.c: route_to_friend, MAX_FRIEND_CLIENTS / 4
NAT_PING_ID_SIZE = 8


def reported_addresses(clients: list[Client], key: bytes, now: float) -> list[Endpoint]:
    """Returns where the nodes of a search entry say that `key` is; empty if it answers us itself.

    Only the family that more nodes reported, IPv6 if equal (c-toxcore DHT.c: friend_iplist).
    """
    four: list[Endpoint] = []
    six: list[Endpoint] = []
    for client in clients:
        if client.key == key and not client.is_bad(now):
            return []
        for association in client.associations():
            report = association.reported
            if report is not None and association.reported_at + BAD_NODE_S > now:
                (four if is_ipv4(report) else six).append(report)
    return six if len(six) >= len(four) else four


def routers(clients: list[Client], now: float) -> list[list[Endpoint]]:
    """Returns the addresses of each node that recently reported the searched one, IPv4 first."""
    result = []
    for client in clients:
        addresses = [
            association.endpoint
            for association in (client.four, client.six)
            if association is not None
            and association.reported is not None
            and association.reported_at + BAD_NODE_S > now
        ]
        if addresses:
            result.append(addresses)
    return result


class Punching:
    """State of the way to one searched node behind a NAT."""

    def __init__(self) -> None:
        self.nat_ping_id = b""
        """Id of our NAT ping that waits for its answer; each answer makes a new one."""
        self.pinged_at = NEVER  # our last NAT ping
        self.heard_at = NEVER  # the peer's last NAT ping
        self.punched_at = NEVER
        self.answered = False  # the peer answered since the last round
        self.tries = 0
        self._cursor = 0
        self._extra_cursor = 0

    def may_ping(self, now: float) -> bool:
        """Tells whether it is time for the next NAT ping."""
        return self.pinged_at + PUNCH_INTERVAL_S < now

    def may_punch(self, now: float) -> bool:
        """Tells whether both sides try right now: the peer answered and pinged in the last 6 s."""
        return (
            self.answered
            and self.punched_at + PUNCH_INTERVAL_S < now
            and self.heard_at + 2 * PUNCH_INTERVAL_S >= now
        )

    def round(self, reported: list[Endpoint], now: float) -> list[Endpoint]:
        """Returns the endpoints to ping in this round; none if no four nodes agree."""
        counts = Counter(ip_of(endpoint) for endpoint in reported)
        common = next(
            (endpoint for endpoint in reported if counts[ip_of(endpoint)] >= MIN_REPORTS), None
        )
        if common is None:
            return []
        if self.punched_at + PUNCH_RESET_S < now:
            self.tries = self._cursor = self._extra_cursor = 0
        ports = [port_of(other) for other in reported if ip_of(other) == ip_of(common)]
        targets = [with_port(common, port) for port in self._ports(ports)]
        if self.tries > MAX_NORMAL_TRIES:
            targets += [
                with_port(common, (FIRST_EXTRA_PORT + self._extra_cursor + step) & 0xFFFF)
                for step in range(MAX_PORTS_A_ROUND)
            ]
            self._extra_cursor += MAX_PORTS_A_ROUND // 2
        self.tries += 1
        self.punched_at = now
        self.answered = False
        return [target for target in targets if port_of(target)]

    def _ports(self, ports: list[int]) -> list[int]:
        """Returns the ports around those reported: just one if all reports agree."""
        if len(set(ports)) == 1:
            return [ports[0]]
        result = []
        for step in range(self._cursor, self._cursor + MAX_PORTS_A_ROUND):
            distance = step // (2 * len(ports))
            port = ports[(step // 2) % len(ports)]
            result.append((port - distance if step % 2 else port + distance) & 0xFFFF)
        self._cursor += MAX_PORTS_A_ROUND
        return result
