"""Letters: what is written to a peer by way of the nodes that keep its announcement.

A letter is sealed twice under one nonce: from real key to real key, so that the reader knows who
wrote; and with our real key in front from a temporary key to the reader's data key, so that no node
on the way learns who wrote.
"""

from typing import NamedTuple

from core.crypto import KeyPair, Nonce, PublicKey, SharedKey, open_sealed, precompute, seal
from core.entropy import Entropy
from core.module import ProtocolViolation
from core.onion_client.asker import Asker
from core.onion_client.budget import Budget
from core.onion_client.searching import FriendSearch
from core.packets.announce import (
    NO_RETURN,
    DataToRouteBody,
    DataToRouteRequest,
    DataToRouteResponse,
)
from core.packets.onion import MAX_PAYLOAD_SIZE

MAX_LETTER_SIZE = MAX_PAYLOAD_SIZE - (1 + 32 + 24 + 32 + 16 + 32 + 16)
"""1021 bytes, the id included (c-toxcore onion_client.h: ONION_CLIENT_MAX_DATA_SIZE)."""

# Each letter costs us 31 us before it is known who wrote it. They come by the first hops of our own
# paths; whoever knows no more than our address sends from elsewhere, and uses up no more than this.
KNOWN_RATE, KNOWN_BURST = 32.0, 128
OTHER_RATE, OTHER_BURST = 2.0, 16
STRANGER_RATE, STRANGER_BURST = 5.0, 32
"""Letters of people who are no friends: 31 us more each, and somebody has to look at them."""


class Letter(NamedTuple):
    """An opened letter."""

    sender: PublicKey
    data: bytes
    """At least one byte: the id."""


class Letters:
    """Seals letters, sends them through every node that may pass them on, and opens ours."""

    __slots__ = ("_data", "_entropy", "_known", "_others", "_real", "_strangers")

    def __init__(self, real: KeyPair, data: KeyPair, entropy: Entropy) -> None:
        self._real = real
        self._data = data
        self._entropy = entropy
        self._known = Budget(KNOWN_RATE, KNOWN_BURST)
        self._others = Budget(OTHER_RATE, OTHER_BURST)
        self._strangers = Budget(STRANGER_RATE, STRANGER_BURST)

    def send(self, search: FriendSearch, data: bytes, asker: Asker, now: float) -> int:
        """Sends data through all nodes that keep the friend's announcement; returns how many.

        0 if they are too few, no path is at hand, or the friend's key is of low order.
        """
        storing = search.nodes.storing(now)
        shared = search.letter_key() if storing else None
        if shared is None:
            return 0
        nonce = Nonce(self._entropy.bytes(24))
        temporary = KeyPair.generate(self._entropy)
        text = DataToRouteBody(self._real.public, seal(shared, nonce, data)).encode()
        payloads: dict[bytes, bytes] = {}  # by data key: nearly always one for all nodes
        sent = 0
        for node in storing:
            payload = payloads.get(node.key)
            if payload is None:
                outer = precompute(temporary.secret, node.key)
                if outer is None:
                    continue
                request = DataToRouteRequest(
                    search.key, nonce, temporary.public, seal(outer, nonce, text), NO_RETURN
                )
                payload = payloads[node.key] = request.payload()
            path = asker.path(search.pool, None, now)
            if path is None:
                break
            sent += asker.send(path, node.node.endpoint, payload, now)
        return sent

    def open(
        self, packet: bytes, known_way: bool, friends: dict[PublicKey, FriendSearch], now: float
    ) -> Letter:
        """Opens a data response (86). Raises WireError and ProtocolViolation.

        `known_way` tells whether it came by a first hop or a relay of ours.
        """
        response = DataToRouteResponse.decode(packet)
        if known_way:
            if not self._known.take(now):
                raise ProtocolViolation("onion_client_letters_full")
        elif not self._others.take(now):
            raise ProtocolViolation("onion_client_letters_astray")
        outer = precompute(self._data.secret, response.temporary_key)
        if outer is None:
            raise ProtocolViolation("onion_client_weak_key")
        body = DataToRouteBody.open(outer, response.nonce, response.sealed)
        shared = self._with(body.real_key, friends, now)
        data = open_sealed(shared, response.nonce, body.sealed)
        if data is None:
            raise ProtocolViolation("onion_client_forged")
        return Letter(body.real_key, data)

    def _with(
        self, sender: PublicKey, friends: dict[PublicKey, FriendSearch], now: float
    ) -> SharedKey:
        """Returns the combined key with whoever says that it wrote."""
        friend = friends.get(sender)
        if friend is not None:
            shared = friend.letter_key()
        elif self._strangers.take(now):
            shared = precompute(self._real.secret, sender)
        else:
            raise ProtocolViolation("onion_client_strangers_full")
        if shared is None:
            raise ProtocolViolation("onion_client_weak_key")
        return shared
