"""A client of a moment that asks nodes over UDP: sealed requests, repeated until answered.

Every request has an id of its own, so that an answer tells which try it belongs to and its round
trip is that try's. Answers count by their box, not by where they come from.
"""

import errno
import socket
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from core import crypto
from core.crypto import NONCE_SIZE, KeyPair, Nonce, PublicKey, SharedKey
from core.endpoint import Endpoint
from core.entropy import SystemEntropy
from core.packets.bootstrap import BootstrapInfo, BootstrapInfoRequest
from core.packets.dht import (
    NodesRequest,
    NodesRequestBody,
    NodesResponse,
    NodesResponseBody,
    PingRequest,
    PingRequestBody,
    PingResponse,
    PingResponseBody,
)
from core.packets.nodes import NodeInfo
from core.wire import WireError
from ops import places

TRIES = 3  # of one request, evenly within its time
MAX_DATAGRAM = 2048  # bytes; c-toxcore network.h: MAX_UDP_PACKET_SIZE
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h
_UNREACHABLE = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES)
_INFO_PADDING = bytes(77)

T = TypeVar("T")


class Heard(NamedTuple, Generic[T]):
    """The answer to a request."""

    value: T
    rtt_s: float
    tries: int


class Request(NamedTuple, Generic[T]):
    """One try: the datagram, and what makes a value of its answer (None for any other datagram)."""

    datagram: bytes
    read: Callable[[bytes], T | None]


class Asker:
    """One socket and one key pair for all checks of one node."""

    def __init__(self, place: Endpoint, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.entropy = SystemEntropy()
        self.keys = KeyPair.generate(self.entropy)
        self.heard = 0
        """Datagrams that came from anywhere."""
        self.refused: set[tuple[str, int]] = set()
        """Addresses of which the network said that nothing is there."""
        family = places.family_of(place)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)

    def close(self) -> None:
        """Gives the socket back."""
        self._socket.close()

    def nonce(self) -> Nonce:
        """Returns a random nonce."""
        return Nonce(self.entropy.bytes(NONCE_SIZE))

    def shared(self, key: bytes, own: KeyPair | None = None) -> SharedKey:
        """Returns the key shared with a node. ValueError for one that no node can have."""
        found = crypto.precompute((own or self.keys).secret, key)
        if found is None:
            raise ValueError("no node has this key: it is of low order")
        return found

    def is_refused(self, place: Endpoint) -> bool:
        """Tells whether the network said that nothing is at this address."""
        return places.address_of(place) in self.refused

    def exchange(
        self, place: Endpoint, make: Callable[[], Request[T]], timeout_s: float | None = None
    ) -> Heard[T] | None:
        """Sends a request until it is answered, at most `TRIES` times; None without an answer."""
        found = self.exchange_all([(place, make)], timeout_s)
        return found[0]

    def exchange_all(
        self,
        wanted: list[tuple[Endpoint, Callable[[], Request[T]]]],
        timeout_s: float | None = None,
    ) -> list[Heard[T] | None]:
        """The same for many at a time; the answers stand in the order of the requests."""
        pause = (timeout_s or self.timeout_s) / TRIES
        asked: list[tuple[int, int, float, Request[T]]] = []  # which, try, when sent, request
        found: list[Heard[T] | None] = [None] * len(wanted)
        for number in range(1, TRIES + 1):
            for which, (place, make) in enumerate(wanted):
                if found[which] is None and not self.is_refused(place):
                    request = make()
                    asked.append((which, number, time.monotonic(), request))
                    self._send(request.datagram, place)
            end = time.monotonic() + pause
            while not all(
                heard is not None or self.is_refused(place)
                for heard, (place, _) in zip(found, wanted, strict=True)
            ):
                datagram = self._receive(end)
                if datagram is None:
                    break
                now = time.monotonic()
                for which, tried, sent, request in asked:
                    value = request.read(datagram) if found[which] is None else None
                    if value is not None:
                        found[which] = Heard(value, now - sent, tried)
        return found

    def _send(self, datagram: bytes, place: Endpoint) -> None:
        self._socket.settimeout(self.timeout_s)
        for _ in range(2):  # an error of an earlier datagram comes out first, and only once
            try:
                self._socket.sendto(datagram, places.address_of(place))
            except OSError as error:
                if error.errno not in _UNREACHABLE:
                    raise
                if not self._read_errors():
                    self.refused.add(places.address_of(place))
                    return
            else:
                return

    def _receive(self, end: float) -> bytes | None:
        """Returns the next datagram, or None when `end` has come or an address was refused."""
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                datagram = self._socket.recv(MAX_DATAGRAM)
            except TimeoutError:
                return None
            except OSError as error:
                if error.errno not in _UNREACHABLE:
                    raise
                self._read_errors()
                return b""
            self.heard += 1
            return datagram
        return None

    def _read_errors(self) -> bool:
        """Takes the addresses that were refused from the socket's queue of errors."""
        found = False
        self._socket.setblocking(False)
        while True:
            try:
                _, _, _, address = self._socket.recvmsg(MAX_DATAGRAM, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return found
            self.refused.add((str(address[0]), int(address[1])))
            found = True

    # The requests that any node answers

    def ping(self, key: PublicKey) -> Callable[[], Request[bool]]:
        """Returns what makes ping requests."""
        shared = self.shared(key)

        def make() -> Request[bool]:
            nonce, ping_id = self.nonce(), self.entropy.bytes(8)
            sealed = PingRequestBody(ping_id).seal(shared, nonce)

            def read(datagram: bytes) -> bool | None:
                try:
                    answer = PingResponse.decode(datagram)
                    if answer.sender != key:
                        return None
                    body = PingResponseBody.open(shared, answer.nonce, answer.sealed)
                except WireError:
                    return None
                return True if body.ping_id == ping_id else None

            return Request(PingRequest(self.keys.public, nonce, sealed).encode(), read)

        return make

    def nodes(
        self, key: PublicKey, searched: PublicKey
    ) -> Callable[[], Request[tuple[NodeInfo, ...]]]:
        """Returns what makes nodes requests."""
        shared = self.shared(key)

        def make() -> Request[tuple[NodeInfo, ...]]:
            nonce, request_id = self.nonce(), self.entropy.bytes(8)
            sealed = NodesRequestBody(searched, request_id).seal(shared, nonce)

            def read(datagram: bytes) -> tuple[NodeInfo, ...] | None:
                try:
                    answer = NodesResponse.decode(datagram)
                    if answer.sender != key:
                        return None
                    body = NodesResponseBody.open(shared, answer.nonce, answer.sealed)
                except WireError:
                    return None
                return body.nodes if body.request_id == request_id else None

            return Request(NodesRequest(self.keys.public, nonce, sealed).encode(), read)

        return make

    @staticmethod
    def info() -> Request[BootstrapInfo]:
        """Makes a bootstrap info request; nothing is sealed in it, and it has no id."""

        def read(datagram: bytes) -> BootstrapInfo | None:
            try:
                return BootstrapInfo.decode(datagram)
            except WireError:
                return None

        return Request(BootstrapInfoRequest(_INFO_PADDING).encode(), read)


