"""Who gives workers their datagrams: kernel, one broker or several; who may have the port."""

import errno
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.link import dispatch
from core.slots import SlotTable
from tests.processes.node import Pinger, free_port, running, until
from toxmesh import sockets

TABLES = {"dht": SlotTable.even(2), "onion": SlotTable.even(1), "relay": SlotTable.even(1)}


@pytest.fixture
def bound() -> Iterator[sockets.NodeSockets]:
    """The sockets of a node on loopback."""
    row = sockets.bind(("127.0.0.1",), free_port(), ())
    yield row
    row.close()


@pytest.mark.parametrize(
    ("hosts", "inside"),
    [(("127.0.0.1",), True), (("127.0.0.5", "0.0.0.0"), True), (("0.0.0.0", "127.0.0.1"), False)],
)
def test_what_is_sent_unasked_stays_on_loopback_if_the_first_socket_is_there(
    hosts: tuple[str, ...], inside: bool
) -> None:
    bound = sockets.NodeSockets()
    for host in hosts:
        row = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        row.bind((host, 0))
        bound.udp.append(row)
    assert bound.on_loopback(socket.AF_INET) is inside
    assert not bound.on_loopback(socket.AF_INET6)
    bound.close()


def test_each_lane_has_a_socket_on_the_port_and_no_other_node_can_have_it(
    bound: sockets.NodeSockets,
) -> None:
    assert bound.dispatch_by_kernel(TABLES) == ""
    assert [lane.role for lane in bound.lanes] == ["dht"] * 3 + ["onion"] * 2
    names = {row.getsockname() for group in bound.lanes.values() for row in group}
    assert names == {bound.udp[0].getsockname()}
    with pytest.raises(sockets.BindError, match="is taken"):
        sockets.bind(("127.0.0.1",), bound.udp_port, ())


def test_where_the_system_cannot_dispatch_all_is_left_to_the_broker(
    bound: sockets.NodeSockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    monkeypatch.setattr(dispatch, "attach", refuse)
    assert bound.dispatch_by_kernel(TABLES) == "protocol not available"
    assert not bound.lanes
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for kind in range(20):
            client.sendto(bytes([kind]), bound.udp[0].getsockname())
    assert [bound.udp[0].recv(9)[0] for _ in range(20)] == list(range(20))  # nobody else has any


def test_brokers_that_cannot_share_a_port_are_refused_with_the_next_step(
    bound: sockets.NodeSockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(sockets, "_bind", refuse)
    with pytest.raises(sockets.BindError, match="set brokers = 1"):
        bound.share_among_brokers(3)
    assert not bound.readers


@pytest.mark.process
@pytest.mark.parametrize(
    "options", [(), ("--dispatch", "broker"), ("--dispatch", "broker", "--brokers", "3")]
)
def test_all_ways_of_dispatch_answer_everybody_and_count_each_datagram_once(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with running(
        tmp_path / "state", "--tcp-port", "0", *options, workers="dht=2,onion=1,relay=0"
    ) as node:
        pingers = [Pinger(node.key, node.udp_port) for _ in range(24)]
        assert all(pinger.answered(2.0) for pinger in pingers)
        for pinger in pingers:
            pinger.close()

        def counted() -> bool:
            kinds = node.status()["totals"]["kinds"]
            return bool(
                kinds.get("0x00", {}).get("received", 0) >= 24
                and kinds.get("0x01", {}).get("sent", 0) >= 24
            )

        until(counted, 3)
        answer = node.status()
        assert answer["totals"]["kinds"]["0x00"]["received"] == 24
        assert answer["node"]["dispatch"] == ("broker" if options else "kernel")
        names = [row["name"] for row in answer["workers"]]
        brokers = ["broker.1", "broker.2"] if "--brokers" in options else []
        assert names == [*brokers, "dht.0", "dht.1", "onion.0"]


def test_brokers_without_broker_dispatch_are_refused(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "toxmesh", "run", "--dev", "--brokers", "2"]
    result = subprocess.run(
        [*line, "--state-dir", str(tmp_path)], capture_output=True, text=True, timeout=20
    )
    assert result.returncode == 3
    assert 'brokers = 2 needs dispatch = "broker"' in result.stderr


def test_a_broadcast_reaches_every_socket_so_each_lane_has_to_know_its_kinds() -> None:
    bound = sockets.bind(("0.0.0.0",), free_port(), ())
    try:
        assert bound.dispatch_by_kernel(TABLES) == ""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            client.sendto(b"\x21" + bytes(32), ("127.255.255.255", bound.udp_port))
        group = [bound.udp[0], *(rows[0] for rows in bound.lanes.values())]
        assert [row.recv(64)[0] for row in group] == [0x21] * len(group)
        assert [lane.accepts(0x21) for lane in bound.lanes].count(True) == 1
    finally:
        bound.close()
