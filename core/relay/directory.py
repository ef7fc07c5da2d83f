"""Which client is on which connection, and who is linked to whom: the truth that the broker keeps.

Every change returns the notices it causes, in the order in which they have to be told. The rules
and the choice of link ids are those of c-toxcore TCP_server.c.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from core.module import ProtocolViolation
from core.relay.limits import FIRST_LINK, LINKS

ROUTING_RESPONSE = 1
CONNECT_NOTICE = 2
DISCONNECT_NOTICE = 3

_ALL_USED = (1 << LINKS) - 1


class Link:
    """One link of a client: the key it asked for, and the other half once both have asked."""

    __slots__ = ("key", "peer", "peer_id")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.peer: Client | None = None
        self.peer_id = 0


class Client:
    """A confirmed client and its links; `serial` is the number of its connection."""

    __slots__ = ("_by_key", "_used", "key", "links", "serial")

    def __init__(self, serial: int, key: bytes) -> None:
        self.serial = serial
        self.key = key
        self.links: dict[int, Link] = {}  # by link id, 16..255
        self._by_key: dict[bytes, int] = {}
        self._used = 0  # bit i: link id 16 + i is given out

    def id_of(self, key: bytes) -> int | None:
        """Returns the link id given out for `key`, or None."""
        return self._by_key.get(key)

    def add(self, key: bytes) -> int:
        """Gives out the lowest free link id for `key`; 0 if all 240 are in use."""
        used = self._used
        if used == _ALL_USED:
            return 0
        bit = ~used & (used + 1)
        link_id = FIRST_LINK + bit.bit_length() - 1
        self.put(link_id, key)
        return link_id

    def put(self, link_id: int, key: bytes) -> None:
        """Gives out a link id that is free."""
        self._used |= 1 << (link_id - FIRST_LINK)
        self.links[link_id] = Link(key)
        self._by_key[key] = link_id

    def drop(self, link_id: int) -> Link | None:
        """Takes a link id back; returns the link that had it."""
        link = self.links.pop(link_id, None)
        if link is not None:
            del self._by_key[link.key]
            self._used &= ~(1 << (link_id - FIRST_LINK))
        return link


class Notice(NamedTuple):
    """A plain frame for one client, and which link came up by it (0: none)."""

    serial: int
    frame: bytes
    peer_serial: int = 0
    peer_id: int = 0


class Directory:
    """All confirmed clients of a relay, by key and by serial."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, Client] = {}
        self._by_serial: dict[int, Client] = {}

    def __len__(self) -> int:
        return len(self._by_serial)

    def rows(self) -> list[tuple[int, bytes, list[tuple[int, bytes, int, int]]]]:
        """Returns everything as plain data: serial, key, and of each link its id, the key asked
        for, and serial and link id of the other half (0, 0: not up)."""
        return [
            (
                client.serial,
                client.key,
                [
                    (link_id, link.key, link.peer.serial if link.peer else 0, link.peer_id)
                    for link_id, link in client.links.items()
                ],
            )
            for client in self._by_serial.values()
        ]

    def restore(
        self, rows: Iterable[tuple[int, bytes, Sequence[tuple[int, bytes, int, int]]]]
    ) -> None:
        """Becomes what `rows` told of another directory; this one is empty."""
        whole = list(rows)
        for serial, key, links in whole:
            client = self._by_key[key] = self._by_serial[serial] = Client(serial, key)
            for link_id, link_key, _, _ in links:
                client.put(link_id, link_key)
        for serial, _, links in whole:
            for link_id, _, peer_serial, peer_id in links:
                peer = self._by_serial.get(peer_serial)
                if peer is not None:
                    link = self._by_serial[serial].links[link_id]
                    link.peer, link.peer_id = peer, peer_id

    def client(self, serial: int) -> Client | None:
        """Returns the confirmed client of a connection."""
        return self._by_serial.get(serial)

    def is_linked(self, serial: int) -> bool:
        """Tells whether the client of a connection has any link, up or asked for."""
        client = self._by_serial.get(serial)
        return client is not None and bool(client.links)

    def find(self, key: bytes) -> Client | None:
        """Returns the client with this key."""
        return self._by_key.get(key)

    def confirm(self, serial: int, key: bytes) -> int | None:
        """Makes a connection a client. Returns the serial of an older one with the same key, which
        the caller has to `remove` (and close) before it calls this again."""
        older = self._by_key.get(key)
        if older is not None:
            return older.serial
        self._by_key[key] = self._by_serial[serial] = Client(serial, key)
        return None

    def route(self, serial: int, key: bytes) -> list[Notice]:
        """Answers a routing request; where both sides have asked, the link comes up.

        The peer's connect notice stands first, so that a worker that serves both knows the peer's
        half when the requester's first data arrives. The requester's notice is the routing
        response, with the peer in it if the link came up: the worker sends the connect notice
        behind it.
        """
        client = self._by_serial[serial]
        known = client.id_of(key)
        if known is not None:
            return [Notice(serial, bytes((ROUTING_RESPONSE, known)) + key)]
        link_id = 0 if key == client.key else client.add(key)
        response = bytes((ROUTING_RESPONSE, link_id)) + key
        peer = self._by_key.get(key) if link_id else None
        peer_id = peer.id_of(client.key) if peer is not None else None
        if peer is None or peer_id is None:
            return [Notice(serial, response)]
        ours, theirs = client.links[link_id], peer.links[peer_id]
        ours.peer, ours.peer_id = peer, peer_id
        theirs.peer, theirs.peer_id = client, link_id
        return [
            Notice(peer.serial, bytes((CONNECT_NOTICE, peer_id)), serial, link_id),
            Notice(serial, response, peer.serial, peer_id),
        ]

    def unlink(self, serial: int, link_id: int) -> list[Notice]:
        """Takes back a link id that its owner gave up. Raises ProtocolViolation for a free one."""
        link = self._by_serial[serial].drop(link_id)
        if link is None:
            raise ProtocolViolation("relay_no_link")
        return self._part(link)

    def remove(self, serial: int) -> list[Notice]:
        """Forgets a client whose connection ended."""
        client = self._by_serial.pop(serial, None)
        if client is None:
            return []
        del self._by_key[client.key]
        notices: list[Notice] = []
        for link_id in sorted(client.links):  # in the reference's order
            notices += self._part(client.links[link_id])
        client.links.clear()
        return notices

    @staticmethod
    def _part(link: Link) -> list[Notice]:
        peer = link.peer
        if peer is None:
            return []
        other = peer.links[link.peer_id]
        other.peer, other.peer_id = None, 0
        link.peer = None
        return [Notice(peer.serial, bytes((DISCONNECT_NOTICE, link.peer_id)))]

    def peer_of(self, serial: int, link_id: int) -> tuple[int, int] | None:
        """Returns serial and link id of the other half of a link that is up."""
        client = self._by_serial.get(serial)
        link = client.links.get(link_id) if client is not None else None
        if link is None or link.peer is None:
            return None
        return link.peer.serial, link.peer_id
