"""Every hot kind: random valid and broken packets have the same effects by both ways.

5,000 of each kind here, and 100,000 in the slow tests. `TOXMESH_EQUALITY_SEED` makes others.
"""

from collections import Counter

import pytest

from core.dht import NodeSnapshot
from core.relay.frames import AHEAD, ANSWER, PAUSED
from tests.equality.declared import REASONS
from tests.equality.declared_relay import CLOSES
from tests.equality.makers import MAKERS
from tests.equality.run import compare, compare_relay

_TARGETS = {"target_family", "target_port_zero", "target_forbidden", "target_private"}
_HOP = {"onion_size", "weak_key", "onion_not_opened", "onion_kind"} | _TARGETS
_BACK = {"onion_size", "onion_payload", "onion_return"}
_ANNOUNCE = {"announce_size", "weak_key", "announce_not_opened", "ping_id"}
_DHT = {"dht_own_key", "dht_weak_key", "dht_box", "dht_wrong_shard"}
SEEN: dict[str, set[str]] = {
    "00": _DHT | {"dht_ping_size", "dht_ping_type"},
    "00 new keys": {"new_key:prefix"},
    "02": _DHT | {"dht_nodes_size"},
    "80": _HOP,
    "81": _HOP,
    "82": _HOP | {"onion_payload"},
    "83 search": _ANNOUNCE,
    "83 first contact": _ANNOUNCE,
    "83 store": _ANNOUNCE | {"announce_store_full"},
    "85": {"data_request_size", "not_announced"},
    "87": _ANNOUNCE | {"group_announce", "group_budget", "group_chats_full"},
    "8c": _BACK,
    "8d": _BACK,
    "8e": _BACK,
}
"""What packets of a kind have to be refused for, or the makers have missed something."""


def _compare(name: str, count: int) -> None:
    seen = compare(name, count)
    assert SEEN[name] <= set(seen), f"never counted: {SEEN[name] - set(seen)}"
    assert count / 4 < seen["answered"] < count


@pytest.mark.parametrize("name", MAKERS)
def test_a_hot_path_does_what_the_declared_packets_say(name: str) -> None:
    _compare(name, 5000)


@pytest.mark.parametrize("name", ["02", "80", "83 search"])
def test_what_is_remembered_to_be_fast_changes_nothing_when_it_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("core.dht.snapshot.MOST_ANSWERS", 7)
    monkeypatch.setattr(NodeSnapshot.__init__, "__defaults__", (7,))  # of the onion module's
    monkeypatch.setattr("core.onion.targets.REMEMBERED", 5)
    _compare(name, 5000)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_a_hot_path_does_so_for_a_hundred_thousand_packets(name: str) -> None:
    _compare(name, 100_000)


def test_every_reason_of_a_declared_packet_is_asked_for() -> None:
    everything = set().union(*SEEN.values())
    assert set(REASONS.values()) <= everything


RELAY_SEEN = {
    "relay_link_down",
    "close frame_box",
    "close frame_size",
    "close no_link",
    *(f"effect {number}" for number in range(6)),
    f"wait {ANSWER}",
    f"wait {PAUSED}",
}
"""What has to happen in any run of relay streams."""


def _compare_relay(count: int) -> Counter[str]:
    seen = compare_relay(count)
    assert set(seen) >= RELAY_SEEN, f"never seen: {RELAY_SEEN - set(seen)}"
    assert count / 2 < seen["received"] < count
    return seen


def test_a_relay_shard_does_what_the_declared_packets_say() -> None:
    _compare_relay(10_000)


@pytest.mark.slow
def test_a_relay_shard_does_so_for_a_hundred_thousand_frames() -> None:
    seen = _compare_relay(160_000)
    assert seen["received"] > 100_000
    rare = {f"close {reason}" for reason in (*CLOSES.values(), "pong_zero", "kind", "hello")}
    rare |= {"relay_receiver_full", f"wait {AHEAD}"}
    assert rare <= set(seen), f"never seen: {rare - set(seen)}"
