"""The answers that every shard gives: to pings and to nodes requests, on raw slices."""

from core.crypto import SharedKeys, open_sealed, seal
from core.dht.candidates import Proposals
from core.dht.snapshot import NodeSnapshot
from core.endpoint import Endpoint, is_lan
from core.messages import Candidate
from core.module import Context

KIND_PING_REQUEST = 0x00
KIND_PING_RESPONSE = 0x01
KIND_NODES_REQUEST = 0x02
KIND_NODES_RESPONSE = 0x04
PING_SIZE = 82  # kind 1, sender 32, nonce 24, MAC 16, type 1, ping id 8
NODES_REQUEST_SIZE = 113  # kind 1, sender 32, nonce 24, MAC 16, searched key 32, request id 8


class Answers:
    """Answers pings and nodes requests, and notices nodes that might belong into the table."""

    def __init__(self, context: Context, snapshot: NodeSnapshot, keys: SharedKeys) -> None:
        self._out = context.out
        self._entropy = context.entropy
        self._own_key = context.keys.public
        self._keys = keys
        self._snapshot = snapshot
        self._ping_head = bytes([KIND_PING_RESPONSE]) + context.keys.public
        self._nodes_head = bytes([KIND_NODES_RESPONSE]) + context.keys.public
        self._proposals = Proposals()
        self.pings = 0
        self.nodes = 0

    def handle_ping(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Answers 0x00 with 0x01; anything wrong is counted and forgotten."""
        if len(packet) != PING_SIZE:
            return self._refuse("dht_ping_size")
        sender = packet[1:33]
        if sender == self._own_key:
            return self._refuse("dht_own_key")
        shared = self._keys.sender(sender)
        if shared is None:
            return self._refuse("dht_weak_key")
        plain = open_sealed(shared, packet[33:57], packet[57:])
        if plain is None:
            return self._refuse("dht_box")
        if plain[0] != KIND_PING_REQUEST:  # else an answer of ours could be played back to us
            return self._refuse("dht_ping_type")
        nonce = self._entropy.bytes(24)
        sealed = seal(shared, nonce, b"\x01" + plain[1:])
        self._out.send(source, self._ping_head + nonce + sealed)
        self.pings += 1
        return self._consider(sender, source, now)

    def handle_nodes(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Answers 0x02 with 0x04: up to four nodes, or none (as the reference)."""
        if len(packet) != NODES_REQUEST_SIZE:
            return self._refuse("dht_nodes_size")
        sender = packet[1:33]
        if sender == self._own_key:
            return self._refuse("dht_own_key")
        shared = self._keys.sender(sender)
        if shared is None:
            return self._refuse("dht_weak_key")
        plain = open_sealed(shared, packet[33:57], packet[57:])
        if plain is None:
            return self._refuse("dht_box")
        count, nodes = self._snapshot.closest_packed(plain[:32], is_lan(source))
        nonce = self._entropy.bytes(24)
        sealed = seal(shared, nonce, bytes((count,)) + nodes + plain[32:])
        self._out.send(source, self._nodes_head + nonce + sealed)
        self.nodes += 1
        return self._consider(sender, source, now)

    def tidy(self, now: float) -> None:
        """Lets go of what is not needed any more."""
        self._proposals.tidy(now)

    def _refuse(self, reason: str) -> None:
        self._out.drops[reason] += 1

    def _consider(self, key: bytes, source: Endpoint, now: float) -> None:
        """Proposes the sender to dht.0 if it is new and its bucket has room."""
        if now < self._proposals.closed_until:
            return
        snapshot = self._snapshot
        row = snapshot.rows.get(key)
        # A node that is here with another address is worth a check whatever its bucket's state.
        if row is None:
            if not snapshot.has_room(key):
                return
        elif source in (row.endpoint4, row.endpoint6):
            return
        if self._proposals.admit(key, now):
            self._out.tell_shard("dht", 0, Candidate(key, source))
