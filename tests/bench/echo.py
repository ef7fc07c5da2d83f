"""A plain echo: what any answer over UDP costs here, to measure the node's answers by.

One process reads a batch and sends it back through the same `core.link.mmsg` as the node, and does
nothing else. What a machine is slower today, it is slower at this as well.
"""

import multiprocessing
import os
import select
import socket
from collections import Counter
from multiprocessing.process import BaseProcess
from typing import Self

import psutil

from core import endpoint as endpoints
from core.endpoint import Endpoint
from core.link import mmsg
from tests.bench.nodes import HOST
from toxmesh.bench.target import Weight, weigh

BUFFER = 4 << 20  # bytes asked of the kernel for each direction: as the node does


class Echo:
    """An echo in a child process; it can be weighed like a node."""

    name = "echo"
    relay = None

    def __init__(self, core: int | None) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        self._sock.bind((HOST, 0))
        self.target: Endpoint = endpoints.from_text(*self._sock.getsockname()[:2])
        self._process: BaseProcess = multiprocessing.get_context("fork").Process(
            target=_serve, args=(self._sock, core), daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._sock.close()

    def weigh(self) -> Weight:
        """Returns what the child has used up."""
        assert self._process.pid is not None
        return weigh([psutil.Process(self._process.pid)], lambda process: self.name)


def _serve(sock: socket.socket, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    drops: Counter[str] = Counter()
    receiver = mmsg.receiver(sock.fileno(), socket.AF_INET, drops)
    sender = mmsg.sender(sock.fileno(), socket.AF_INET, drops)
    poll = select.epoll()
    poll.register(sock, select.EPOLLIN)
    parent = os.getppid()
    while os.getppid() == parent:
        poll.poll(1.0)
        while True:
            packets, sources = receiver.receive()
            if not packets:
                break
            for packet, source in zip(packets, sources, strict=True):
                sender.send(source, packet)
            sender.flush()
