"""Equality that does not notice a fault proves nothing: these are noticed in 5,000 packets."""

from collections.abc import Callable
from typing import Any

import pytest

from core import crypto
from core.crypto import MAC_SIZE, SharedKeys
from core.dht.snapshot import KeyIndex, NodeSnapshot
from core.misses import Misses
from core.onion.announce_filters import OwnFilter
from core.onion.announce_store import AnnounceStore
from core.onion.group_store import GroupStore
from core.onion.lasting_rows import Rows
from core.onion.return_keys import ReturnKeys
from core.onion.targets import Targets
from core.onion.timed_auth import TimedAuth
from core.relay.session import Session
from core.relay.shard import RelayShard
from tests.equality.run import SEED, compare, compare_relay
from tests.equality.world import Mismatch
from workers.outbox import WorkerOutbox

Patch = pytest.MonkeyPatch
COUNT = 5000


def _opened_unchecked(shared: bytes, nonce: bytes, sealed: bytes) -> bytes | None:
    """Opens a box and does not mind a wrong MAC."""
    if len(sealed) < MAC_SIZE:
        return None
    key = crypto.SharedKey(shared)
    mask = crypto.seal(key, nonce, bytes(len(sealed) - MAC_SIZE))[MAC_SIZE:]
    return bytes(a ^ b for a, b in zip(sealed[MAC_SIZE:], mask, strict=True))


def _no_macs(patch: Patch, module: str) -> None:
    patch.setattr(f"{module}.open_sealed", _opened_unchecked)


def _farthest_first(patch: Patch) -> None:
    right = NodeSnapshot.closest_packed

    def wrong(self: NodeSnapshot, *arguments: Any) -> tuple[int, bytes]:
        count, packed = right(self, *arguments)
        size = 39 if packed[:1] == b"\x02" else 51
        return count, packed[size:] + packed[:size]

    patch.setattr(NodeSnapshot, "closest_packed", wrong)


def _local_nodes_for_all(patch: Patch) -> None:
    right = NodeSnapshot.closest_packed

    def wrong(self: NodeSnapshot, key: bytes, to_lan: bool, *rest: Any) -> tuple[int, bytes]:
        return right(self, key, True, *rest)

    patch.setattr(NodeSnapshot, "closest_packed", wrong)


def _old_answers(patch: Patch) -> None:
    patch.setattr(KeyIndex, "_forget_answers", lambda _: None)


def _answers_of_others(patch: Patch) -> None:
    right = KeyIndex._depth
    patch.setattr(KeyIndex, "_depth", lambda self, first: max(1, right(self, first) - 1))


def _no_own_key(patch: Patch) -> None:
    from core.dht.answers import Answers

    right = Answers.__init__

    def wrong(self: Any, *arguments: Any) -> None:
        right(self, *arguments)
        self._own_key = bytes(32)

    patch.setattr(Answers, "__init__", wrong)


def _any_port(patch: Patch) -> None:
    right = Targets.refusal

    def wrong(self: Targets, target: Any, from_private: bool) -> str | None:
        reason = right(self, target, from_private)
        return None if reason == "target_port_zero" else reason

    patch.setattr(Targets, "refusal", wrong)


def _one_byte_too_long(patch: Patch) -> None:
    patch.setattr("core.onion.hops.MAX_PACKET", 1401)


def _one_byte_too_short(patch: Patch) -> None:
    patch.setattr("core.onion.hops.MIN_REQUEST_1", 218)


def _any_payload(patch: Patch) -> None:
    patch.setattr("core.onion.hops.REQUEST_PAYLOADS", frozenset(range(256)))


def _any_way_back(patch: Patch) -> None:
    patch.setattr("core.onion.hops.RESPONSE_PAYLOADS", frozenset((0x84, 0x86, 0x88, 0x8D)))


def _returns_live_long(patch: Patch) -> None:
    right = ReturnKeys.open

    def wrong(self: ReturnKeys, nonce: bytes, sealed: bytes, now: float) -> bytes | None:
        plain = right(self, nonce, sealed, now)
        return plain if plain is not None else right(self, nonce, sealed, now - 1200.0)

    patch.setattr(ReturnKeys, "open", wrong)


def _ping_ids_die_young(patch: Patch) -> None:
    patch.setattr(TimedAuth, "made_before", lambda *_: False)


def _entries_live_long(patch: Patch) -> None:
    patch.setattr("core.onion.announce_store.LIFE_S", 320)


def _store_keeps_all(patch: Patch) -> None:
    right = AnnounceStore.__init__

    def wrong(
        self: AnnounceStore, own_key: bytes, capacity: int, rows: Rows | None
    ) -> None:
        right(self, own_key, capacity + 1, rows)

    patch.setattr(AnnounceStore, "__init__", wrong)


def _new_keys_are_not_told(patch: Patch) -> None:
    right = OwnFilter.add

    def wrong(self: OwnFilter, key: bytes) -> None:
        right(self, key)
        self._pending.clear()

    patch.setattr(OwnFilter, "add", wrong)


def _peers_hear_of_themselves(patch: Patch) -> None:
    right = GroupStore.newest

    def wrong(self: GroupStore, chat_id: bytes, asker: bytes, now: float) -> list[bytes]:
        return right(self, chat_id, bytes(32), now)

    patch.setattr(GroupStore, "newest", wrong)


def _newest_first(patch: Patch) -> None:
    right = Misses.take

    def wrong(self: Misses, count: int) -> list[Any]:
        return right(self, count)[::-1]

    patch.setattr(Misses, "take", wrong)


def _nobody_waits(patch: Patch) -> None:
    patch.setattr(SharedKeys, "sender", SharedKeys.get)


def _one_socket_for_all(patch: Patch) -> None:
    right = WorkerOutbox.begin
    patch.setattr(WorkerOutbox, "begin", lambda self, _: right(self, -1))


FAULTS: list[tuple[str, Callable[[Patch], None]]] = [
    ("00", lambda patch: _no_macs(patch, "core.dht.answers")),
    ("80", lambda patch: _no_macs(patch, "core.onion.hops")),
    ("83 search", lambda patch: _no_macs(patch, "core.onion.announce")),
    ("00", _no_own_key),
    ("00", _one_socket_for_all),
    ("00 new keys", _newest_first),
    ("00 new keys", _nobody_waits),
    ("02", _farthest_first),
    ("02", _local_nodes_for_all),
    ("02", _old_answers),
    ("02", _answers_of_others),
    ("80", _any_port),
    ("80", _one_byte_too_long),
    ("81", _one_byte_too_short),
    ("82", _any_payload),
    ("8d", _any_way_back),
    ("8c", _returns_live_long),
    ("83 store", _ping_ids_die_young),
    ("83 store", _entries_live_long),
    ("83 store", _store_keeps_all),
    ("83 search", _farthest_first),
    ("83 search", _new_keys_are_not_told),
    ("87", _new_keys_are_not_told),
    ("85", _entries_live_long),
    ("87", _peers_hear_of_themselves),
]
_NAMES = [f"{name}{fault.__name__}" for name, fault in FAULTS]


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=_NAMES)
def test_a_fault_in_a_hot_path_is_noticed(
    monkeypatch: Patch, name: str, fault: Callable[[Patch], None]
) -> None:
    fault(monkeypatch)
    with pytest.raises(Mismatch, match=f"seed '{SEED} {name} "):
        compare(name, COUNT)


def test_an_exception_that_no_packet_may_cause_is_a_mismatch(monkeypatch: Patch) -> None:
    def broken(shared: bytes, nonce: bytes, sealed: bytes) -> bytes | None:
        raise IndexError("this bug")

    monkeypatch.setattr("core.onion.hops.open_sealed", broken)
    with pytest.raises(Mismatch, match="IndexError: this bug"):
        compare("80", COUNT)


def _no_room_is_room(patch: Patch) -> None:
    patch.setattr("core.relay.shard.has_room", lambda *_: True)


def _one_link_for_another(patch: Patch) -> None:
    right = RelayShard._partner

    def wrong(self: RelayShard, session: Session, link_id: int) -> tuple[Session | None, int]:
        other, peer_id = right(self, session, link_id)
        return other, peer_id ^ (other is not None and peer_id > 17)

    patch.setattr(RelayShard, "_partner", wrong)


def _nonces_begin_anew(patch: Patch) -> None:
    patch.setattr("core.relay.shard.NONCE_MASK", (1 << 188) - 1)


def _pong_to_anything(patch: Patch) -> None:
    from core.relay import packets

    def wrong(shard: RelayShard, session: Session, plain: bytes, now: float) -> int:
        shard.seal(session, b"\x05" + plain[1:])
        return 0

    patch.setitem(packets._HANDLERS, packets.PING, wrong)


@pytest.mark.parametrize(
    "fault", [_no_room_is_room, _one_link_for_another, _nonces_begin_anew, _pong_to_anything]
)
def test_a_fault_in_a_relay_shard_is_noticed(
    monkeypatch: Patch, fault: Callable[[Patch], None]
) -> None:
    fault(monkeypatch)
    with pytest.raises(Mismatch, match=f"seed '{SEED} relay "):
        compare_relay(3 * COUNT)


def test_a_mismatch_shows_seed_packet_and_what_was_done_to_it(monkeypatch: Patch) -> None:
    _any_port(monkeypatch)
    with pytest.raises(Mismatch) as caught:
        compare("80", COUNT)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"seed '{SEED} 80 ")
    (blamed,) = [line for line in lines if line.startswith("target_port_zero for 80 to ")]
    assert " port 0 from " in blamed
    assert " · 80" in blamed
    assert "the batch:" in lines
