"""Leads clients of libtoxcore from a test: one `Client` for each process of `client.py`."""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import IO, Any, cast

from tests.interop.peers import CHECKOUT, Peer

_CALL_TIMEOUT_S = 30
_START_ATTEMPTS = 5  # another process may take the port we found free

_changed = threading.Condition()
"""Notified whenever any client said something."""


def wait_until(
    condition: Callable[[], bool], what: str, timeout_s: float, poll_s: float = 0.25
) -> float:
    """Waits for `condition`; returns the seconds it took, or fails the test with `what`.

    The condition is looked at whenever a client says something, and every `poll_s` besides.
    """
    start = time.monotonic()
    with _changed:
        while not condition():
            left = start + timeout_s - time.monotonic()
            if left <= 0:
                raise AssertionError(f"not within {timeout_s:g} s: {what}")
            _changed.wait(min(poll_s, left))
    return time.monotonic() - start


def free_port() -> int:
    """Returns a port that was free a moment ago for UDP and TCP alike, outside the Tox range."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port


class ClientError(Exception):
    """The library refused a call; `code` is its error number."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Client:
    """One client and all it has told so far. Attributes change as its events come in."""

    def __init__(
        self,
        peer: Peer,
        *,
        name: str = "",
        udp: bool = True,
        dht_parity: int | None = None,
        real_parity: int | None = None,
        tcp_port: int = 0,
        ipv6: bool = False,
        saved: str = "",
    ) -> None:
        self.name = name or peer.version
        self.version = peer.version
        self.connection = 0
        self.requests: list[tuple[str, str]] = []
        self.friends: dict[int, int] = {}
        self.losses: Counter[int] = Counter()
        self.texts: defaultdict[int, list[str]] = defaultdict(list)
        self.receipts: Counter[int] = Counter()
        self.files: list[tuple[int, str]] = []
        self.progress = 0
        self.invites: list[tuple[int, str]] = []
        self.conferences: defaultdict[int, list[str]] = defaultdict(list)
        self.groups: defaultdict[int, list[str]] = defaultdict(list)
        self.group_peers: Counter[int] = Counter()
        self.joined: set[int] = set()
        self.log: list[tuple[float, dict[str, Any]]] = []
        self._replies: dict[int, dict[str, Any]] = {}
        self._calls = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.interop.client", str(peer.path)],
            cwd=CHECKOUT,
            env=peer.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        started = self._start(
            udp=udp,
            dht_parity=dht_parity,
            real_parity=real_parity,
            tcp_port=tcp_port,
            ipv6=ipv6,
            saved=saved,
        )
        self.port: int = started["port"]
        self.address: str = started["address"]
        self.dht_id = bytes.fromhex(started["dht_id"])
        self.public_key = bytes.fromhex(self.address)[:32]

    def _start(self, **wanted: Any) -> dict[str, Any]:
        for attempt in range(_START_ATTEMPTS):
            try:
                started = self.call("start", port=free_port(), **wanted)
                return cast(dict[str, Any], started)
            except ClientError:
                if attempt == _START_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    @property
    def pid(self) -> int:
        """The id of the client's process."""
        return self._process.pid

    # What the client is told

    def call(self, do: str, **arguments: Any) -> Any:
        """Has the client obey one command (see `client.Client.do_*`); returns its answer."""
        with _changed:
            self._calls += 1
            number = self._calls
        line = json.dumps({"id": number, "do": do, **arguments}) + "\n"
        pipe = cast(IO[str], self._process.stdin)
        pipe.write(line)
        pipe.flush()
        wait_until(
            lambda: number in self._replies, f"{self.name}: an answer to {do}", _CALL_TIMEOUT_S
        )
        reply = self._replies.pop(number)
        if "error" in reply:
            raise ClientError(f"{self.name}: {reply['error']}", int(reply["code"]))
        return reply["ok"]

    def meet(self, host: str, udp_port: int, tcp_port: int, key: bytes, *, udp: bool) -> None:
        """Tells the client of its one node: to bootstrap from over UDP, or as a relay alone.

        A client without UDP is told both, as clients do: the node is then known for onion paths,
        and the library sends no datagram.
        """
        if udp:
            self.call("bootstrap", host=host, port=udp_port, key=key.hex())
            return
        self.call("bootstrap", host=host, port=udp_port, key=key.hex())
        self.call("add_tcp_relay", host=host, port=tcp_port, key=key.hex())

    def close(self) -> None:
        """Ends the client's process."""
        pipe = cast(IO[str], self._process.stdin)
        try:
            pipe.close()
            self._process.wait(5)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()
        self._thread.join(5)
        cast(IO[str], self._process.stdout).close()

    # What the client tells

    def _listen(self) -> None:
        for text in cast(IO[str], self._process.stdout):
            line: dict[str, Any] = json.loads(text)
            with _changed:
                if "reply" in line:
                    self._replies[line["reply"]] = line
                else:
                    self.log.append((time.monotonic(), line))
                    self._take(line)
                _changed.notify_all()

    def _take(self, event: dict[str, Any]) -> None:
        match event:
            case {"event": "connection", "status": status}:
                self.connection = status
            case {"event": "request", "key": key, "text": text}:
                self.requests.append((key, text))
            case {"event": "friend", "friend": friend, "status": status}:
                if status == 0 and self.friends.get(friend):
                    self.losses[friend] += 1
                self.friends[friend] = status
            case {"event": "message", "friend": friend, "text": text}:
                self.texts[friend].append(text)
            case {"event": "receipt", "friend": friend}:
                self.receipts[friend] += 1
            case {"event": "progress", "received": received}:
                self.progress = received
            case {"event": "file", "size": size, "hash": digest}:
                self.files.append((size, digest))
            case {"event": "conference_invite", "friend": friend, "cookie": cookie}:
                self.invites.append((friend, cookie))
            case {"event": "conference_message", "conference": conference, "text": text}:
                self.conferences[conference].append(text)
            case {"event": "group_joined", "group": group}:
                self.joined.add(group)
            case {"event": "group_peer", "group": group}:
                self.group_peers[group] += 1
            case {"event": "group_message", "group": group, "text": text}:
                self.groups[group].append(text)

    def told(self, event: str, **wanted: Any) -> list[dict[str, Any]]:
        """Returns the events of one kind so far, those with all of the given values."""
        with _changed:
            rows = [row for _, row in self.log if row.get("event") == event]
        return [row for row in rows if all(row[name] == wanted[name] for name in wanted)]

    def story(self, last: int = 30) -> str:
        """Returns the last events in words, for a failed test; repeated kinds are counted."""
        lines: list[str] = []
        for moment, event in self.log:
            lines.append(f"{moment:.1f} {event}" if len(str(event)) < 200 else f"{moment:.1f} ...")
        return f"{self.name}: " + "\n  ".join(lines[-last:])
