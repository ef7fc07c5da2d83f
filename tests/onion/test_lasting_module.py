"""What an onion shard has kept is there when another process fills its place."""

import mmap
from collections.abc import Callable

import pytest

from core.crypto import KeyPair, SecretKey
from core.endpoint import from_text, pack_compact
from core.entropy import SeededEntropy
from core.link import handover
from core.module import Collected, Context
from core.onion import OnionModule
from core.onion.announce_store import FORM as ANNOUNCE_FORM
from core.onion.data_store import FORM as DATA_FORM
from core.onion.group_store import DEFAULT_BUDGET, MAX_PEERS, MOST
from core.onion.group_store import FORM as GROUP_FORM
from core.onion.group_store import LIFE_S as GROUP_LIFE_S
from core.onion.lasting_rows import size_for
from core.slots import SlotTable
from tests.onion.client import group_announce
from tests.onion.node import START

HOP = from_text("198.51.100.1", 33445)
HOME = from_text("198.51.100.9", 1)
CAPACITY = 40
ONE, TWO = SlotTable.even(1), SlotTable.even(1).adding(1)
STORES = ("announce_entries", "group_chats", "data_entries")


class Memory:
    """What the supervisor keeps for one place."""

    def __init__(self) -> None:
        self.all: mmap.mmap | None = None

    def __call__(self, size: int) -> mmap.mmap:
        if self.all is None:
            self.all = mmap.mmap(-1, size)
        assert len(self.all) == size
        return self.all

    def spoil(self, at: int) -> None:
        """Changes a byte, as if it had not been written yet."""
        assert self.all is not None
        self.all[at] ^= 1


def shard(
    lasting: Callable[[int], mmap.mmap] | None,
    now: float = START,
    number: int = 0,
    table: SlotTable = ONE,
) -> OnionModule:
    """Returns the shard of a process that begins now."""
    entropy = SeededEntropy("the node")
    keys = KeyPair.generate(entropy)
    out = Collected()
    context = Context(keys, SecretKey(entropy.bytes(32)), entropy, out, number, started=START)
    context.lasting = lasting
    context.slots["onion"] = table
    module = OnionModule(context, announce_capacity=CAPACITY)
    module.handle_topology(now)
    return module


def key(slot: int) -> bytes:
    return bytes(8) + bytes([slot]) + bytes(23)


def keep(module: OnionModule, slot: int, now: float = START) -> None:
    """Stores something under a key in each store."""
    way = bytes([slot]) * 177
    assert module.announces.entries.put(key(slot), HOP, way, key(slot), now)
    announce = group_announce(key(slot), pack_compact(HOP))
    assert module.announces.groups.put(key(slot), announce, HOME, now)
    assert module.data.store.put(key(slot), b"content", now + 100.0, now)


def kept(module: OnionModule, now: float) -> list[list[int]]:
    """Returns the slots of the keys that are there, for each store."""
    slots = range(256)
    return [
        [slot for slot in slots if module.announces.entries.get(key(slot), now)],
        [slot for slot in slots if module.announces.groups.peers(key(slot), now)],
        [slot for slot in slots if module.data.store.get(key(slot), now)],
    ]


def test_a_module_counts_what_was_torn_and_says_what_it_took_over() -> None:
    memory = Memory()
    first = shard(memory)
    for slot in range(1, 6):
        keep(first, slot)
    groups_at = size_for(ANNOUNCE_FORM, CAPACITY)
    group_rows = MAX_PEERS * MOST
    data_at = groups_at + size_for(GROUP_FORM, group_rows)
    memory.spoil(3 * ANNOUNCE_FORM.row)
    memory.spoil(groups_at + 4 * GROUP_FORM.row)
    memory.spoil(data_at + 5 * DATA_FORM.row)
    second = shard(memory, START + 2)
    assert second.out.drops == {"announce_torn": 1, "group_torn": 1, "data_torn": 1}
    assert kept(second, START + 3) == [[1, 2, 4, 5], [1, 2, 3, 5], [1, 2, 3, 4]]
    snapshot = second.snapshot()
    for name in ("announces_taken_over", "group_chats_taken_over", "data_entries_taken_over"):
        assert snapshot[name] == 4
    for name in STORES:
        assert snapshot[name] == 4


def test_nothing_is_taken_up_before_the_process_before_is_surely_gone() -> None:
    memory = Memory()
    first = shard(memory)
    keep(first, 1)
    second = OnionModule(first.context, announce_capacity=CAPACITY)  # beside it
    assert [second.snapshot()[name] for name in STORES] == [0, 0, 0]
    keep(first, 2, START + 1)
    second.handle_topology(START + 2)
    second.handle_topology(START + 3)  # others were replaced: no reason to begin again
    assert kept(second, START + 3) == [[1, 2]] * 3
    assert not second.out.drops


def test_all_ends_in_the_successor_when_it_would_have_ended_and_budgets_hold() -> None:
    memory = Memory()
    first = shard(memory)
    for slot in range(20):
        keep(first, slot, START + slot)
    second = shard(memory, START + 21)
    second.handle_timer(START + GROUP_LIFE_S + 4.5)
    assert len(second.announces.groups) == 15
    for number in range(100, 100 + DEFAULT_BUDGET):
        announce = group_announce(key(1), pack_compact(HOP))
        second.announces.groups.put(number.to_bytes(32, "big"), announce, HOME, START + 34.5)
    assert second.out.drops == {"group_budget": 15}
    assert second.data.store.expire(START + 109.0, 100) == 10
    assert second.announces.entries.expire(START + 309.0, 100) == 10


def test_without_memory_from_the_supervisor_a_shard_begins_empty() -> None:
    first = shard(None)
    keep(first, 1)
    second = shard(None, START + 1)
    assert kept(first, START + 1) == [[1]] * 3
    assert kept(second, START + 1) == [[]] * 3


SLOTS = list(range(0, 256, 8))
OURS = [slot for slot in SLOTS if TWO.shards[slot] == 0]
THEIRS = [slot for slot in SLOTS if TWO.shards[slot] == 1]


def filled() -> tuple[Memory, OnionModule]:
    memory = Memory()
    module = shard(memory)
    for slot in SLOTS:
        keep(module, slot)
    return memory, module


def test_who_dies_while_it_shares_out_has_a_successor_that_shares_out_all_of_it() -> None:
    memory, first = filled()
    first.share_out(TWO)  # and dies before this is told
    again = shard(memory, START + 1)
    assert kept(again, START + 1) == [SLOTS] * 3
    state = handover.take(handover.put(again.share_out(TWO)))
    other = shard(Memory(), START + 1, 1, TWO)
    other.take_in(state, TWO, START + 2)
    assert kept(again, START + 2) == [OURS] * 3
    assert kept(other, START + 2) == [THEIRS] * 3


def test_what_was_given_away_is_not_found_again_once_the_new_table_counts() -> None:
    memory, first = filled()
    first.share_out(TWO)
    first.context.slots["onion"] = TWO
    first.handle_topology(START + 1)
    assert kept(shard(memory, START + 2, table=TWO), START + 2) == [OURS] * 3


def test_who_takes_up_what_was_given_away_lets_it_go_when_the_new_table_counts() -> None:
    memory, first = filled()
    first.share_out(TWO)  # this was told, and then it dies
    again = shard(memory, START + 1)
    again.context.slots["onion"] = TWO
    again.handle_topology(START + 2)
    assert kept(again, START + 2) == [OURS] * 3
    assert kept(shard(memory, START + 3, table=TWO), START + 3) == [OURS] * 3


@pytest.mark.parametrize("table", [ONE, TWO])  # the new one may count by then, or not yet
def test_who_dies_after_it_has_taken_in_has_a_successor_that_has_it(table: SlotTable) -> None:
    _, first = filled()
    memory = Memory()
    other = shard(memory, START + 1, 1, ONE)
    other.take_in(handover.take(handover.put(first.share_out(TWO))), TWO, START + 1)
    again = shard(memory, START + 2, 1, table)
    again.context.slots["onion"] = TWO
    again.handle_topology(START + 3)
    assert kept(again, START + 3) == [THEIRS] * 3
