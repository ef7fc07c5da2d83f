"""What the two halves of an identity tell each other when they live in two processes.

`near` is the half that has the carrier (net_crypto process), `far` the one that has the messenger.
An attachment of a far half to a near one is a *link*: it has a name of its own, and its messages
are counted from 0 in each direction, so that either side knows at once when one was lost on the
way. Then the link is over, and the far half attaches anew.

Every message begins with the identity's public key, the link's name and its number there.
"""

from typing import Any, NamedTuple

from core.messages import message

Row = tuple[Any, ...]
"""A NamedTuple that came through a frame as a plain tuple."""


class FriendRow(NamedTuple):
    """A friend, and how far the far half is with the last session it was told of."""

    key: bytes
    serial: bytes  # of that session, 8 bytes; empty: of none
    upto: int  # the last packet of it that is safe there, -1: none
    passed: Row | None  # core.identity.passing.Passed.row(); None: it did not see that session
    relays: Row  # by which the friend can be reached, as FriendRelays told them


class NodesRow(NamedTuple):
    """Nodes to come back by: rows of (key, endpoint, whether it is a relay)."""

    dht_nodes: Row
    relays: Row
    path_nodes: Row


# From far to near


@message(60)
class Attach(NamedTuple):
    """The first message of a link: which identity, and how it reaches others."""

    identity: bytes
    link: bytes  # 8 bytes, new for each attachment
    number: int  # 0
    secret: bytes  # the identity's own key, 32 bytes
    options: Row  # core.identity.rows.options_row
    ports: tuple[int, int]  # first and last UDP port to try
    hosts: tuple[str, ...]  # addresses to bind
    bootstrap: Row  # nodes to begin with, and relays
    path_nodes: Row  # nodes of the onion paths of an earlier run
    dht_nodes: Row  # nodes that were known when the profile was saved

    def __repr__(self) -> str:
        return f"Attach({self.identity.hex()[:8]}, hidden)"  # it carries a key


@message(61)
class FriendsTold(NamedTuple):
    """Some of the identity's friends; the one that is `last` completes the attachment."""

    identity: bytes
    link: bytes
    number: int
    friends: tuple[Row, ...]  # of FriendRow
    last: bool


@message(62)
class Detach(NamedTuple):
    """The identity goes offline: its sessions are to be ended, and its friends see it at once."""

    identity: bytes
    link: bytes
    number: int


@message(63)
class AddFriend(NamedTuple):
    """A session with this friend is wanted."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes


@message(64)
class RemoveFriend(NamedTuple):
    """It is not any more."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes


@message(65)
class Handed(NamedTuple):
    """Lossless packets for a friend, in order."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    serial: bytes  # of the session they are for
    first: int  # the sequence number of the first: 1, 2, 3... in each session
    packets: tuple[tuple[int, bytes], ...]  # letter (0: none) and packet


@message(66)
class LossyHanded(NamedTuple):
    """A packet for a friend that may be lost."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    serial: bytes
    data: bytes


@message(67)
class OnionSend(NamedTuple):
    """Data to route for somebody through the onion: OnionSent tells how far it came."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    data: bytes


@message(68)
class Stored(NamedTuple):
    """All packets of a session up to this one are handled, and what is to be kept of them is."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    serial: bytes
    upto: int


@message(69)
class Settled(NamedTuple):
    """The far half has seen the end of a session: nothing of it has to be kept."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    serial: bytes


@message(70)
class LossyTaken(NamedTuple):
    """So many packets that may be lost were handled: there is room for as many more."""

    identity: bytes
    link: bytes
    number: int
    handled: int


@message(71)
class BootstrapIdentity(NamedTuple):
    """Nodes to begin with that were found later."""

    identity: bytes
    link: bytes
    number: int
    nodes: Row


# From near to far


@message(75)
class LinkLost(NamedTuple):
    """Nobody knows this link here: a message was lost, or another process has taken over."""

    identity: bytes
    link: bytes
    number: int  # 0: it is not counted


@message(76)
class AttachRefused(NamedTuple):
    """The identity cannot be carried now."""

    identity: bytes
    link: bytes
    number: int  # 0: it is not counted
    reason: str  # for people


@message(77)
class Attached(NamedTuple):
    """The first answer to an attachment; then each session that is up is told, then Complete."""

    identity: bytes
    link: bytes
    number: int
    dht_key: bytes
    port: int  # UDP; 0: without
    connected: bool


@message(78)
class SessionUp(NamedTuple):
    """A session with a friend is up: a new one, or one that was up when the far half attached."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    serial: bytes
    direct: bool
    taken: tuple[int, int]  # core.net_crypto.tags.Progress
    acked: tuple[int, int]
    flying: tuple[tuple[int, int], ...]  # tags with a letter that the friend has not yet
    over: bool  # it has ended since: what came in it is told, and then SessionDown
    passed: Row  # core.identity.passing.Passed.row()


@message(79)
class Complete(NamedTuple):
    """The attachment is answered: sessions that were not told are over."""

    identity: bytes
    link: bytes
    number: int


@message(80)
class SessionDown(NamedTuple):
    """A session is over, and all that came in it was told: Settled answers."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    serial: bytes


@message(81)
class SessionDirect(NamedTuple):
    """UDP carries a session, or only relays do."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    serial: bytes
    direct: bool


@message(82)
class Came(NamedTuple):
    """Lossless packets of a friend, in order: Stored answers."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    serial: bytes
    upto: int  # the session's number of the last of them, or of one behind it
    packets: tuple[bytes, ...]


@message(83)
class LossyCame(NamedTuple):
    """A packet of a friend that may be lost."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    serial: bytes
    data: bytes


@message(84)
class Advanced(NamedTuple):
    """How far a session is with what was handed over."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    serial: bytes
    taken: tuple[int, int]  # (sequence number, letter): they survive the near half
    acked: tuple[int, int]  # the friend has them
    bulk: int  # up to which sequence number bulk data is wanted


@message(85)
class OnionCame(NamedTuple):
    """A friend request that came through the onion."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    data: bytes


@message(86)
class OnionSent(NamedTuple):
    """Through how many nodes data to route has left; 0: that person is not found yet."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    left: int


@message(87)
class Reachable(NamedTuple):
    """Friends can find us now, or not any more."""

    identity: bytes
    link: bytes
    number: int
    connected: bool


@message(88)
class NodesKnown(NamedTuple):
    """Nodes by which the identity comes back after a restart, to be saved."""

    identity: bytes
    link: bytes
    number: int
    nodes: Row  # NodesRow


@message(89)
class FriendRelays(NamedTuple):
    """Relays by which a friend can be reached, for a successor of the near half."""

    identity: bytes
    link: bytes
    number: int
    friend: bytes
    relays: Row
