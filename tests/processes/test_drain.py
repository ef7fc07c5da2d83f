"""A node is drained: nobody new comes, who is here goes on, and then it stops or goes on itself."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops import client
from tests.ops import shapes
from tests.ops.schema import differences
from tests.processes.node import Node, Pinger, free_port, running, until
from tests.processes.test_resize import Announced
from toxmesh import drain
from toxmesh.bench.clients import Clients, make_rows
from toxmesh.bench.relay import RelayLoad
from toxmesh.bench.traffic import Result
from toxmesh.cli import run

pytestmark = pytest.mark.process
CONNECTIONS = 8
ALL_CAME = CONNECTIONS, 0


def ask(node: Node, request: str, **args: Any) -> dict[str, Any]:
    answer = client.ask(node.state_dir, request, args)
    assert differences(shapes.REQUESTS[request].answer, answer) == []
    return answer


@pytest.fixture
def here(tmp_path: Path) -> Iterator[tuple[Node, int, int]]:
    """A node with its TCP port and that of its web door."""
    file = tmp_path / "node.toml"
    web, port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
    file.write_text(f'http = "127.0.0.1:{web}"\n')
    arguments = ("--tcp-port", str(port), "--config", str(file))
    with running(tmp_path / "state", *arguments, workers="dht=1,onion=1,relay=1") as node:
        yield node, port, web


def told(node: Node) -> dict[str, int]:
    drops: dict[str, int] = node.status()["totals"]["drops"]
    return drops


def connected(node: Node, port: int) -> RelayLoad:
    load = RelayLoad(Clients(node.key, make_rows(node.key, CONNECTIONS)), ("127.0.0.1", port), 8)
    assert load.connect_pairs(CONNECTIONS) == CONNECTIONS
    return load


def exchange(load: RelayLoad) -> tuple[int, int]:
    """Sends one frame from each client to its partner; returns how many came, and wrong ones."""
    result = Result()
    load.start_frames(100, 1)
    result.sent = CONNECTIONS
    end = time.monotonic() + 20.0
    while result.answers < result.sent and time.monotonic() < end:
        load.pump(result, 0.01, more=False)
    return result.answers, result.wrong


def readiness(web: int) -> bytes:
    with socket.create_connection(("127.0.0.1", web), 3) as guest:
        guest.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return guest.recv(4096).split(b" ")[1]


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 3).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_drained_node_takes_nobody_new_and_drops_nobody(here: tuple[Node, int, int]) -> None:
    node, port, web = here
    load = connected(node, port)
    announced = Announced(node)
    pinger = Pinger(node.key, node.udp_port)
    assert pinger.answered(3.0)
    until(lambda: node.status()["modules"]["broker"]["clients"] == CONNECTIONS, 5)
    answer = ask(node, "drain")
    assert (answer["clients"], answer["left_s"], answer["then_stop"]) == (CONNECTIONS, None, False)
    assert refused(port)
    assert readiness(web) == b"503"
    assert exchange(load) == ALL_CAME
    assert not pinger.answered()
    known, new = announced.clients[0], announced.clients[1]
    again = announced.search(known, known.real, known.real.public)
    assert announced.search(known, known.real, known.real.public, again.payload).is_stored == 2
    assert announced.search(new, known.dht, new.real.public).is_stored == 1
    first = announced.search(new, new.dht, new.dht.public)
    assert announced.search(new, new.dht, new.dht.public, first.payload).is_stored == 0
    status = node.status()
    assert differences(shapes.REQUESTS["status"].answer, status) == []
    assert status["node"]["state"] == "draining"
    assert status["node"]["drain"]["clients"] == CONNECTIONS

    # Successors begin with it.
    for name in ("broker", "dht.0", "onion.0"):
        client.ask(node.state_dir, "worker restart", {"name": name}, 60)
    assert refused(port)
    assert not pinger.answered()
    assert exchange(load) == ALL_CAME

    assert ask(node, "drain cancel") == {"draining": False}
    with pytest.raises(client.AskError, match="the node is not drained"):
        ask(node, "drain cancel")
    assert pinger.answered(3.0)
    assert readiness(web) == b"200"
    assert exchange(load) == ALL_CAME
    others = connected(node, port)
    assert exchange(others) == ALL_CAME
    drops = until(lambda: told(node) if told(node).get("draining:dht", 0) >= 2 else None, 5)
    assert drops["draining:announce"] == 1
    for row in (load, others):
        row.close()
    announced.door.close()
    pinger.close()


def test_a_drain_ends_when_its_time_is_over(here: tuple[Node, int, int]) -> None:
    node, port, _ = here
    directory = ["--state-dir", str(node.state_dir)]
    assert run(["ops", "drain", "--for", "1s", *directory]) == 0
    assert refused(port)
    until(lambda: not refused(port), 5)
    until(lambda: node.status()["node"]["drain"] is None, 5)


def test_it_waits_until_all_have_left(
    here: tuple[Node, int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    node, port, _ = here
    load = connected(node, port)
    until(lambda: node.status()["modules"]["broker"]["clients"] == CONNECTIONS, 5)
    directory = ["--state-dir", str(node.state_dir)]
    assert run(["ops", "drain", "--wait", "--for", "1s", *directory]) == 1  # nobody has left
    codes: list[int] = []
    waiting = threading.Thread(
        target=lambda: codes.append(run(["ops", "drain", "--wait", *directory]))
    )
    waiting.start()
    until(lambda: refused(port), 5)
    load.close()
    waiting.join(20)
    assert codes == [0]
    assert "0 relay clients are left" in capfd.readouterr().out
    assert run(["ops", "drain", "--cancel", *directory]) == 0


def test_it_stops_when_its_time_is_over(here: tuple[Node, int, int]) -> None:
    node, port, _ = here
    load = connected(node, port)
    line = ["drain", "--for", "2s", "--then-stop", "--wait"]
    assert run(["ops", *line, "--state-dir", str(node.state_dir)]) == 0
    assert node.process.wait(10) == 0
    load.close()


def test_it_stops_when_all_have_left_and_others_have_forgotten_it(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_STREAM)
    arguments = ("--udp-port", "0", "--tcp-port", str(port))
    with running(tmp_path, *arguments, workers="dht=1,onion=1,relay=1") as node:
        assert ask(node, "drain", then_stop=True)["then_stop"]
        assert node.process.wait(20) == 0  # without UDP there is nobody else to forget it


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["--cancel", "--wait"], 3, "goes with no other option"),
        (["--for", "soon"], 3, "is no time"),
        (["--cancel"], 2, "the node is not drained"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    here: tuple[Node, int, int],
    line: list[str],
    code: int,
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    node, _, _ = here
    assert run(["ops", "drain", *line, "--state-dir", str(node.state_dir)]) == code
    assert words in capfd.readouterr().err
    with pytest.raises(client.AskError, match="for_s must be a number of seconds"):
        ask(node, "drain", for_s=True)


def test_it_takes_as_long_as_the_reference_needs_to_forget() -> None:
    assert drain.FORGOTTEN_S == 122.0
