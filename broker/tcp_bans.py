"""Streams of those whom the operator has shut out: refused as they come, closed where they are."""

from collections import deque
from typing import TYPE_CHECKING

from broker.tcp_connection import CLOSED, Connection
from core.bans import News
from core.endpoint import Endpoint

if TYPE_CHECKING:
    from broker.tcp import RelayTcp

BY_KEY = "relay_banned_key"
_BY_PREFIX = "relay_banned_prefix"
_A_TURN = 1024  # connections looked at: half a millisecond


class Sweep:
    """Looks through all connections after a ban, a part in each turn."""

    def __init__(self, tcp: "RelayTcp") -> None:
        self._tcp = tcp
        self._rows: deque[Connection] = deque()

    def __bool__(self) -> bool:
        return bool(self._rows)

    def refusal(self, source: Endpoint) -> str | None:
        """Returns why a stream from `source` is refused, or None."""
        bans = self._tcp.hooks.bans
        return _BY_PREFIX if bans.prefixes and bans.covers(source) else None

    def begin(self, news: News, now: float) -> None:
        """Closes those with a key that was banned just now; those of prefixes have their turn."""
        tcp = self._tcp
        for key in news.keys:
            client = tcp.directory.find(key)
            if client is not None:
                tcp.close(tcp.connections[client.serial], BY_KEY, now)
        keys = frozenset(news.keys)
        if keys:
            for row in list(tcp.admission.unconfirmed.values()):
                if row.key in keys:
                    tcp.close(row, BY_KEY, now)
            tcp.pump(now)
        if news.prefixes:
            self.begin_all()

    def begin_all(self) -> None:
        """Looks through all of them, from the beginning."""
        bans = self._tcp.hooks.bans
        if bans.prefixes or bans.keys:
            self._rows = deque(self._tcp.connections.values())

    def run(self, now: float) -> None:
        """Looks at some."""
        rows, tcp = self._rows, self._tcp
        bans = tcp.hooks.bans
        for _ in range(min(_A_TURN, len(rows))):
            row = rows.popleft()
            if row.state == CLOSED:
                continue
            if row.key and row.key in bans.keys:
                tcp.close(row, BY_KEY, now)
            elif bans.covers(row.source):
                tcp.close(row, _BY_PREFIX, now)
