"""A role of a running node gets more processes and fewer: nothing that is on its way is lost."""

import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core.crypto import KeyPair
from ops import client
from tests.onion.client import Client
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.node import Node, Pinger, free_port, running, until
from toxmesh.bench.clients import Clients, make_rows
from toxmesh.bench.relay import RelayLoad
from toxmesh.bench.traffic import Result
from toxmesh.cli import run

pytestmark = pytest.mark.process
CONNECTIONS = 40
PINGERS, ANNOUNCED = 24, 60
RETURN = bytes(range(177))
PAUSE_S = 0.002  # between two datagrams of a load: some 400 a second
WINDOW = 32  # datagrams of a load that are not answered yet

CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("worker add", {"role": "relay"}),
    ("worker add", {"role": "onion", "count": 2}),
    ("worker add", {"role": "dht"}),
    ("worker drain", {"name": "onion.0"}),
    ("worker drain", {"name": "relay.0"}),
    ("worker remove", {"role": "dht"}),
    ("worker remove", {"role": "onion"}),
    ("worker add", {"role": "onion"}),
    ("worker add", {"role": "relay"}),
)


def ask(node: Node, request: str, args: dict[str, Any]) -> dict[str, Any]:
    answer = client.ask(node.state_dir, request, args, timeout_s=120)
    assert differences(shapes.REQUESTS[request].answer, answer) == []
    return answer


class Asking:
    """Asks a node again and again, and knows what was not answered."""

    def __init__(self, asks: Callable[[int], tuple[socket.socket, bytes, bytes]]) -> None:
        """asks(number): the socket, what is sent there, and what its answer contains."""
        self._asks = asks
        self.sent = 0
        self.open: set[bytes] = set()
        self.sockets: list[socket.socket] = []
        self.to = ("127.0.0.1", 0)
        self.named: Callable[[int, bytes], bytes] = lambda at, packet: packet

    def step(self) -> None:
        """Takes the answers that are here, and asks once more if few are missing."""
        self._hear(0)
        if len(self.open) >= WINDOW:  # what waits has bounds: 64 new senders of one /24, buffers
            return
        door, packet, name = self._asks(self.sent)
        self.open.add(name)
        self.sent += 1
        door.sendto(packet, self.to)

    def _hear(self, seconds: float) -> None:
        for door in select.select(self.sockets, [], [], seconds)[0]:
            door.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    packet = door.recv(2048)
                    self.open.discard(self.named(self.sockets.index(door), packet))

    def finish(self) -> set[bytes]:
        """Returns the names of what was not answered within 5 s."""
        end = time.monotonic() + 5.0
        while self.open and time.monotonic() < end:
            self._hear(0.05)
        return self.open

    def close(self) -> None:
        """Closes the sockets."""
        for door in self.sockets:
            door.close()


def pings(node: Node) -> Asking:
    """Many keys that ping."""
    pingers = [Pinger(node.key, node.udp_port) for _ in range(PINGERS)]

    def one(number: int) -> tuple[socket.socket, bytes, bytes]:
        pinger = pingers[number % PINGERS]
        ping_id, packet = pinger.request()
        return pinger.socket, packet, ping_id

    asking = Asking(one)
    asking.sockets = [row.socket for row in pingers]
    asking.named = lambda at, packet: pingers[at].opened(packet)
    asking.to = ("127.0.0.1", node.udp_port)
    return asking


class Announced:
    """Clients that announced themselves to a node through one last hop, which is here."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.to = ("127.0.0.1", node.udp_port)
        self.clients = [Client(f"announced {number}") for number in range(ANNOUNCED)]
        self.door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.door.bind(("127.0.0.1", 0))
        for row in self.clients:
            first = self.search(row, row.real, row.real.public)
            assert self.search(row, row.real, row.real.public, first.payload).is_stored == 2

    def search(
        self, row: Client, requester: KeyPair, searched: bytes, ping_id: bytes = bytes(32)
    ) -> Any:
        key = bytes(self.node.key)
        packet = row.announce_request(key, requester, searched, ping_id, row.data.public)
        self.door.settimeout(3)
        self.door.sendto(packet + RETURN, self.to)
        return row.open_announce(requester, key, self.door.recv(2048)[178:])

    def data(self) -> Asking:
        """Data for them, all the time; their last hop gets each with its nonce."""

        def one(number: int) -> tuple[socket.socket, bytes, bytes]:
            row = self.clients[number % ANNOUNCED]
            packet = row.data_request(row.real.public, row.data.public, b"data %d" % number)
            return self.door, packet + RETURN, packet[33:57]

        asking = Asking(one)
        asking.sockets = [self.door]
        asking.named = lambda at, packet: packet[179:203]
        asking.to = self.to
        return asking


@pytest.mark.parametrize("dispatch", ["kernel", "broker"])
def test_shards_come_and_go_under_traffic_and_nothing_is_lost(
    tmp_path: Path, dispatch: str
) -> None:
    port = free_port(socket.SOCK_STREAM)
    arguments = ("--tcp-port", str(port), "--dispatch", dispatch)
    with running(tmp_path, *arguments, workers="dht=1,onion=1,relay=1") as here:
        announced = Announced(here)
        load = RelayLoad(
            Clients(here.key, make_rows(here.key, CONNECTIONS)), ("127.0.0.1", port), 40
        )
        assert load.connect_pairs(CONNECTIONS) == CONNECTIONS
        pinging, data = pings(here), announced.data()
        done: list[dict[str, Any]] = []

        def change() -> None:
            for request, args in CHANGES:
                done.extend(ask(here, request, args)["rows"])

        changing = threading.Thread(target=change)
        changing.start()
        result = Result()
        load.start_frames(200, 2)
        result.sent = 2 * CONNECTIONS
        while changing.is_alive():  # one thread has all keys: crypto has one set of buffers
            load.pump(result, PAUSE_S)
            pinging.step()
            data.step()
        end = time.monotonic() + 5.0
        while result.answers < result.sent and time.monotonic() < end:
            load.pump(result, 0.01, more=False)
        unanswered = pinging.finish(), data.finish()
        status = here.status()
        assert [row["what"] for row in done].count("added") == 6
        assert [row["what"] for row in done].count("removed") == 4
        assert (result.sent - result.answers, result.wrong) == (0, 0)
        assert len(load.connections) == CONNECTIONS
        assert result.answers > 1000
        assert min(pinging.sent, data.sent) > 500
        assert unanswered == (set(), set())
        seeker = Client("seeker")
        for row in announced.clients:  # all are still found, wherever they are now
            assert announced.search(seeker, seeker.dht, row.real.public).is_stored == 1
        pinging.close()
        data.close()
        load.close()
        assert sorted(row["name"] for row in status["workers"]) == [
            "dht.0", "onion.0", "onion.1", "relay.0", "relay.1",
        ]  # fmt: skip
        assert sum(row["restarts"] for row in status["workers"]) == 0
        assert until(
            lambda: here.status()["modules"]["onion.0"]["announce_entries"] > ANNOUNCED / 4, 5
        )
        known = {"dht_candidate_too_many"}
        bad = {name: n for name, n in status["totals"]["drops"].items() if name not in known}
        assert bad == {}


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["drain", "dht.0"], 2, "dht.0 keeps the table of nodes"),
        (["drain", "broker"], 2, "a broker cannot leave"),
        (["drain", "relay.0"], 2, "relay.0 is the only relay; add another one"),
        (["drain", "relay.7"], 1, "there is no relay.7 in this node; there are broker, dht.0"),
        (["remove", "dht"], 2, "one has to stay"),
        (["add", "friends"], 3, "there is no role friends; roles are dht, onion, relay"),
        (["add", "onion"], 2, "this node has no onion at all"),
        (["add", "dht", "64"], 2, "more than 64 processes"),
        (["add", "dht", "x"], 3, "x"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    shared: Node, line: list[str], code: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = shared.children()
    assert run(["ops", "worker", *line, "--state-dir", str(shared.state_dir)]) == code
    assert words in capfd.readouterr().err
    assert shared.children() == before


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    port = free_port(socket.SOCK_STREAM)
    state_dir = tmp_path_factory.mktemp("shared")
    with running(
        state_dir, "--tcp-port", str(port), workers="dht=1,onion=0,relay=1"
    ) as here:
        yield here


def test_a_reload_follows_the_numbers_of_processes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[workers]\ndht = 1\nonion = 1\nrelay = 0\n")
    port = free_port()
    arguments = ("--config", str(file), "--tcp-port", "0", "--udp-port", str(port))
    with running(tmp_path / "state", *arguments, workers="relay=0") as here:
        directory = ["--state-dir", str(here.state_dir)]
        file.write_text("[workers]\ndht = 2\nonion = 3\nrelay = 0\n")
        assert run(["ops", "reload", *directory]) == 0
        assert "processes replaced" in capfd.readouterr().out
        names = sorted(row["name"] for row in here.status()["workers"])
        assert names == ["dht.0", "dht.1", "onion.0", "onion.1", "onion.2"]
        assert run(["ops", "worker", "add", "dht", "--json", *directory]) == 0
        assert json.loads(capfd.readouterr().out)["rows"][0]["name"] == "dht.2"
        file.write_text("[workers]\ndht = 1\nonion = 0\nrelay = 0\n")
        assert run(["ops", "reload", *directory]) == 0
        names = sorted(row["name"] for row in here.status()["workers"])
        assert names == ["dht.0", "onion.0", "onion.1", "onion.2"]
        pending = here.status()["node"]["pending"]
        assert pending == [{"setting": "workers.onion", "now": "3", "then": "0"}]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_meanwhile_loses_no_announce(
    tmp_path: Path, how: signal.Signals
) -> None:
    with running(tmp_path, workers="dht=1,onion=2,relay=0") as here:
        announced = Announced(here)
        os.kill(here.child("onion.0")["pid"], how)
        ask(here, "worker add", {"role": "onion", "count": 2})
        os.kill(here.child("onion.2")["pid"], how)
        ask(here, "worker drain", {"name": "onion.1"})
        until(lambda: here.status()["node"]["state"] == "good", 10)
        assert here.child("onion.0")["restarts"] + here.child("onion.2")["restarts"] == 2
        seeker = Client("seeker")
        for row in announced.clients:
            assert announced.search(seeker, seeker.dht, row.real.public).is_stored == 1
        announced.door.close()


def test_an_upgrade_goes_on_with_the_shards_and_sockets_as_they_are(tmp_path: Path) -> None:
    with running(tmp_path, workers="dht=1,onion=1,relay=0") as here:
        announced = Announced(here)
        ask(here, "worker add", {"role": "onion", "count": 2})
        ask(here, "worker drain", {"name": "onion.1"})
        client.ask(here.state_dir, "upgrade", timeout_s=120)
        ask(here, "worker add", {"role": "onion"})  # in the place and on the sockets of before
        ask(here, "worker add", {"role": "dht"})
        ask(here, "worker drain", {"name": "onion.0"})
        names = sorted(row["name"] for row in here.status()["workers"])
        assert names == ["dht.0", "dht.1", "onion.1", "onion.2"]
        seeker = Client("seeker")
        for row in announced.clients:
            assert announced.search(seeker, seeker.dht, row.real.public).is_stored == 1
        for _ in range(16):
            pinger = Pinger(here.key, here.udp_port)
            assert pinger.answered(3.0)
            pinger.close()
        announced.door.close()
