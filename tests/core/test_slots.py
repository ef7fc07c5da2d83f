"""Slot tables that change: only the shard that comes gains slots, only the one that goes loses."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.slots import SLOT_COUNT, SlotTable

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 63)), max_size=40)


@given(st.integers(1, 64), STEPS)
def test_tables_stay_even_and_move_no_more_than_they_must(
    count: int, steps: list[tuple[bool, int]]
) -> None:
    table = SlotTable.even(count)
    for adds, number in steps:
        shards = set(table.shards)
        if adds == (number in shards) or (not adds and len(shards) == 1):
            continue
        before, table = table, table.adding(number) if adds else table.without(number)
        moved = [
            (old, new) for old, new in zip(before.shards, table.shards, strict=True) if old != new
        ]
        assert all((new if adds else old) == number for old, new in moved)
        assert set(table.shards) == (shards | {number} if adds else shards - {number})
        assert table.generation == before.generation + 1
        counts = Counter(table.shards).values()
        share = SLOT_COUNT // len(counts)
        assert share - 1 <= min(counts) <= max(counts) <= share + 2


def test_the_last_shard_cannot_go() -> None:
    with pytest.raises(ValueError, match="without shards"):
        SlotTable.even(1).without(0)
