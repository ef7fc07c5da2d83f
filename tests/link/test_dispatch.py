"""Kernel dispatch: the program finds the owner that the broker's routes name."""

import random
import socket
from collections.abc import Sequence

import pytest

from broker.routes import BROKER, Target, route
from core.link import dispatch
from core.link.dispatch import Instruction, Lane
from core.slots import SlotTable

ODD = SlotTable(3, tuple((slot * 7 // 3) % 5 for slot in range(256)))
TABLES = [
    {"dht": SlotTable.even(1), "onion": SlotTable.even(1), "relay": SlotTable.even(1)},
    {"dht": SlotTable.even(3), "onion": SlotTable.even(8), "relay": SlotTable.even(2)},
    {"dht": ODD, "onion": SlotTable.even(16)},
    {"relay": SlotTable.even(1)},
]


def run(code: Sequence[Instruction], packet: bytes) -> int:
    """Runs a program as the kernel does."""
    register = place = 0
    while True:
        name, yes, no, constant = code[place]
        place += 1
        if name == 0x30:
            if constant >= len(packet):
                return 0
            register = packet[constant]
        elif name == 0x05:
            place += constant
        elif name == 0x15:
            place += yes if register == constant else no
        elif name == 0x35:
            place += yes if register >= constant else no
        elif name == 0x94:
            register %= constant
        elif name == 0x04:
            register += constant
        elif name == 0x16:
            return register
        else:
            assert name == 0x06
            return constant


@pytest.mark.parametrize("tables", TABLES)
def test_the_program_finds_the_lane_of_the_owner_that_the_broker_would_find(
    tables: dict[str, SlotTable],
) -> None:
    code = dispatch.program(tables)
    rows = dispatch.lanes(tables)
    assert len(code) < 4096  # Linux bpf_common.h: BPF_MAXINSNS
    assert all(max(yes, no) < 256 for _, yes, no, _ in code)
    chance = random.Random(7)
    seen = set()
    for number in range(40_000):
        packet = bytes([number % 256]) + chance.randbytes(chance.choice((0, 8, 9, 32, 40, 81)))
        owner = route(packet, tables)
        found = run(code, packet)
        if isinstance(owner, Target) and owner != BROKER:
            lane = rows[found - 1]
            assert found > 0
            assert (lane.role, lane.shard) == owner
            assert lane.name == dispatch.CLASSES[dispatch.CLASS_OF[packet[0]]]
            assert lane.accepts(packet[0])
            seen.add(lane)
        else:
            assert found == 0
    assert run(code, b"") == 0
    assert seen == set(rows)


def test_the_program_follows_sockets_whose_numbers_are_in_no_order() -> None:
    grown = SlotTable.even(2).adding(2).adding(3).without(0)
    tables = {"dht": SlotTable.even(3).without(1), "onion": grown, "relay": SlotTable.even(1)}
    chance = random.Random(8)
    rows = dispatch.lanes(tables)
    numbers = chance.sample(range(1, 100), len(rows))
    places = dict(zip(rows, numbers, strict=True))
    code = dispatch.program(tables, places)
    assert len(code) < 4096
    names = {number: lane for lane, number in places.items()}
    seen = set()
    for number in range(40_000):
        packet = bytes([number % 256]) + chance.randbytes(81)
        owner = route(packet, tables)
        found = run(code, packet)
        if isinstance(owner, Target) and owner != BROKER:
            assert names[found][:2] == owner
            seen.add(names[found])
        else:
            assert found == 0
    assert seen == set(rows)


def test_a_lane_takes_the_kinds_of_its_class_alone() -> None:
    query, other = Lane("dht", 0, "query"), Lane("dht", 0, "other")
    assert [kind for kind in range(256) if query.accepts(kind)] == [0x00, 0x02]
    assert other.accepts(0x21)
    assert not other.accepts(0x00)
    assert not other.accepts(0x80)
    assert not other.accepts(0xFF)


def test_the_kernel_runs_the_program_and_tells_what_it_dropped() -> None:
    tables = {"dht": SlotTable.even(2), "onion": ODD}
    rows = dispatch.lanes(tables)
    chance = random.Random(3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as main:
        main.bind(("127.0.0.1", 0))
        main.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        group = [main]
        for _ in rows:
            row = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            row.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            row.bind(main.getsockname())
            group.append(row)
        code = dispatch.program(tables)
        dispatch.attach(main, code)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for kind in range(256):
                packet = bytes([kind]) + chance.randbytes(kind % 50)
                client.sendto(packet, main.getsockname())
                found = group[run(code, packet)]
                found.setblocking(False)
                assert found.recv(2048) == packet
            last = group[-1]
            assert dispatch.kernel_queue(last) == (0, 0)
            lane = rows[-1]
            kind = next(kind for kind in range(256) if lane.accepts(kind))
            packet = next(
                data
                for data in (bytes([kind]) + chance.randbytes(1400) for _ in range(10_000))
                if group[run(code, data)] is last
            )
            for _ in range(2000):
                client.sendto(packet, main.getsockname())
            assert dispatch.kernel_queue(last).size > 100_000
            count = 0
            while True:
                try:
                    last.recv(2048)
                except BlockingIOError:
                    break
                count += 1
            assert dispatch.kernel_queue(last) == (0, 2000 - count)
            assert 0 < count < 2000
        for row in group[1:]:
            row.close()
