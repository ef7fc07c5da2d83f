"""Captures a libtoxcore client's LAN discovery: `python -m tests.vectors.capture.lan`.

It needs an interface with a broadcast address. As root, a network namespace with a pair of the kind
`veth` and a default route keeps the broadcast from everybody else.
"""

import ctypes
import socket
import time

from core.packets.dht import LanDiscovery
from tests.interop import peers
from tests.interop.tox import Library
from tests.vectors.capture.recorder import Book

MADE_BY = "libtoxcore 0.2.18"
_LAN_PORT = 33445  # c-toxcore tox.h: TOX_DEFAULT_PORT_RANGE_START
_TIMEOUT_S = 30  # it is repeated each 10 s


def main() -> None:
    """Starts a client with local discovery and waits for its broadcast."""
    book, c = Book(), Library(str(peers.library(peers.OLD).path)).c
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("", _LAN_PORT))
        listener.setblocking(False)
        options = c.tox_options_new(None)
        c.tox_options_set_ipv6_enabled(options, False)
        c.tox_options_set_local_discovery_enabled(options, True)
        tox = c.tox_new(options, None)
        own = ctypes.create_string_buffer(32)
        c.tox_self_get_dht_id(tox, own)
        end, data = time.monotonic() + _TIMEOUT_S, b""
        while data != b"\x21" + own.raw and time.monotonic() < end:
            c.tox_iterate(tox, None)
            time.sleep(0.05)
            try:
                data = listener.recv(2048)
            except BlockingIOError:
                continue
        c.tox_kill(tox)
    assert LanDiscovery.decode(data).sender == own.raw
    book.keep(LanDiscovery, data, MADE_BY)
    book.save()


if __name__ == "__main__":
    main()
