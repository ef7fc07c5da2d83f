"""State by key goes from one onion shard to another, when shards come or go."""

from core.crypto import KeyPair, SecretKey
from core.endpoint import from_text, pack_compact
from core.entropy import SeededEntropy
from core.link import handover
from core.messages import FilterWanted, KeysStored, StoredFilter
from core.module import Collected, Context
from core.onion import OnionModule
from core.onion.announce_store import DATA_KEY, LIFE_S, ONION_RETURN, SOURCE, Kept
from core.slots import SlotTable
from tests.onion.client import group_announce
from tests.onion.node import START

HOP, HOP6 = from_text("198.51.100.1", 33445), from_text("2001:db8::1", 33445)
CAPACITY = 64
ONE, TWO = SlotTable.even(1), SlotTable.even(1).adding(1)


def shard(number: int) -> OnionModule:
    entropy = SeededEntropy("the node")
    keys = KeyPair.generate(entropy)
    context = Context(
        keys, SecretKey(entropy.bytes(32)), entropy, Collected(), shard=number, started=START
    )
    context.slots["onion"] = TWO
    return OnionModule(context, announce_capacity=CAPACITY)


def key(slot: int) -> bytes:
    return bytes(8) + bytes([slot]) + bytes(23)


def way(slot: int) -> bytes:
    return bytes([slot]) * 177


def move(giver: OnionModule, takers: list[OnionModule], table: SlotTable, now: float) -> None:
    """Does what worker processes do: each taker gets everything that was left."""
    state = giver.share_out(table)
    for taker in takers:
        taker.take_in(handover.take(handover.put(state)), table, now)


def test_a_new_shard_gets_what_is_its_own_and_gives_it_back_when_it_goes() -> None:
    first, second = shard(0), shard(1)
    slots = range(0, 256, 8)
    home = from_text("198.51.100.9", 1)
    for number, slot in enumerate(slots):
        hop = HOP6 if number % 2 else HOP
        at = START + number
        assert first.announces.entries.put(key(slot), hop, way(slot), key(slot + 1), at)
        assert first.data.store.put(key(slot), b"data %d" % slot, START + 200 + number, START)
        announce = group_announce(key(slot), pack_compact(HOP))
        assert first.announces.groups.put(key(slot), announce, home, START + 40)
    now = START + 41
    for _ in range(4):
        second.handle_timer(now)  # makes its filter
    move(first, [second], TWO, now)
    for number, slot in enumerate(slots):
        here, there = (second, first) if TWO.shards[slot] else (first, second)
        entry = here.announces.entries.get(key(slot), now)
        assert entry is not None
        assert entry[SOURCE] == (HOP6 if number % 2 else HOP)
        assert (entry[ONION_RETURN], entry[DATA_KEY]) == (way(slot), key(slot + 1))
        assert there.announces.entries.get(key(slot), now) is None
        data = here.data.store.get(key(slot), now)
        assert data == (b"data %d" % slot, START + 200 + number)
        assert there.data.store.get(key(slot), now) is None
        assert here.announces.groups.newest(key(slot), key(255), now)
        assert not there.announces.groups.newest(key(slot), key(255), now)
    assert len(second.announces.entries) > 8
    second.handle_timer(now + 1)
    assert second.announces.own_filter.snapshot()["announce_filter_keys"] == len(
        second.announces.entries
    )

    move(second, [first], TWO.without(1), now)
    assert (len(second.announces.entries), len(second.announces.groups)) == (0, 0)
    assert len(first.announces.entries) == len(first.announces.groups) == len(slots)
    # They are forgotten in the order in which they were announced, not in that of their coming.
    assert first.announces.entries.expire(START + LIFE_S + 3.5, 100) == 4
    assert first.announces.entries.get(key(0), START + LIFE_S) is None
    assert first.announces.entries.get(key(8 * 4), START + LIFE_S + 3.5) is not None


def test_what_is_here_and_newer_stays_and_what_has_no_room_is_left() -> None:
    first, second = shard(0), shard(1)
    slot = TWO.shards.index(1)
    assert first.announces.entries.put(key(slot), HOP, way(1), key(1), START)
    assert second.announces.entries.put(key(slot), HOP, way(2), key(2), START + 1) is Kept.NEW
    move(first, [second], TWO, START + 2)
    entry = second.announces.entries.get(key(slot), START + 2)
    assert entry is not None
    assert entry[ONION_RETURN] == way(2)
    for number in range(CAPACITY + 8):
        wanted = bytes(9) + number.to_bytes(1, "big") + bytes(22)
        second.announces.entries.put(wanted, HOP, way(3), key(3), START + 2)
        first.announces.entries.put(bytes(1) + wanted[1:], HOP, way(4), key(4), START + 2)
    move(second, [first], ONE, START + 3)
    assert len(first.announces.entries) == CAPACITY


def test_filters_of_others_count_no_more_when_keys_have_moved() -> None:
    module = shard(0)
    module.handle_topology(START)
    others = module.announces.others
    second = shard(1)
    for number in range(4):
        second.handle_timer(START + number / 10)
    out = second.out
    assert isinstance(out, Collected)
    stored = [row for _, _, row in out.told if isinstance(row, KeysStored)]
    module.handle_message(stored[-1], START + 1)  # and so it asks
    second.announces.own_filter.handle_wanted(FilterWanted(0), START + 1)
    told = [row for _, _, row in out.told if isinstance(row, StoredFilter)]
    module.handle_message(told[-1], START + 1)
    assert others.says(1, key(1), START + 1) is False
    module.handle_topology(START + 1)  # somebody was replaced: nothing has moved
    assert others.says(1, key(1), START + 1) is False
    module.context.slots["onion"] = TWO.adding(2)
    module.handle_topology(START + 1)
    assert others.says(1, key(1), START + 1) is None
