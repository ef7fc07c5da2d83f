"""Who gets a datagram: the table of the architecture page, and the compiled form of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.routes import BROKER, Target, compile_rows, route
from core.slots import SlotTable

TABLES = {"dht": SlotTable.even(4), "onion": SlotTable.even(3), "relay": SlotTable.even(2)}


@pytest.mark.parametrize(
    ("kind", "role", "slot_byte"),
    [(kind, "dht", 9) for kind in (0x00, 0x02)]
    + [(kind, "dht", None) for kind in (0x01, 0x04, 0x94, 0x20, 0x21)]
    + [(kind, "onion", 33) for kind in (0x80, 0x81, 0x82, 0x83, 0x87)]
    + [(kind, "onion", 9) for kind in (0x8C, 0x8D, 0x8E, 0x85, 0x90, 0x91, 0x92, 0x93, 0x95, 0x97)],
)
def test_each_served_kind_goes_to_the_owner_of_its_slot(
    kind: int, role: str, slot_byte: int | None
) -> None:
    for slot in (0, 1, 2, 3, 254, 255):
        packet = bytearray([kind]) + bytes(60)
        if slot_byte is not None:
            packet[slot_byte] = slot
        shard = 0 if slot_byte is None else TABLES[role].shards[slot]
        assert route(bytes(packet), TABLES) == Target(role, shard)


def test_what_nobody_serves_has_a_reason() -> None:
    assert route(b"", TABLES) == "empty"
    assert route(b"\x77abc", TABLES) == "unknown_kind:0x77"
    assert route(b"\x1babc", TABLES) == "not_served:0x1b"
    assert route(b"\x5babc", TABLES) == "not_served:0x5b"
    assert route(bytes(9), TABLES) == "too_short:0x00"
    assert route(b"\x80" + bytes(60), {}) == "not_served:0x80"
    assert route(b"\xf0" + bytes(77), TABLES) == BROKER


@given(
    st.binary(max_size=64),
    st.sampled_from([TABLES, {}, {"dht": SlotTable.even(1)}]),
)
def test_the_compiled_rows_say_the_same(packet: bytes, tables: dict[str, SlotTable]) -> None:
    rows, reasons = compile_rows(tables, lambda target: target)
    if not packet:
        return
    row = rows[packet[0]]
    found: Target | str
    if row is None or len(packet) <= row.offset:
        found = reasons[packet[0]]
    else:
        found = row.owners[packet[row.offset]]
    assert (BROKER if found == "broker" else found) == route(packet, tables)
