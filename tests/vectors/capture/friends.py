"""Captures what libtoxcore's clients send each other inside sessions:
`python -m tests.vectors.capture.friends`.

Nobody outside can open a session's boxes. So a small library stands before libsodium and the socket
(`LD_PRELOAD`, needs a C compiler): it notes every text that libtoxcore seals (those of session data
are picked out by their header), and while a file is sent it loses some datagrams, so that packets
are asked for again. Three clients in one process are friends in a chain, and meet in a conference:
so two that are no friends have a session, by which the one asks the other.
"""

import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from core.net_crypto import requests
from core.packets import messenger, net_crypto
from core.packets.messenger import (
    FileControl,
    FileRequest,
    LosslessCustom,
    LossyCustom,
    Typing,
)
from core.packets.net_crypto import MissingPackets, SessionPacket
from core.wire import Record, WireError
from tests.interop import peers
from tests.interop.driver import free_port
from tests.interop.tox import Library, Options, Tox
from tests.vectors.capture.recorder import HOST, Book

MADE_BY = "libtoxcore 0.2.20"
LIMIT_S = 240
_HEADER_SIZE = 8  # WIRE.md W26: buffer start, packet number
_MOST_PADDING = 7  # c-toxcore net_crypto.c: CRYPTO_MAX_PADDING
_NUMBERS = 100_000  # more packets than a session here has
_NONCE_PREFIX = 40  # hex digits of a nonce that stay the same in one direction of a session
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>
typedef int box(unsigned char *, const unsigned char *, unsigned long long,
                const unsigned char *, const unsigned char *);
typedef ssize_t send_to(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
static FILE *notes;
static unsigned one_in, evenly, count, state = 1;
void lose_one_in(unsigned many, unsigned one_like_the_other)
{
    one_in = many;
    evenly = one_like_the_other;
}
static void hex(const unsigned char *data, unsigned long long size)
{
    while (size--) fprintf(notes, "%02x", *data++);
}
int crypto_box_afternm(unsigned char *c, const unsigned char *m, unsigned long long size,
                       const unsigned char *n, const unsigned char *k)
{
    if (!notes) notes = fopen(getenv("NOTES"), "w");
    hex(k, 32); fputc(' ', notes);
    hex(n, 24); fputc(' ', notes);
    hex(m + 32, size - 32); fputc('\n', notes);
    fflush(notes);
    return ((box *)dlsym(RTLD_NEXT, "crypto_box_afternm"))(c, m, size, n, k);
}
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to,
               socklen_t length)
{
    int is_data = one_in && *(const char *)data == 0x1b;
    if (is_data) state = state * 1103515245 + 12345;
    if (is_data && (evenly ? ++count : state >> 16) % one_in == 0) {
        fputs("lost\n", notes);
        fflush(notes);
        return size;
    }
    return ((send_to *)dlsym(RTLD_NEXT, "sendto"))(fd, data, size, flags, to, length);
}
"""


def _declared(*families: Any) -> tuple[type[Record], ...]:
    found = (cls for family in families for cls in vars(family).values())
    records = [cls for cls in found if isinstance(cls, type) and issubclass(cls, Record)]
    return tuple(
        cls
        for cls in dict.fromkeys(records)
        if cls in (LosslessCustom, LossyCustom)
        or (issubclass(cls, messenger.MessengerPacket | SessionPacket) and cls.MAX_SIZE)
    )


CLASSES = _declared(messenger, net_crypto)
VARIANTS = (
    "FileControl (pause)",
    "FileControl (cancel)",
    "FileRequest (avatar)",
    "FileRequest (stream)",
    "FileData (end of a stream)",
    "Typing (yes)",
    "LosslessCustom (191)",
    "LossyCustom (254)",
    "MissingPackets (nothing)",
    "MissingPackets (several)",
    "MissingPackets (far apart)",
)


def main() -> None:
    """Runs the clients, and keeps the first packet of each kind that they seal."""
    book = Book()
    with tempfile.TemporaryDirectory() as folder:
        source, shim, notes = (Path(folder) / name for name in ("shim.c", "shim.so", "notes"))
        source.write_text(_SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
        environment = peers.library(peers.NEW).environment()
        environment |= {"LD_PRELOAD": f"{shim} libsodium.so.23", "NOTES": str(notes)}
        clients = [sys.executable, "-m", __spec__.name, "clients"]
        subprocess.run(clients, env=environment, cwd=peers.CHECKOUT, check=True, timeout=LIMIT_S)
        keep_all(book, notes.read_text().splitlines())
    names = [cls.__name__ for cls in CLASSES]
    missing = [name for name in (*names, *VARIANTS) if not book.has(name)]
    assert not missing, missing
    book.save()


class Way(NamedTuple):
    """One direction of a session."""

    key: str
    nonces: str


def keep_all(book: Book, notes: list[str]) -> None:
    """Keeps what the boxes of session data had in them, and what was lost on the way."""
    lost: dict[Way, set[int]] = {}
    last: tuple[Way, int] | None = None
    for note in notes:
        if note == "lost":
            if last is not None:
                lost.setdefault(last[0], set()).add(last[1])
            continue
        key, nonce, text = note.split(" ")
        plain = bytes.fromhex(text)
        start, number = (int.from_bytes(plain[at : at + 4], "big") for at in (0, 4))
        data = plain[_HEADER_SIZE:].lstrip(b"\0")
        padding = len(plain) - _HEADER_SIZE - len(data)
        if max(start, number) > _NUMBERS or padding > _MOST_PADDING or not data:
            continue
        way = Way(key, nonce[:_NONCE_PREFIX])
        last = (way, number) if 16 <= data[0] < 192 else None
        if data[0] == MissingPackets.kind:
            back = {number for one in lost if one.key == key and one != way for number in lost[one]}
            keep_missing(book, data, start, back)
        else:
            keep(book, data)


def keep(book: Book, data: bytes) -> None:
    """Keeps a packet under its class, and perhaps as a variant of that."""
    for cls in CLASSES:
        try:
            packet = cls.decode(data)
        except WireError:
            continue
        book.keep(cls, data, MADE_BY)
        note = _variant(packet)
        if note:
            book.keep(cls, data, MADE_BY, note)


def _variant(packet: Record) -> str:
    match packet:
        case FileControl(control=1):
            return "pause"
        case FileControl(control=2):
            return "cancel"
        case FileRequest(file_kind=1):
            return "avatar"
        case FileRequest(size=messenger.UNKNOWN_SIZE):
            return "stream"
        case messenger.FileData(data=b""):
            return "end of a stream"
        case Typing(typing=1):
            return "yes"
        case LosslessCustom(id=191) | LossyCustom(id=254):
            return str(packet.id)
    return ""


def keep_missing(book: Book, data: bytes, start: int, lost: set[int]) -> None:
    """Keeps a request beside the numbers that it names, if these were lost, and are not merely on
    their way: so we know from elsewhere that they are what it means."""
    named, cursor = [], start - 1
    for steps, missing in requests.decode(data[1:]):
        cursor += steps
        if missing:
            named.append(cursor)
    if not lost.issuperset(named):
        return
    note = "nothing"
    if named:
        note = "far apart" if 0 in data[1:-1] else "several" if len(named) > 2 else ""
    vector = book.keep(MissingPackets, data, MADE_BY, note)
    if vector:
        vector["start"], vector["missing"] = start, named


class Person:
    """One client of the chain."""

    def __init__(self, library: Library, name: str) -> None:
        self.port = free_port()
        self.tox = Tox(library, Options(port=self.port, tcp_port=self.port))
        self.call = self.tox.call
        self.linked: set[int] = set()
        self.invites: list[tuple[int, bytes]] = []
        self.offers: list[int] = []
        self.files: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.slowness = 1
        """Does what is due in one of so many rounds."""
        self.tox.on("friend_connection_status", self._connected)
        self.tox.on("conference_invite", self._invited)
        self.tox.on("file_recv", lambda _friend, number, *_: self.offers.append(number))
        self.tox.on("file_chunk_request", self._wanted)
        self.call("self_set_name", name.encode(), len(name))

    def _connected(self, friend: int, connection: int) -> None:
        (self.linked.add if connection else self.linked.discard)(friend)

    def _invited(self, friend: int, _kind: int, cookie: Any, size: int) -> None:
        self.invites.append((friend, ctypes.string_at(cookie, size)))

    def _wanted(self, friend: int, number: int, position: int, size: int) -> None:
        part = self.files[number][position : position + size]
        if size:
            self.call("file_send_chunk", friend, number, position, part, len(part))
        if not part:
            self.ended.add(number)

    def sends(self, friend: int, data: bytes, name: bytes, kind: int = 0, size: int = -1) -> int:
        """Offers a file; `size` is what it says its size was."""
        size = len(data) if size < 0 else size
        file_id = bytes(range(32))
        number = int(self.call("file_send", friend, kind, size, file_id, name, len(name)))
        self.files[number] = data
        self.ended.discard(number)  # numbers are used again
        return number

    def meet(self, other: "Person") -> int:
        """Makes the other a friend without a request; returns its number."""
        return int(self.call("friend_add_norequest", other.tox.address()[:32]))


def clients() -> None:
    """Has three clients say everything that friends say."""
    library = Library(str(peers.library(peers.NEW).path))
    # Dora and Emil are only relays: c-toxcore shares none of them while it has three or fewer.
    names = ("Ada", "Ben", "Cleo", "Dora", "Emil")
    ada, ben, cleo, *_ = people = [Person(library, name) for name in names]
    for one in people:
        for other in people:
            if one is not other:
                for call in ("bootstrap", "add_tcp_relay"):
                    one.call(call, HOST.encode(), other.port, other.tox.dht_id())
    ben_of_ada, ada_of_ben = ada.meet(ben), ben.meet(ada)
    cleo_of_ben, _ = ben.meet(cleo), cleo.meet(ben)
    text = b"in the garden"
    ada.call("self_set_status_message", text, len(text))
    ada.tox.set_status(2)

    def until(done: Callable[[], object]) -> None:
        end = time.monotonic() + LIMIT_S / 4
        for round_ in count():
            if done():
                break
            assert time.monotonic() < end, "the clients are not where they should be"
            for one in people:
                if not round_ % one.slowness:
                    one.tox.iterate()
            time.sleep(0.02)

    def rest(seconds: float) -> None:
        end = time.monotonic() + seconds
        until(lambda: time.monotonic() > end)

    until(lambda: ada.linked and len(ben.linked) == 2)
    for kind, text in ((0, b"hello"), (1, b"waves")):
        ada.call("friend_send_message", ben_of_ada, kind, text, len(text))
    ada.call("self_set_typing", ben_of_ada, True)
    for way, text in (
        ("lossless", b"\xa0ours"), ("lossless", b"\xbfours"), ("lossless", b"\x45\1\1\0\0"),
        ("lossy", b"\xc8ours"), ("lossy", b"\xfeours"),
    ):  # fmt: skip
        ada.call(f"friend_send_{way}_packet", ben_of_ada, text, len(text))

    send_files(ada, ben, ben_of_ada, ada_of_ben, until)
    room = ben.call("conference_new")
    ben.call("conference_invite", ada_of_ben, room)
    ben.call("conference_invite", cleo_of_ben, room)
    until(lambda: ada.invites and cleo.invites)
    for one in (ada, cleo):
        friend, cookie = one.invites[0]
        one.call("conference_join", friend, cookie, len(cookie))
    until(lambda: ada.call("conference_peer_count", 0) == 3)
    rest(20)  # Ada's and Cleo's session comes up; also ALIVE and SHARE_RELAYS
    text = b"we met at Ben's"
    ada.call("friend_add", cleo.tox.address(), text, len(text))
    rest(2)
    ada.call("friend_delete", ben_of_ada)
    for one in people:
        one.tox.close()


Until = Callable[[Callable[[], object]], None]


def send_files(ada: Person, ben: Person, to_ben: int, from_ada: int, until: Until) -> None:
    """Files of all sorts, with all that can be said of them; a large one is lost in parts."""

    def offered(number: int, *controls: int) -> int:
        until(lambda: ben.offers)
        there = ben.offers.pop()
        for control in controls:
            ben.call("file_control", from_ada, there, control)
        return number

    short = bytes(range(100))
    number = ada.sends(to_ben, short, b"notes.txt")
    until(lambda: ben.offers)
    ben.call("file_seek", from_ada, ben.offers[0], 60)
    offered(number, 0)
    until(lambda: number in ada.ended)
    stream = offered(ada.sends(to_ben, bytes(2742), b"live.ogg", size=messenger.UNKNOWN_SIZE), 0)
    until(lambda: stream in ada.ended)
    offered(ada.sends(to_ben, short, b"", kind=1), 2)
    offered(ada.sends(to_ben, short * 100_000, b"cat.mkv"), 0, 1, 2)
    # Ada's link loses datagrams: often, and then so seldom, with a Ben so slow, that many come
    # between two that are missing.
    lose_one_in = ctypes.CDLL(None).lose_one_in
    for many, size in ((60, 4_000_000), (270, 16_000_000)):
        lose_one_in(many, many > 255)
        ben.slowness = 1 if many < 255 else 8
        large = offered(ada.sends(to_ben, bytes(size), b"song.wav"), 0)
        until(partial(ada.ended.__contains__, large))
    lose_one_in(0, 0)
    ben.slowness = 1


if __name__ == "__main__":
    clients() if sys.argv[1:] == ["clients"] else main()
