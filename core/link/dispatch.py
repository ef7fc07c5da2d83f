"""Who reads a datagram: its class, and the program by which the kernel finds the reader's socket.

In kernel dispatch all UDP sockets of one listen address form an SO_REUSEPORT group. Socket 0 is the
broker's; each class of each shard of a role has one more (a `Lane`). A classic BPF program looks at
the first byte of a datagram and at one byte of a key, and returns the number of a socket in the
group; what it cannot place (unknown kinds, datagrams too short for their key) is socket 0's.
"""

import ctypes
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from core.packets import ROUTES
from core.slots import IDENTITY_ROLES, SLOT_COUNT, SlotTable

CLASSES = ("query", "onion", "announce", "other")
"""From the class that is dropped first to the one that is dropped last (SECURITY R-06)."""

QUERY, ONION, ANNOUNCE, OTHER = range(4)
CLASS_OF = [OTHER] * 256
"""Class by kind."""
for _kind in (0x00, 0x02):  # requests of strangers: they ask again, and others can answer
    CLASS_OF[_kind] = QUERY
for _kind in (0x80, 0x81, 0x82, 0x8C, 0x8D, 0x8E):
    CLASS_OF[_kind] = ONION
for _kind in (0x83, 0x85, 0x87, 0x90, 0x91, 0x92, 0x93, 0x95, 0x97):
    CLASS_OF[_kind] = ANNOUNCE

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_SO_ATTACH_REUSEPORT_CBPF = 51  # Linux asm-generic/socket.h; socket has no name for it
_SO_MEMINFO = 55
_MEMINFO_WORDS = 9  # Linux sock_diag.h: SK_MEMINFO_VARS
_QUEUE_WORD, _DROPS_WORD = 0, 8  # SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_DROPS

# Linux bpf_common.h: what the program is made of
_LOAD_BYTE = 0x30  # A = byte K of the datagram; beyond its end the program returns 0
_JUMP = 0x05  # over K instructions
_IF_EQUAL = 0x15  # A == K
_IF_AT_LEAST = 0x35  # A >= K
_MODULO = 0x94  # A %= K
_ADD = 0x04  # A += K
_RETURN = 0x06  # K
_RETURN_A = 0x16

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, K."""


class Lane(NamedTuple):
    """One class of datagrams of one shard: what has a socket and so a kernel queue of its own."""

    role: str
    shard: int
    name: str  # one of CLASSES

    def accepts(self, kind: int) -> bool:
        """Tells whether datagrams of a kind belong here (on this shard or another)."""
        row = ROUTES.get(kind)
        return row is not None and row.role == self.role and CLASSES[CLASS_OF[kind]] == self.name


def lanes(tables: Mapping[str, SlotTable]) -> list[Lane]:
    """Returns the lanes of all roles that read datagrams, in the order of their sockets.

    The shards of a class stand in a row, so that a shard's number is the distance to its socket.
    """
    classes: dict[tuple[str, int], bool] = {}  # role and class: whether there are many shards
    for kind, row in ROUTES.items():
        if _reads(row.role, tables):
            place = (row.role, CLASS_OF[kind])
            classes[place] = classes.get(place, False) or row.slot_byte is not None
    return [
        Lane(role, shard, CLASSES[number])
        for (role, number), many in sorted(classes.items())
        for shard in (sorted(set(tables[role].shards)) if many else (0,))
    ]


def _reads(role: str, tables: Mapping[str, SlotTable]) -> bool:
    """Tells whether a role that is up reads what comes to the node's port."""
    return role in tables and role not in IDENTITY_ROLES


def program(
    tables: Mapping[str, SlotTable], places: Mapping[Lane, int] | None = None
) -> list[Instruction]:
    """Returns the program that finds the socket of a datagram's lane.

    `places`: the number of each lane's socket in its group; 1 + its place in `lanes` if left out.
    """
    rows = lanes(tables)
    if places is None:
        places = {lane: 1 + index for index, lane in enumerate(rows)}
    groups: dict[tuple[str, int, int | None], list[int]] = {}
    for kind, row in ROUTES.items():
        if _reads(row.role, tables):
            groups.setdefault((row.role, CLASS_OF[kind], row.slot_byte), []).append(kind)
    code: list[Instruction] = [(_LOAD_BYTE, 0, 0, 0)]
    for (role, number, slot_byte), kinds in groups.items():
        numbers = {
            lane.shard: places[lane]
            for lane in rows
            if (lane.role, lane.name) == (role, CLASSES[number])
        }
        body: list[Instruction]
        if slot_byte is None:
            body = [(_RETURN, 0, 0, numbers[0])]
        else:
            body = [(_LOAD_BYTE, 0, 0, slot_byte), *_find(tables[role], numbers)]
        code += [
            (_IF_EQUAL, len(kinds) - place, 0, kind) for place, kind in enumerate(sorted(kinds))
        ]
        code += [(_JUMP, 0, 0, len(body)), *body]
    return [*code, (_RETURN, 0, 0, 0)]


def _find(table: SlotTable, numbers: Mapping[int, int]) -> list[Instruction]:
    """Returns the part that makes a slot (in A) the number of the owner's socket."""
    count = len(numbers)
    first = numbers.get(0, 0)
    in_a_row = all(numbers.get(shard) == first + shard for shard in range(count))
    if in_a_row and table.shards == SlotTable.even(count).shards:
        return [(_MODULO, 0, 0, count), (_ADD, 0, 0, numbers[0]), (_RETURN_A, 0, 0, 0)]
    return _search([numbers[shard] for shard in table.shards], 0, SLOT_COUNT)


def _search(owners: Sequence[int], low: int, high: int) -> list[Instruction]:
    """Returns a binary search for the owner of a slot in `low`..`high`-1."""
    if len(set(owners[low:high])) == 1:
        return [(_RETURN, 0, 0, owners[low])]
    middle = (low + high) // 2
    left = _search(owners, low, middle)
    right = _search(owners, middle, high)
    # A conditional jump reaches 255 instructions at most, the plain one any number.
    return [(_IF_AT_LEAST, 0, 1, middle), (_JUMP, 0, 0, len(left)), *left, *right]


def refuse_all(udp: socket.socket, refuse: bool) -> None:
    """Lets the kernel drop whatever comes to a socket that nobody reads (a broadcast reaches every
    socket of a port), or stops that. Raises OSError."""
    if refuse:
        memory = ctypes.create_string_buffer(struct.pack("=HBBI", _RETURN, 0, 0, 0))
        head = struct.pack("@HP", 1, ctypes.addressof(memory))
        udp.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
    else:
        udp.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def attach(group: socket.socket, code: Sequence[Instruction]) -> None:
    """Gives the program to the SO_REUSEPORT group of a socket. Raises OSError if it cannot be."""
    memory = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in code))
    head = struct.pack("@HP", len(code), ctypes.addressof(memory))
    group.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, head)


class KernelQueue(NamedTuple):
    """The kernel's queue of one socket."""

    size: int  # bytes that it takes up now: some 770 for a short datagram
    drops: int  # datagrams dropped since the socket was made, for want of room; wraps at 2**32


def kernel_queue(udp: socket.socket) -> KernelQueue:
    """Returns the state of a socket's queue; zeros where the system does not tell."""
    with suppress(OSError, struct.error):
        data = udp.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * _MEMINFO_WORDS)
        words = struct.unpack(f"={_MEMINFO_WORDS}I", data)
        return KernelQueue(words[_QUEUE_WORD], words[_DROPS_WORD])
    return KernelQueue(0, 0)


