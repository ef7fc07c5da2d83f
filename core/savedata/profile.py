"""An identity at rest: its keys, friends and all else that a save file of a Tox client holds.

Texts are bytes as they came over the wire: UTF-8 by agreement, but nobody checks that.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum

from core.crypto import KeyPair, PublicKey
from core.entropy import Entropy
from core.packets.nodes import NodeInfo
from core.tox_id import NOSPAM_SIZE, ToxId


class UserStatus(IntEnum):
    """What a person says of being there.  Spec: USERSTATUS (0x32)."""

    ONLINE = 0
    AWAY = 1
    BUSY = 2


class FriendState(IntEnum):
    """How far it is with a friend.  c-toxcore Messenger.h: FRIEND_ADDED and those behind it."""

    ADDED = 1
    """The friend request has not been sent yet."""
    REQUESTED = 2
    """The friend request was sent, and the friend has not come online since."""
    CONFIRMED = 3
    """Both have added each other, or we hope so."""


@dataclass(frozen=True, slots=True)
class SavedFriend:
    """A friend, and what it last said of itself."""

    key: PublicKey
    state: FriendState = FriendState.CONFIRMED
    name: bytes = b""
    """At most 128 bytes."""
    status_message: bytes = b""
    """At most 1,007 bytes."""
    status: UserStatus = UserStatus.ONLINE
    nospam: bytes = bytes(NOSPAM_SIZE)
    """With which our friend request is sent, until the friend has taken it."""
    request_text: bytes = b""
    """The text of our friend request, 1-921 bytes; empty for a friend added by key."""
    last_seen: int = 0
    """Unix seconds; 0: never."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a save file that is kept as it is, for the program that knows it."""

    kind: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Profile:
    """An identity: a value, handed out and taken in whole."""

    keys: KeyPair
    """The long-term ("real") keys."""
    nospam: bytes
    """4 bytes, in the order of the Tox ID."""
    name: bytes = b""
    status_message: bytes = b""
    status: UserStatus = UserStatus.ONLINE
    friends: tuple[SavedFriend, ...] = ()
    dht_nodes: tuple[NodeInfo, ...] = ()
    relays: tuple[NodeInfo, ...] = ()
    """TCP relays we were connected to, at most 8."""
    path_nodes: tuple[NodeInfo, ...] = ()
    """DHT nodes for onion paths, at most 8."""
    groups: bytes = b""
    """The section of NGC groups (type 7), not looked into; empty: there was none."""
    conferences: bytes = b""
    """The section of conferences (type 20), not looked into; empty: there was none."""
    others: tuple[Section, ...] = ()
    """Sections of types that nobody here knows, in their order."""
    order: tuple[int, ...] = field(default=(), compare=False)
    """The types of all sections in the order of the file it came from; empty: of no file."""

    @classmethod
    def generate(cls, entropy: Entropy, name: bytes = b"") -> "Profile":
        """Makes a new identity."""
        keys = KeyPair.generate(entropy)
        return cls(keys=keys, nospam=entropy.bytes(NOSPAM_SIZE), name=name)

    @property
    def tox_id(self) -> ToxId:
        """By which others find this identity."""
        return ToxId(self.keys.public, self.nospam)

    def with_new_nospam(self, entropy: Entropy) -> "Profile":
        """Returns it with another nospam: requests to the old Tox ID are not taken any more."""
        return replace(self, nospam=entropy.bytes(NOSPAM_SIZE))
