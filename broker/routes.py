"""Who gets a datagram: a pure function of its first bytes and the slot tables."""

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from core.packets import ROUTES
from core.slots import IDENTITY_ROLES, SLOT_COUNT, SlotTable

Owner = TypeVar("Owner")


class Target(NamedTuple):
    """One shard of a role."""

    role: str
    shard: int


BROKER = Target("broker", 0)


def route(packet: bytes | memoryview, tables: Mapping[str, SlotTable]) -> Target | str:
    """Returns who gets a datagram, or the reason why nobody does."""
    if not packet:
        return "empty"
    kind = packet[0]
    row = ROUTES.get(kind)
    if row is None:
        return f"unknown_kind:0x{kind:02x}"
    if row.role == "broker":
        return BROKER
    table = tables.get(row.role)
    if table is None or row.role in IDENTITY_ROLES:
        return f"not_served:0x{kind:02x}"
    if row.slot_byte is None:
        return Target(row.role, 0)
    if len(packet) <= row.slot_byte:
        return f"too_short:0x{kind:02x}"
    return Target(row.role, table.shards[packet[row.slot_byte]])


class Row(NamedTuple, Generic[Owner]):
    """How to find the owner of datagrams of one kind: by the byte at `offset`."""

    offset: int
    owners: tuple[Owner, ...]  # one for each value of that byte


def compile_rows(
    tables: Mapping[str, SlotTable], owner: Callable[[Target], Owner]
) -> tuple[list[Row[Owner] | None], list[str]]:
    """Makes `route` into two lists by kind: rows, and the reason of kinds that have none.

    A row of shard 0 looks at the first byte, which every datagram has, and finds the same owner
    behind all its values. Kinds of the broker itself have no row and the reason "broker".
    """
    rows: list[Row[Owner] | None] = [None] * 256
    reasons = [f"unknown_kind:0x{kind:02x}" for kind in range(256)]
    for kind, route_row in ROUTES.items():
        role, slot_byte = route_row.role, route_row.slot_byte
        if role == "broker":
            reasons[kind] = "broker"
            continue
        table = tables.get(role)
        if table is None or role in IDENTITY_ROLES:
            reasons[kind] = f"not_served:0x{kind:02x}"
            continue
        reasons[kind] = f"too_short:0x{kind:02x}"
        if slot_byte is None:
            rows[kind] = Row(0, (owner(Target(role, 0)),) * SLOT_COUNT)
        else:
            owners = {shard: owner(Target(role, shard)) for shard in set(table.shards)}
            rows[kind] = Row(slot_byte, tuple(owners[shard] for shard in table.shards))
    return rows, reasons
