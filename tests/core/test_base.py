"""Timers, slots, endpoints, messages and batches: the words all modules and processes share."""

import socket
import sys

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import batch, endpoint
from core.endpoint import Endpoint
from core.messages import MESSAGE_TYPES, Candidate, TableFull, TableWanted, message
from core.slots import SlotTable, slot_of
from core.timers import NEVER, Timers
from core.wire import WireError


def test_timers_expire_in_order_and_can_be_moved_and_stopped() -> None:
    timers: Timers[str] = Timers()
    timers.set("late", 9.0)
    timers.set("soon", 5.0)
    timers.set("soon", 2.0)
    timers.set("never", 1.0)
    timers.stop("never")
    assert timers.next() == 2.0
    assert not timers.take_due("late", 2.0)
    assert timers.expired(9.0) == ["soon", "late"]
    assert timers.next() is None
    assert "late" not in timers


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "stop", "forward", "take", "expired"]),
            st.integers(0, 20),
            st.integers(0, 9),
        )
    )
)
def test_timers_do_what_a_dict_of_times_does(steps: list[tuple[str, int, int]]) -> None:
    timers: Timers[int] = Timers()
    known: dict[int, float] = {}
    for what, name, time in steps:
        when = float(time)
        if what == "set":
            timers.set(name, when)
            known[name] = when
        elif what == "stop":
            timers.stop(name)
            known.pop(name, None)
        elif what == "forward":
            timers.bring_forward(name, when)
            known[name] = min(known.get(name, when), when)
        elif what == "take":
            assert timers.take_due(name, when) == (known.get(name, NEVER) <= when)
            if known.get(name, NEVER) <= when:
                del known[name]
        else:
            expired = timers.expired(when)
            assert sorted(expired) == sorted(name for name in known if known[name] <= when)
            assert [known[name] for name in expired] == sorted(map(known.__getitem__, expired))
            known = {name: at for name, at in known.items() if at > when}
        assert timers.first == min(known.values(), default=NEVER)
        assert timers.next() == min(known.values(), default=None)
        assert len(timers) == len(known)
        assert all((name in timers) == (name in known) for name in range(21))


def test_timers_due_at_one_time_expire_as_they_were_set() -> None:
    timers: Timers[int] = Timers()
    for name in (5, 3, 4, 3):
        timers.set(name, 1.0)
    assert timers.expired(1.0) == [5, 4, 3]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_even_slots_give_each_shard_its_share(count: int) -> None:
    table = SlotTable.even(count)
    shares = [table.shards.count(shard) for shard in range(count)]
    assert max(shares) - min(shares) <= 1
    key = bytes(8) + b"\x05" + bytes(23)
    assert slot_of(key) == 5
    assert table.shard_of(key) == 5 % count


def test_a_role_without_shards_has_no_table() -> None:
    with pytest.raises(ValueError, match="without shards"):
        SlotTable.even(0)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_endpoint_survives_every_form(address: object, port: int) -> None:
    made = endpoint.from_text(str(address).split("%")[0], port)
    assert endpoint.port_of(made) == port
    assert endpoint.unpack_ip_port(endpoint.pack_ip_port(made)) == made
    packed = endpoint.pack_compact(made)
    assert endpoint.unpack_compact(packed) == (made, len(packed))
    assert len(packed) == (7 if endpoint.is_ipv4(made) else 19)


def test_a_mapped_ipv6_address_is_an_ipv4_address() -> None:
    assert endpoint.from_text("::ffff:192.0.2.1", 5) == endpoint.from_text("192.0.2.1", 5)
    assert endpoint.to_text(endpoint.from_text("2001:db8::1", 7)) == "[2001:db8::1]:7"


def test_bytes_that_are_no_endpoint_are_refused() -> None:
    for data in (b"", b"\x02\x01", b"\x82" + bytes(18), b"\x0a" + bytes(17)):
        with pytest.raises(WireError):
            endpoint.unpack_compact(data)
    assert endpoint.unpack_ip_port(b"\x0b" + bytes(18)) is None
    with pytest.raises(ValueError, match="port"):
        endpoint.from_text("192.0.2.1", 65536)


@pytest.mark.parametrize(
    ("text", "lan"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("172.16.0.1", True), ("172.32.0.1", False),
        ("192.168.9.9", True), ("169.254.1.1", True), ("169.254.0.1", False),
        ("169.254.255.1", False), ("100.64.0.1", True), ("100.128.0.1", False), ("8.8.8.8", False),
        ("::1", True), ("::2", False),
        ("fe80::1", True), ("ff02::1", True), ("ff05::1", False), ("2001:db8::1", False),
        ("::ffff:10.0.0.1", True),
    ],
)  # fmt: skip
def test_the_lan_addresses_are_those_of_the_reference(text: str, lan: bool) -> None:
    assert endpoint.is_lan(endpoint.from_text(text, 1)) is lan


def test_budgets_count_by_prefix() -> None:
    first, second = (endpoint.from_text(f"192.0.2.{n}", n) for n in (1, 200))
    assert endpoint.prefix_of(first) == endpoint.prefix_of(second)
    assert endpoint.with_port(first, 9) == endpoint.from_text("192.0.2.1", 9)
    assert len(endpoint.prefix_of(endpoint.from_text("2001:db8::1", 1))) == 8


def test_messages_travel_in_a_frame_unchanged() -> None:
    row = (b"k", b"", b"", False, True)
    sent = [Candidate(b"k" * 32, b"e" * 16), TableFull(3, b"o" * 32, (row,))]
    data = batch.encode(batch.MESSAGES, 7, 9, 0, batch.rows(sent))
    frame = batch.decode(data)
    assert frame[:4] == (batch.MESSAGES, 7, 9, 0)
    assert batch.messages(frame.items) == sent


def test_a_message_number_is_used_once() -> None:
    with pytest.raises(ValueError, match="taken"):
        message(1)(TableWanted)
    assert all(0 < number < 65536 for number in MESSAGE_TYPES)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_raise_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        batch.decode(data)


@pytest.mark.parametrize("row", [(99, 1, 1, 1, 0, []), (batch.VERSION, 1, 1, 1, 0, 5)])
def test_a_frame_of_another_shape_is_refused(row: tuple[object, ...]) -> None:
    with pytest.raises(WireError):
        batch.decode(msgpack.packb(row))


@pytest.mark.parametrize("item", [(60_000, ()), (4, ()), 5, (1,)])
def test_an_unknown_or_misshapen_message_is_refused(item: object) -> None:
    with pytest.raises(WireError):
        batch.messages([item])


def test_an_endpoint_is_what_the_kernel_uses() -> None:


    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    port = receiver.getsockname()[1]
    receiver.close()
    made = endpoint.from_text("127.0.0.1", port)
    assert made == Endpoint(
        socket.AF_INET.to_bytes(2, sys.byteorder)
        + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    )  # fmt: skip
