"""Frames that wait for clients: notices, pings and data, each within its bound."""

from collections import Counter, deque

from broker.tcp_connection import Connection, Peer
from broker.tcp_shard import ShardWork
from core.relay.directory import Notice
from core.relay.frames import FULL, HELD, ROOM
from core.relay.limits import RelayLimits


class Mail:
    """The part of the relay's streams that fills inboxes and watches how full they are."""

    connections: dict[int, Connection]
    works: dict[int, ShardWork]
    full: dict[int, Connection]
    limits: RelayLimits
    drops: Counter[str]
    doomed: deque[tuple[Connection, str]]

    def post(self, notices: list[Notice], now: float) -> None:
        """Puts notices into inboxes; a client with too many of them is closed."""
        for notice in notices:
            connection = self.connections.get(notice.serial)
            if connection is not None:
                peer = (notice.peer_serial, notice.peer_id) if notice.peer_serial else None
                self.post_control(connection, notice.frame, now, peer)

    def post_control(
        self, connection: Connection, frame: bytes, now: float, peer: Peer | None = None
    ) -> None:
        """Puts a control frame into an inbox: data is refused long before these are."""
        if connection.level + len(frame) > self.limits.control_limit:
            self.doomed.append((connection, "relay_control_overflow"))
            return
        connection.post(frame, peer)
        self.works[connection.shard].has_mail(connection)
        self.check_level(connection, now)

    def post_data(self, connection: Connection, frame: bytes, reason: str, now: float) -> None:
        """Puts data into an inbox, or drops it under `reason` when there is no room."""
        if connection.level + len(frame) > self.limits.queue_limit:
            self.drops[reason] += 1
            return
        connection.post(frame, None)
        self.works[connection.shard].has_mail(connection)
        self.check_level(connection, now)

    def check_level(self, connection: Connection, now: float) -> None:
        """Tells all shards when a receiver becomes full, and when it has room again."""
        level = connection.level
        if level <= self.limits.queue_low:
            note = ROOM
        elif level < self.limits.queue_high and connection.note == ROOM:
            return
        else:
            note = FULL if connection.out is not None else HELD
        if note == connection.note:
            return
        if connection.note == ROOM:
            self.full[connection.serial] = connection
        elif note == ROOM:
            del self.full[connection.serial]
        connection.note = note
        for work in self.works.values():
            work.tell(connection.serial, note)
