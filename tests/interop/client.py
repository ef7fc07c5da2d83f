"""One libtoxcore client in a process of its own, led by JSON lines.

A line on stdin is `{"id": n, "do": name, ...arguments}`; it is answered on stdout by
`{"reply": n, "ok": value}` or `{"reply": n, "error": text}`. Whatever happens meanwhile is a line
`{"event": name, ...}`. Bytes travel in hex. The process ends when stdin does.
"""

import hashlib
import json
import os
import random
import select
import sys
import time
from collections import deque
from collections.abc import Callable
from ctypes import create_string_buffer
from dataclasses import dataclass, field
from typing import Any

from tests.interop.tox import (
    CHUNK_QUEUE_FULL,
    CONNECTION_NONE,
    FILE_KIND_DATA,
    FILE_RESUME,
    GROUP_PUBLIC,
    HASH_SIZE,
    MESSAGE_NORMAL,
    SEND_QUEUE_FULL,
    Library,
    Options,
    Tox,
    ToxError,
    bytes_at,
)

_PROGRESS_STEP = 250_000  # bytes of a file between two events about it
_GREATEST_SEARCH = 500  # instances made at most until one has keys as wanted (1 in 4 has)


@dataclass
class _Incoming:
    """A file on its way to us."""

    size: int
    received: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


@dataclass
class _Ticker:
    """Numbered messages to a friend, one each `interval_s`, until they are stopped."""

    friend: int
    interval_s: float
    next: float
    number: int = 0


class Client:
    """The instance, its handlers, and the commands the tests have for it."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._tox: Tox | None = None
        self._messages: deque[tuple[int, bytes]] = deque()
        self._incoming: dict[tuple[int, int], _Incoming] = {}
        self._outgoing: dict[tuple[int, int], bytes] = {}
        self._chunks: deque[tuple[int, int, int, int]] = deque()
        self._ticker: _Ticker | None = None
        self._holds_files = False

    def run(self) -> None:
        """Serves commands and the library until stdin ends."""
        rest = b""
        while True:
            wait = self._tox.interval_s() if self._tox is not None else None
            ready, _, _ = select.select([0], [], [], wait)
            if ready:
                read = os.read(0, 1 << 16)
                if not read:
                    break
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
            if self._tox is not None:
                self._tox.iterate()
                self._send_waiting()
        if self._tox is not None:
            self._tox.close()

    def _obey(self, command: dict[str, Any]) -> None:
        number = command.pop("id")
        handler: Callable[..., Any] = getattr(self, "do_" + command.pop("do"))
        try:
            say(reply=number, ok=handler(**command))
        except ToxError as error:
            say(reply=number, error=str(error), code=error.code)

    # Commands

    def do_start(
        self,
        udp: bool,
        port: int,
        ipv6: bool,
        dht_parity: int | None,
        real_parity: int | None,
        tcp_port: int,
        saved: str = "",
    ) -> dict[str, Any]:
        """Makes the instance; a parity asks for a key whose slot (byte 8) is even or odd."""
        profile = bytes.fromhex(saved)
        options = Options(udp=udp, port=port, tcp_port=tcp_port, ipv6=ipv6, saved=profile)
        for _ in range(_GREATEST_SEARCH):
            tox = Tox(self._library, options)
            if dht_parity in (None, tox.dht_id()[8] & 1) and real_parity in (
                None,
                tox.address()[8] & 1,
            ):
                break
            tox.close()
        self._tox = tox
        for name in self._library.callbacks():
            tox.on(name, getattr(self, "on_" + name))
        return {
            "address": tox.address().hex(),
            "dht_id": tox.dht_id().hex(),
            "port": tox.udp_port() if udp else 0,
        }

    def do_bootstrap(self, host: str, port: int, key: str) -> bool:
        return bool(self._call("bootstrap", host.encode(), port, bytes.fromhex(key)))

    def do_add_tcp_relay(self, host: str, port: int, key: str) -> bool:
        return bool(self._call("add_tcp_relay", host.encode(), port, bytes.fromhex(key)))

    def do_friend_add(self, address: str, text: str) -> int:
        message = text.encode()
        return int(self._call("friend_add", bytes.fromhex(address), message, len(message)))

    def do_friend_accept(self, key: str) -> int:
        return int(self._call("friend_add_norequest", bytes.fromhex(key)))

    def do_send(self, friend: int, texts: list[str]) -> None:
        self._messages.extend((friend, text.encode()) for text in texts)

    def do_tick(self, friend: int, interval_s: float) -> None:
        self._ticker = _Ticker(friend, interval_s, time.monotonic())

    def do_stop_ticking(self) -> int:
        ticker, self._ticker = self._ticker, None
        return 0 if ticker is None else ticker.number

    def do_send_file(
        self, friend: int, size: int, seed: int, kind: int = FILE_KIND_DATA, file_id: str = ""
    ) -> str:
        """Offers `size` bytes made from `seed`; returns their SHA-256."""
        data = random.Random(seed).randbytes(size)
        name = b"interop.bin"
        own_id = bytes.fromhex(file_id) or None
        file = int(self._call("file_send", friend, kind, size, own_id, name, len(name)))
        self._outgoing[friend, file] = data
        return hashlib.sha256(data).hexdigest()

    def do_hold_files(self) -> None:
        """From now on no offer is accepted but by `file_control`."""
        self._holds_files = True

    def do_file_control(self, friend: int, file: int, control: int) -> bool:
        return bool(self._call("file_control", friend, file, control))

    def do_file_seek(self, friend: int, file: int, position: int) -> bool:
        """Has an offered file begin at `position`."""
        self._incoming[friend, file].received = position
        return bool(self._call("file_seek", friend, file, position))

    def do_set_name(self, name: str) -> bool:
        return bool(self._call("self_set_name", name.encode(), len(name.encode())))

    def do_set_status_message(self, text: str) -> bool:
        return bool(self._call("self_set_status_message", text.encode(), len(text.encode())))

    def do_set_status(self, status: int) -> None:
        self._instance().set_status(status)

    def do_set_typing(self, friend: int, typing: bool) -> bool:
        return bool(self._call("self_set_typing", friend, typing))

    def do_send_packet(self, friend: int, data: str, lossless: bool) -> bool:
        raw = bytes.fromhex(data)
        way = "lossless" if lossless else "lossy"
        return bool(self._call(f"friend_send_{way}_packet", friend, raw, len(raw)))

    def do_friend_delete(self, friend: int) -> bool:
        return bool(self._call("friend_delete", friend))

    def do_save(self) -> str:
        """Returns the profile."""
        return self._instance().saved().hex()

    def do_conference_new(self) -> int:
        return int(self._call("conference_new"))

    def do_conference_invite(self, friend: int, conference: int) -> bool:
        return bool(self._call("conference_invite", friend, conference))

    def do_conference_join(self, friend: int, cookie: str) -> int:
        raw = bytes.fromhex(cookie)
        return int(self._call("conference_join", friend, raw, len(raw)))

    def do_conference_send(self, conference: int, text: str) -> bool:
        raw = text.encode()
        return bool(
            self._call("conference_send_message", conference, MESSAGE_NORMAL, raw, len(raw))
        )

    def do_conference_peers(self, conference: int) -> int:
        return int(self._call("conference_peer_count", conference))

    def do_group_new(self, name: str, nick: str) -> dict[str, Any]:
        """Founds a public group; returns its number and chat id."""
        title, own = name.encode(), nick.encode()
        group = int(self._call("group_new", GROUP_PUBLIC, title, len(title), own, len(own)))
        return {"group": group, "chat_id": self._instance().chat_id(group).hex()}

    def do_group_join(self, chat_id: str, nick: str) -> int:
        own = nick.encode()
        return int(self._call("group_join", bytes.fromhex(chat_id), own, len(own), None, 0))

    def do_group_send(self, group: int, text: str) -> int:
        raw = text.encode()
        return int(self._call("group_send_message", group, MESSAGE_NORMAL, raw, len(raw)))

    # Events

    def on_self_connection_status(self, status: int) -> None:
        say(event="connection", status=status)

    def on_friend_request(self, key: Any, message: Any, size: int) -> None:
        say(event="request", key=bytes_at(key, 32).hex(), text=bytes_at(message, size).decode())

    def on_friend_connection_status(self, friend: int, status: int) -> None:
        if status == CONNECTION_NONE:
            self._chunks = deque(chunk for chunk in self._chunks if chunk[0] != friend)
        say(event="friend", friend=friend, status=status)

    def on_friend_message(self, friend: int, _kind: int, message: Any, size: int) -> None:
        say(event="message", friend=friend, text=bytes_at(message, size).decode())

    def on_friend_name(self, friend: int, name: Any, size: int) -> None:
        say(event="name", friend=friend, text=bytes_at(name, size).decode())

    def on_friend_status_message(self, friend: int, text: Any, size: int) -> None:
        say(event="status_message", friend=friend, text=bytes_at(text, size).decode())

    def on_friend_status(self, friend: int, status: int) -> None:
        say(event="status", friend=friend, status=status)

    def on_friend_typing(self, friend: int, typing: bool) -> None:
        say(event="typing", friend=friend, typing=bool(typing))

    def on_friend_lossless_packet(self, friend: int, data: Any, size: int) -> None:
        say(event="packet", friend=friend, data=bytes_at(data, size).hex(), lossless=True)

    def on_friend_lossy_packet(self, friend: int, data: Any, size: int) -> None:
        say(event="packet", friend=friend, data=bytes_at(data, size).hex(), lossless=False)

    def on_friend_read_receipt(self, friend: int, number: int) -> None:
        say(event="receipt", friend=friend, number=number)

    def on_file_recv(
        self, friend: int, file: int, kind: int, size: int, name: Any, name_size: int
    ) -> None:
        self._incoming[friend, file] = _Incoming(size)
        if kind == FILE_KIND_DATA and not self._holds_files:
            self._call("file_control", friend, file, FILE_RESUME)
            return
        file_id = create_string_buffer(HASH_SIZE)
        self._call("file_get_file_id", friend, file, file_id)
        text = bytes_at(name, name_size).decode()
        say(
            event="offer",
            friend=friend,
            file=file,
            kind=kind,
            size=size,
            name=text,
            file_id=file_id.raw.hex(),
        )

    def on_file_recv_chunk(
        self, friend: int, file: int, position: int, data: Any, size: int
    ) -> None:
        incoming = self._incoming[friend, file]
        if size:
            if position != incoming.received:
                say(event="file_disorder", position=position, expected=incoming.received)
            incoming.digest.update(bytes_at(data, size))
            before, incoming.received = incoming.received, incoming.received + size
            if before // _PROGRESS_STEP != incoming.received // _PROGRESS_STEP:
                say(event="progress", received=incoming.received)
            return
        del self._incoming[friend, file]
        say(event="file", friend=friend, size=incoming.received, hash=incoming.digest.hexdigest())

    def on_file_recv_control(self, friend: int, file: int, control: int) -> None:
        say(event="file_control", friend=friend, file=file, control=control)

    def on_file_chunk_request(self, friend: int, file: int, position: int, size: int) -> None:
        if size:
            self._chunks.append((friend, file, position, size))
        else:
            del self._outgoing[friend, file]
            say(event="file_sent", friend=friend)

    def on_conference_invite(self, friend: int, _kind: int, cookie: Any, size: int) -> None:
        say(event="conference_invite", friend=friend, cookie=bytes_at(cookie, size).hex())

    def on_conference_connected(self, conference: int) -> None:
        say(event="conference_connected", conference=conference)

    def on_conference_message(
        self, conference: int, _peer: int, _kind: int, message: Any, size: int
    ) -> None:
        text = bytes_at(message, size).decode()
        say(event="conference_message", conference=conference, text=text)

    def on_conference_peer_list_changed(self, conference: int) -> None:
        say(event="conference_peers", conference=conference)

    def on_group_self_join(self, group: int) -> None:
        say(event="group_joined", group=group)

    def on_group_join_fail(self, group: int, reason: int) -> None:
        say(event="group_refused", group=group, reason=reason)

    def on_group_peer_join(self, group: int, peer: int) -> None:
        say(event="group_peer", group=group, peer=peer)

    def on_group_message(
        self, group: int, peer: int, _kind: int, message: Any, size: int, _number: int
    ) -> None:
        say(event="group_message", group=group, peer=peer, text=bytes_at(message, size).decode())

    # Sending

    def _instance(self) -> Tox:
        if self._tox is None:
            raise ToxError("new", 0)
        return self._tox

    def _call(self, name: str, *arguments: Any) -> Any:
        return self._instance().call(name, *arguments)

    def _send_waiting(self) -> None:
        """Hands messages and chunks to the library until it has no room for more."""
        ticker, now = self._ticker, time.monotonic()
        if ticker is not None and now >= ticker.next:
            ticker.next = now + ticker.interval_s
            self._messages.append((ticker.friend, b"tick %d" % ticker.number))
            ticker.number += 1
        while self._messages:
            friend, text = self._messages[0]
            try:
                self._call("friend_send_message", friend, MESSAGE_NORMAL, text, len(text))
            except ToxError as error:
                if error.code != SEND_QUEUE_FULL:
                    say(event="send_failed", friend=friend, code=error.code)
                break
            self._messages.popleft()
        while self._chunks:
            friend, file, position, size = self._chunks[0]
            data = self._outgoing[friend, file][position : position + size]
            try:
                self._call("file_send_chunk", friend, file, position, data, size)
            except ToxError as error:
                if error.code == CHUNK_QUEUE_FULL:
                    break
                say(event="chunk_failed", friend=friend, code=error.code)
            self._chunks.popleft()


def say(**line: Any) -> None:
    """Prints one line for the test."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """`client LIBRARY` serves a client; `client --version LIBRARY` prints the version."""
    library = Library(arguments[-1])
    if arguments[0] == "--version":
        print(".".join(map(str, library.version)))
        return 0
    Client(library).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
