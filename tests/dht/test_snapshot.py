"""The copy of the table: closest nodes, addresses for inside and outside, and changes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core.dht import KeyIndex, NodeSnapshot
from core.endpoint import from_text, pack_compact
from core.messages import NodeRow, TableChange, TableFull
from tests.dht.actors import key_at, public

OWN = bytes(range(32))
WAN = from_text("198.51.100.7", 33445)
WAN6 = from_text("2001:db8::7", 33445)
LAN = from_text("192.168.1.7", 33445)
LAN6 = from_text("fe80::7", 33445)


def row(
    key: bytes, four: bytes = WAN, six: bytes = b"", prefers6: bool = False, announces: bool = False
) -> NodeRow:
    return NodeRow(key, four, six, prefers6, announces)


def table(*rows: NodeRow) -> NodeSnapshot:
    snapshot = NodeSnapshot(OWN)
    snapshot.handle_full(TableFull(7, OWN, rows))
    return snapshot


# Keys near our own and near each other, where the order of buckets matters.
near_keys = st.builds(
    lambda bits, tail: (int.from_bytes(OWN, "big") ^ bits << 240 ^ tail).to_bytes(32, "big"),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**12 - 1),
)


@settings(max_examples=300, deadline=None)
@given(st.sets(near_keys | st.binary(min_size=32, max_size=32), max_size=40), st.data())
def test_the_index_finds_what_a_scan_of_all_finds(keys: set[bytes], data: st.DataObject) -> None:
    target = data.draw(st.sampled_from([*sorted(keys), OWN]) | near_keys)
    count = data.draw(st.integers(1, 6))
    index = KeyIndex(int.from_bytes(OWN, "big"))
    numbers = [int.from_bytes(key, "big") for key in keys]
    for number in numbers:
        index.put(number, b"")
    removed = numbers[::5]
    for number in removed:
        index.remove(number)
    wanted = int.from_bytes(target, "big")
    left = [number for number in numbers if number not in removed]
    assert index.closest(wanted, count) == sorted(left, key=lambda n: n ^ wanted)[:count]
    assert len(index) == len(left)


def scanned(index: KeyIndex, target: int) -> tuple[int, bytes]:
    """The answer that looking at all keys gives."""
    near = sorted(index.packed, key=lambda number: number ^ target)[:4]
    return len(near), b"".join(index.packed[number] for number in near)


# Keys that differ from ours, or from one another, at the very top, at the bottom, or in between.
clustered = st.builds(
    lambda base, bits, shift, tail: (base ^ bits << shift ^ tail) % 2**256,
    st.sampled_from([0, int.from_bytes(OWN, "big"), 1 << 255, 1 << 140 | 1 << 130]),
    st.integers(0, 31),
    st.sampled_from([0, 100, 124, 128, 131, 200, 240, 250, 251]),
    st.integers(0, 3),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(clustered, max_size=40),
    st.lists(clustered | st.integers(0, 2**256 - 1), min_size=1, max_size=30),
    st.integers(0, 40),
)
def test_a_kept_answer_is_that_of_a_scan(keys: list[int], targets: list[int], gone: int) -> None:
    index = KeyIndex(int.from_bytes(OWN, "big"))
    for number in keys:
        index.put(number, number.to_bytes(32, "big"))
    around = [*targets, *keys, *(number ^ 1 << 120 for number in keys), int.from_bytes(OWN, "big")]
    for _ in range(2):  # the second time from what was kept
        for target in around:
            assert index.answer(target) == scanned(index, target)
    for number in keys[:gone]:
        index.remove(number)
    for number in keys[gone : gone + 3]:
        index.put(number, b"moved")
    for target in around:
        assert index.answer(target) == scanned(index, target)


def kept(index: KeyIndex) -> int:
    """How many answers the index has in memory."""
    return sum(len(answers) for _, answers in index._answers.values())


def test_one_answer_is_kept_for_all_targets_that_begin_alike() -> None:
    own = int.from_bytes(OWN, "big")
    index = KeyIndex(own)
    for number in range(8):
        index.put(own ^ 1 << 255 ^ number << 252, b"node")
    for number in range(16_384):
        index.answer(own ^ 1 << 255 ^ number << 241)
    assert kept(index) == 8
    index.put(own ^ 1 << 255, b"node")  # told once more: nothing has changed
    assert kept(index) == 8
    index.put(own ^ 1 << 255, b"moved")
    assert kept(index) == 0


def test_keys_that_part_late_fill_no_memory_with_answers() -> None:
    own = int.from_bytes(OWN, "big")
    index = KeyIndex(own)
    for number in range(8):
        index.put(own ^ 1 << 255 ^ number << 150, b"node %d" % number)
    most = 0
    for number in range(16_384):
        target = own ^ 1 << 255 ^ number << 151
        assert index.answer(target) == scanned(index, target)
        most = max(most, kept(index)) if number % 64 == 0 else most
    assert 1000 < most <= 4096


def test_an_empty_table_has_no_closest_nodes() -> None:
    assert NodeSnapshot(OWN).closest_packed(OWN, to_lan=True) == (0, b"")


def test_local_addresses_never_go_to_a_requester_outside() -> None:
    snapshot = table(row(b"\x01" * 32, LAN), row(b"\x02" * 32, WAN), row(b"\x03" * 32, b"", LAN6))
    assert snapshot.closest_packed(OWN, to_lan=False) == (1, pack_compact(WAN) + b"\x02" * 32)
    count, nodes = snapshot.closest_packed(OWN, to_lan=True)
    assert count == 3
    assert pack_compact(LAN) + b"\x01" * 32 in nodes


def test_the_fresher_family_is_given() -> None:
    six = table(row(b"\x01" * 32, WAN, WAN6, prefers6=True))
    assert six.closest_packed(OWN, to_lan=False)[1] == pack_compact(WAN6) + b"\x01" * 32
    four = table(row(b"\x01" * 32, WAN, WAN6, prefers6=False))
    assert four.closest_packed(OWN, to_lan=False)[1] == pack_compact(WAN) + b"\x01" * 32


def test_a_node_whose_fresher_address_is_local_is_given_by_its_public_one_to_outsiders() -> None:
    snapshot = table(row(b"\x01" * 32, LAN, WAN6, prefers6=False))
    assert snapshot.closest_packed(OWN, to_lan=False)[1] == pack_compact(WAN6) + b"\x01" * 32
    assert snapshot.closest_packed(OWN, to_lan=True)[1] == pack_compact(LAN) + b"\x01" * 32


def test_announce_searches_get_announcing_nodes_alone() -> None:
    snapshot = table(row(b"\x01" * 32), row(b"\x02" * 32, announces=True))
    count, nodes = snapshot.closest_packed(OWN, to_lan=False, only_announcers=True)
    assert (count, nodes[-32:]) == (1, b"\x02" * 32)
    rows = snapshot.closest(OWN, 4, to_lan=True, only_announcers=True)
    assert [each.key for each in rows] == [b"\x02" * 32]


def test_at_most_four_nodes_go_into_an_answer() -> None:
    snapshot = table(*(row(key_at(OWN, 0, n), public(n)) for n in range(8)))
    count, nodes = snapshot.closest_packed(key_at(OWN, 0, 3), to_lan=False)
    assert (count, len(nodes)) == (4, 4 * 39)
    assert nodes[7:39] == key_at(OWN, 0, 3)


def test_changes_alter_add_and_remove_rows() -> None:
    snapshot = table(row(b"\x01" * 32), row(b"\x02" * 32))
    moved = row(b"\x01" * 32, public(9))
    change = TableChange(8, OWN, (moved, row(b"\x03" * 32)), (b"\x02" * 32, b"\x09" * 32))
    assert snapshot.handle_change(change)
    assert set(snapshot.rows) == {b"\x01" * 32, b"\x03" * 32}
    assert pack_compact(public(9)) in snapshot.closest_packed(b"\x01" * 32, to_lan=False)[1]
    assert snapshot.version == 8


def test_a_node_that_turned_local_leaves_the_answers_to_outsiders() -> None:
    snapshot = table(row(b"\x01" * 32, WAN, announces=True))
    assert snapshot.handle_change(TableChange(8, OWN, (row(b"\x01" * 32, LAN),), ()))
    assert snapshot.closest_packed(OWN, to_lan=False) == (0, b"")
    assert snapshot.closest_packed(OWN, to_lan=True, only_announcers=True) == (0, b"")


def test_a_missed_change_is_noticed_and_changes_nothing() -> None:
    snapshot = table(row(b"\x01" * 32))
    assert not snapshot.handle_change(TableChange(9, OWN, (), (b"\x01" * 32,)))
    assert not NodeSnapshot(OWN).handle_change(TableChange(1, OWN, (), ()))
    assert b"\x01" * 32 in snapshot.rows


def test_tables_of_another_identity_are_ignored() -> None:
    snapshot = table(row(b"\x01" * 32))
    snapshot.handle_full(TableFull(1, b"\x09" * 32, ()))
    assert snapshot.handle_change(TableChange(2, b"\x09" * 32, (), (b"\x01" * 32,)))
    assert set(snapshot.rows) == {b"\x01" * 32}


def test_a_bucket_with_eight_nodes_has_no_room() -> None:
    rows = [row(key_at(OWN, 5, n), public(n)) for n in range(8)]
    assert table(*rows[:7]).has_room(key_at(OWN, 5, 99))
    assert not table(*rows).has_room(key_at(OWN, 5, 99))
    assert table(*rows).has_room(key_at(OWN, 6, 99))


def test_room_is_seen_in_every_bucket_and_again_when_a_node_has_gone() -> None:
    for bucket in (0, 1, 6, 7, 8, 9, 126, 127, 130):
        rows = [row(key_at(OWN, bucket, n), public(n)) for n in range(8)]
        snapshot = table(*rows)
        for other in (0, 1, 6, 7, 8, 9, 126, 127, 130):
            full = other == bucket or (other >= 127 and bucket >= 127)
            assert snapshot.has_room(key_at(OWN, other, 99)) != full, (bucket, other)
        assert snapshot.handle_change(TableChange(8, OWN, (), (rows[3].key,)))
        assert snapshot.has_room(key_at(OWN, bucket, 99))


def test_the_copy_can_be_given_back_whole() -> None:
    assert NodeSnapshot(OWN).full() is None
    rows = (row(b"\x01" * 32), row(b"\x02" * 32, b"", WAN6, True, True))
    full = table(*rows).full()
    assert full == TableFull(7, OWN, rows)
