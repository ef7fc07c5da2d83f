"""The small parts of the onion module, each by itself."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.batch import messages, rows
from core.crypto import SecretKey, derive_key, seal
from core.endpoint import from_text, pack_ip_port
from core.messages import (
    AnnounceAsked,
    DataAsked,
    NodeRow,
    RelayDeliver,
    TableChange,
    TableFull,
    TableWanted,
)
from core.module import NodeOptions, ProtocolViolation
from core.onion.data_announce import DataAnnounces
from core.onion.forwarding import Forwarding
from core.onion.hops import OnionHops
from core.onion.ordered import OrderedRows
from core.onion.return_keys import ROTATION_S, ReturnKeys
from core.onion.targets import Targets, is_private, pack_relay_client, unpack_relay_client
from core.onion.timed_auth import TimedAuth
from tests.onion.node import START, Node, address

MASTER = SecretKey(bytes(range(32)))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=200))
def test_ordered_rows_agree_with_a_sorted_set(steps: list[tuple[bool, int]]) -> None:
    ordered: OrderedRows[int] = OrderedRows()
    model: set[int] = set()
    for adds, number in steps:
        if adds and number not in model:
            ordered.add(number)
            model.add(number)
        elif number in model:
            ordered.remove(number)
            model.discard(number)
        else:
            with pytest.raises(KeyError):
                ordered.remove(number)
        assert len(ordered) == len(model)
        if model:
            assert (ordered.least(), ordered.greatest()) == (min(model), max(model))


def test_ordered_rows_split_and_empty_their_blocks() -> None:
    ordered: OrderedRows[int] = OrderedRows()
    numbers = [i * 7919 % 10_007 for i in range(10_000)]
    for number in numbers:
        ordered.add(number)
    assert len(ordered._blocks) > 5
    assert all(block == sorted(block) for block in ordered._blocks)
    assert ordered._greatest == [block[-1] for block in ordered._blocks]
    for number in sorted(numbers, reverse=True):
        assert ordered.greatest() == number
        ordered.remove(number)
    assert (len(ordered), ordered._blocks, ordered._greatest) == (0, [], [])
    with pytest.raises(IndexError):
        ordered.greatest()


def test_return_keys_are_derived_so_that_shards_agree() -> None:
    keys, others = ReturnKeys(MASTER), ReturnKeys(MASTER)
    sealed = seal(keys.current(START), bytes(24), b"way back")
    assert others.open(bytes(24), sealed, START) == b"way back"
    assert keys.current(START) == derive_key(bytes(range(32)), "onion return", 13)
    assert keys.current(START + ROTATION_S) != keys.current(START)
    assert keys.current(START) == others.current(START)  # a clock that is asked out of order
    assert ReturnKeys(SecretKey(bytes(32))).open(bytes(24), sealed, START) is None
    # the first epoch of a machine that was just switched on has none before it
    first = seal(keys.current(1.0), bytes(24), b"way back")
    assert keys.open(bytes(24), first, 2.0) == b"way back"


def test_timed_tags_are_bound_to_purpose_data_and_window() -> None:
    auth = TimedAuth(MASTER, "purpose", 60)
    made = auth.make(b"data", 600.0)
    key = derive_key(bytes(range(32)), "purpose")
    expected = hashlib.blake2b(bytes(7) + b"\x0adata", key=key, digest_size=32).digest()
    assert made == expected == auth.make(b"data", 659.9)
    assert auth.check(made, b"data", 719.9)
    assert not auth.check(made, b"data", 720.0)
    assert not auth.check(made, b"data", 599.0)
    assert not auth.check(made, b"datb", 600.0)
    assert not auth.check(made[:-1], b"data", 600.0)
    assert not TimedAuth(MASTER, "other", 60).check(made, b"data", 600.0)
    assert not auth.check(bytes(32), b"data", 5.0)  # there is no window before the first


@given(st.integers(0, 2**64 - 1))
def test_a_relay_client_s_serial_survives_its_19_bytes(serial: int) -> None:
    packed = pack_relay_client(serial)
    assert len(packed) == 19
    assert unpack_relay_client(packed) == serial
    assert unpack_relay_client(pack_ip_port(from_text("192.0.2.1", 1))) is None


def test_a_return_of_a_family_that_nobody_seals_is_refused() -> None:
    node = Node("n", address(0))
    key = node.shards[0].hops.returns.current(START)
    for kind, behind in ((0x8C, 118), (0x8D, 59), (0x8E, 0)):
        foreign = pack_relay_client(7) if kind != 0x8E else b"\x0c" + bytes(18)
        sealed = bytes(24) + seal(key, bytes(24), foreign + bytes(behind))
        packet = bytes((kind,)) + sealed + b"\x84answer"
        assert node.handle(packet, address(1), START) == []
    assert node.drops == {"onion_return": 3}
    assert node.relayed == []


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1", True),
        ("192.168.0.1", True),
        ("fd12::1", True),
        ("fc00::1", True),
        ("fe80::1", True),
        ("2001:db8::1", False),
        ("fb00::1", False),
        ("198.51.100.1", False),
    ],
)
def test_private_addresses_are_those_of_a_site(host: str, private: bool) -> None:
    assert is_private(from_text(host, 1)) == private
    targets = Targets(NodeOptions(), Node("n", address(0)).drops)
    assert targets.refusal(from_text(host, 1), False) == ("target_private" if private else None)
    assert targets.refusal(from_text(host, 1), True) is None


def test_a_remembered_target_is_judged_by_who_names_it_each_time() -> None:
    drops: Counter[str] = Counter()
    targets = Targets(NodeOptions(), drops)
    near, far = from_text("192.168.7.7", 1), from_text("198.51.100.1", 1)
    public, private = pack_ip_port(address(1)), pack_ip_port(near)
    for _ in range(3):
        assert targets.read(private, near) == near
        assert targets.read(private, far) is None
        assert targets.read(private, None, True) == near
        assert targets.read(private, None, False) is None
        assert targets.read(public, far) == targets.read(public, near) == address(1)
    assert drops == {"target_private": 6}
    # an address that is written otherwise is another row, with the same end
    assert targets.read(private[:9] + b"x" + private[10:], near) == near
    assert targets.read(private[:9] + b"x" + private[10:], far) is None


def test_refused_targets_are_not_remembered_but_counted_each_time() -> None:
    drops: Counter[str] = Counter()
    targets = Targets(NodeOptions(), drops)
    for _ in range(3):
        assert targets.read(pack_ip_port(from_text("198.51.100.1", 0)), address(1)) is None
        assert targets.read(pack_ip_port(from_text("224.0.0.1", 1)), address(1)) is None
        assert targets.read(b"\x0b" + bytes(18), address(1)) is None
    assert drops == {"target_port_zero": 3, "target_forbidden": 3, "target_family": 3}
    assert targets._good == {}


def test_remembered_targets_are_bounded() -> None:
    targets = Targets(NodeOptions(), Counter())
    for number in range(10_000):
        target = from_text(f"30.{number >> 8}.{number & 255}.1", 33445)
        assert targets.read(pack_ip_port(target), address(1)) == target
        assert len(targets._good) <= 4096


def test_a_gap_in_the_node_table_is_asked_for_once_a_second() -> None:
    node = Node("n", address(0))
    module = node.shards[0]
    own = bytes(node.keys.public)
    row = NodeRow(b"k" * 32, address(1), b"", False, True)
    module.handle_message(TableChange(2, own, (tuple(row),), ()), START)
    assert module.snapshot()["nodes"] == 1
    for later in (0.0, 0.5, 1.0):
        module.handle_message(TableChange(9, own, (), ()), START + later)
    assert [told[:2] for told in node.boxes[0].told] == [("dht", 0), ("dht", 0)]
    module.handle_message(TableFull(9, own, ()), START + 2)
    assert module.snapshot()["nodes"] == 0


def test_a_restarted_table_owner_gets_the_last_copy_back() -> None:
    node = Node("n", address(0), known=[NodeRow(b"k" * 32, address(1), b"", False, True)])
    module = node.shards[0]
    module.handle_message(TableWanted("dht", 0), START)
    ((role, shard, full),) = node.boxes[0].told
    assert (role, shard) == ("dht", 0)
    assert full == module.nodes.full()
    node.boxes[0].told.clear()
    empty = Node("n", address(0))
    empty.shards[0].handle_message(TableWanted("dht", 0), START)
    assert empty.boxes[0].told == []
    with pytest.raises(ProtocolViolation):
        module.handle_message(RelayDeliver(1, b""), START)


def test_a_sweep_forgets_a_bounded_number_and_comes_back_soon() -> None:
    node = Node("n", address(0))
    module = node.shards[0]
    module.handle_timer(START)
    assert module.next_timer() == START + 1
    for number in range(1500):
        module.data.store.put(number.to_bytes(32, "big"), b"x", START + 10, START)
    module.handle_timer(START + 0.5)  # not due yet
    module.handle_timer(START + 10)
    assert module.snapshot()["data_entries"] == 500
    assert module.next_timer() == pytest.approx(START + 10.05)
    module.handle_timer(START + 10.05)
    assert module.snapshot()["data_entries"] == 0


def test_messages_with_keys_travel_and_show_nothing() -> None:
    secret = b"a combined key that nobody sees!"
    asked = AnnounceAsked(0x83, b"s", b"r", secret, b"q", b"k", b"d", b"b", True, b"", b"")
    data = DataAsked(0x93, b"s", b"", secret, b"q", b"body", b"ping")
    for message in (asked, data):
        assert "combined" not in repr(message)
        assert messages(rows([message])) == [message]


def test_parts_without_a_dictionary_have_no_attribute_by_accident() -> None:
    for part in (OnionHops, Forwarding, DataAnnounces, Targets, TimedAuth, ReturnKeys):
        assert "__dict__" not in dir(part)
