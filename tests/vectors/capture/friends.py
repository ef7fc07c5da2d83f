"""Captures what libtoxcore's clients send each other inside sessions:
`python -m tests.vectors.capture.friends`.

Nobody outside can open a session's boxes. So a small library stands before libsodium (`LD_PRELOAD`,
needs a C compiler) and notes every text that libtoxcore seals; those of session data are picked out
by their header. Three clients in one process are friends in a chain, and meet in a conference: so
two that are no friends have a session, by which the one asks the other.
"""

import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.packets import messenger
from core.packets.messenger import MessengerPacket
from core.wire import WireError
from tests.interop import peers
from tests.interop.driver import free_port
from tests.interop.tox import Library, Options, Tox
from tests.vectors.capture.recorder import HOST, Book

MADE_BY = "libtoxcore 0.2.20"
LIMIT_S = 120
_HEADER_SIZE = 8  # WIRE.md W26: buffer start, packet number
_MOST_PADDING = 7  # c-toxcore net_crypto.c: CRYPTO_MAX_PADDING
_NUMBERS = 100_000  # more packets than a session here has
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
typedef int box(unsigned char *, const unsigned char *, unsigned long long,
                const unsigned char *, const unsigned char *);
int crypto_box_afternm(unsigned char *c, const unsigned char *m, unsigned long long size,
                       const unsigned char *n, const unsigned char *k)
{
    static FILE *notes;
    if (!notes) notes = fopen(getenv("NOTES"), "w");
    for (unsigned long long i = 32; i < size; ++i) fprintf(notes, "%02x", m[i]);
    fputc('\n', notes);
    fflush(notes);
    return ((box *)dlsym(RTLD_NEXT, "crypto_box_afternm"))(c, m, size, n, k);
}
"""
CLASSES = tuple(
    cls
    for cls in vars(messenger).values()
    if isinstance(cls, type) and issubclass(cls, MessengerPacket) and cls is not MessengerPacket
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
        for line in notes.read_text().splitlines():
            keep(book, bytes.fromhex(line))
    missing = [cls.__name__ for cls in CLASSES if not book.has(cls.__name__)]
    assert not missing, missing
    book.save()


def keep(book: Book, plain: bytes) -> None:
    """Keeps what a box of session data had in it."""
    numbers = [int.from_bytes(plain[at : at + 4], "big") for at in (0, 4)]
    data = plain[_HEADER_SIZE:].lstrip(b"\0")
    padding = len(plain) - _HEADER_SIZE - len(data)
    if max(numbers) > _NUMBERS or padding > _MOST_PADDING or not data:
        return
    for cls in CLASSES:
        try:
            cls.decode(data)
        except WireError:
            continue
        book.keep(cls, data, MADE_BY)


class Person:
    """One client of the chain."""

    def __init__(self, library: Library, name: str) -> None:
        self.port = free_port()
        self.tox = Tox(library, Options(port=self.port, tcp_port=self.port))
        self.call = self.tox.call
        self.linked: set[int] = set()
        self.invites: list[tuple[int, bytes]] = []
        self.offers: list[int] = []
        self.ended = False
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
        self.ended |= not size
        if size:
            self.call("file_send_chunk", friend, number, position, bytes(range(size)), size)

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
        end = time.monotonic() + LIMIT_S / 3
        while not done():
            assert time.monotonic() < end, "the clients are not where they should be"
            for one in people:
                one.tox.iterate()
            time.sleep(0.02)

    until(lambda: ada.linked and len(ben.linked) == 2)
    for kind, text in ((0, b"hello"), (1, b"waves")):
        ada.call("friend_send_message", ben_of_ada, kind, text, len(text))
    ada.call("self_set_typing", ben_of_ada, True)

    file_id, name = bytes(range(32)), b"notes.txt"
    ada.call("file_send", ben_of_ada, 0, 100, file_id, name, len(name))
    until(lambda: ben.offers)
    ben.call("file_seek", ada_of_ben, ben.offers[0], 60)
    ben.call("file_control", ada_of_ben, ben.offers[0], 0)
    until(lambda: ada.ended)

    room = ben.call("conference_new")
    ben.call("conference_invite", ada_of_ben, room)
    ben.call("conference_invite", cleo_of_ben, room)
    until(lambda: ada.invites and cleo.invites)
    for one in (ada, cleo):
        friend, cookie = one.invites[0]
        one.call("conference_join", friend, cookie, len(cookie))
    until(lambda: ada.call("conference_peer_count", 0) == 3)
    again = time.monotonic() + 20  # Ada's and Cleo's session comes up; also ALIVE and SHARE_RELAYS
    until(lambda: time.monotonic() > again)
    text = b"we met at Ben's"
    ada.call("friend_add", cleo.tox.address(), text, len(text))
    again = time.monotonic() + 2
    until(lambda: time.monotonic() > again)
    ada.call("friend_delete", ben_of_ada)
    for one in people:
        one.tox.close()


if __name__ == "__main__":
    clients() if sys.argv[1:] == ["clients"] else main()
