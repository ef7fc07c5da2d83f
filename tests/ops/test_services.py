"""Services of a real node are switched while clients use them: seen from outside, and counted."""

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from core.services import KINDS, SERVICES
from ops import client
from tests.cli.commands import Said, call
from tests.ops.asked import ask
from tests.ops.test_announces import RETURN, LastHop
from tests.processes.node import Node, free_port, running, until
from tests.processes.streams import Stream, tcp_port

pytestmark = pytest.mark.process

_TCP = ("--listen", "127.0.0.1", "--http", "off")
INFO = b"\xf0" + bytes(77)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("services")
    settings = directory / "toxmesh.toml"
    settings.write_text('lan_discovery = false\nservices_off = ["data"]\nbootstrap = []\n')
    port = free_port(socket.SOCK_STREAM)
    arguments = ("--config", str(settings), *_TCP, "--tcp-port", str(port))
    with running(directory / "state", *arguments, workers="dht=1,onion=2,relay=1") as node:
        yield node


def ops(capsys: pytest.CaptureFixture[str], node: Node, *words: object) -> Said:
    """Runs `toxmesh ops WORDS` against a node."""
    return call(capsys, "ops", *words, "--state-dir", node.state_dir)


def state(node: Node, name: str) -> str:
    return next(str(row["state"]) for row in ask(node, "services")["rows"] if row["name"] == name)


def refused(node: Node, name: str) -> int:
    """Returns how many requests to a service that is off were counted."""
    return int(next(row["refused"] for row in ask(node, "services")["rows"] if row["name"] == name))


def counted(node: Node, name: str, count: int) -> bool:
    return refused(node, name) == count


def switch(node: Node, name: str, on: bool) -> list[str]:
    changed: list[str] = ask(node, "services set", names=[name], on=on)["changed"]
    return changed


def test_what_the_settings_switch_off_or_leave_out_is_so_from_the_start(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {row["name"]: row for row in ask(node, "services")["rows"]}
    assert tuple(rows) == SERVICES
    assert {name for name, row in rows.items() if row["state"] == "on"} == {
        "relay", "onion", "announce", "forward", "bootstrap-info",
    }  # fmt: skip
    assert rows["data"]["state"] == "off"
    assert (rows["LAN"]["state"], "lan_discovery" in rows["LAN"]["why"]) == ("absent", True)
    assert node.status()["node"]["services"] == {
        name: row["state"] for name, row in rows.items()
    }
    said = ops(capsys, node, "services", "on", "LAN")
    assert (said.code, "lan_discovery is false" in said.err) == (2, True)
    said = ops(capsys, node, "services", "off", "chess")
    assert (said.code, "services are relay, onion" in said.err) == (3, True)
    assert ops(capsys, node, "services", "off").code == 3
    assert ops(capsys, node, "services", "away", "relay").code == 3
    assert state(node, "relay") == "on"


def test_each_kind_of_a_service_that_is_off_is_counted_under_its_name(node: Node) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
        to = ("127.0.0.1", node.udp_port)
        for name in ("onion", "announce", "data", "forward"):
            switch(node, name, False)
            before = refused(node, name)
            for kind in KINDS[name]:
                guest.sendto(bytes((kind,)) + bytes(400), to)
            until(partial(counted, node, name, before + len(KINDS[name])), 10.0)
            switch(node, name, True)
            guest.sendto(bytes((KINDS[name][0],)) + bytes(400), to)
        until(lambda: client.ask(node.state_dir, "onion")["refusals"], 10.0)
        assert [refused(node, name) for name in ("onion", "forward")] == [6, 3]
    assert "service_off:onion" in node.status()["totals"]["drops"]


def test_announces_are_passed_over_while_they_are_off_and_answered_after(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    hop = LastHop(node, "switched")
    hop.announce()
    said = ops(capsys, node, "services", "off", "announce")
    assert (said.code, said.out.splitlines()[0]) == (0, "switched off: announce")
    assert "off        announce" in ops(capsys, node, "status").out
    before = refused(node, "announce")
    real = hop.client.real
    request = hop.client.announce_request(node.key, real, real.public) + RETURN
    hop.socket.sendto(request, hop.to)
    until(lambda: refused(node, "announce") == before + 1, 10.0)
    hop.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        hop.socket.recv(2048)
    hop.socket.settimeout(10)
    said = ops(capsys, node, "services", "on", "announce", "--json")
    assert json.loads(said.out)["changed"] == ["announce"]
    assert hop.ask(bytes(32)).is_stored == 2  # what was announced before is still there
    assert switch(node, "announce", True) == []


def test_a_process_that_is_started_later_has_the_service_off_too(node: Node) -> None:
    switch(node, "onion", False)
    before = refused(node, "onion")
    worker = node.child("onion.0")["pid"]
    os.kill(worker, signal.SIGKILL)
    until(
        lambda: (row := node.child("onion.0"))["state"] == "good" and row["pid"] != worker, 20.0
    )
    client.ask(node.state_dir, "worker restart", {"name": "onion.1"}, timeout_s=60)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
        for slot in range(2):  # one for each shard
            packet = b"\x80" + bytes(32) + bytes([slot]) + bytes(300)
            guest.sendto(packet, ("127.0.0.1", node.udp_port))
        until(partial(counted, node, "onion", before + 2), 10.0)
    switch(node, "onion", True)


def test_a_relay_that_is_off_refuses_connections_like_a_node_without_one(node: Node) -> None:
    known = [Stream(node).confirmed() for _ in range(3)]
    assert switch(node, "relay", False) == ["relay"]
    for stream in known:
        assert stream.shut_out()
        stream.close()
    until(lambda: refused(node, "relay") == 3, 10.0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", tcp_port(node)), 5)
    broker = node.child("broker")["pid"]
    os.kill(broker, signal.SIGKILL)
    until(
        lambda: (row := node.child("broker"))["state"] == "good" and row["pid"] != broker, 20.0
    )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", tcp_port(node)), 5)
    switch(node, "relay", True)
    stream = Stream(node).confirmed()
    client.ask(node.state_dir, "worker restart", {"name": "broker"}, timeout_s=60)
    assert stream.pull(0.2)
    stream.close()


def test_bootstrap_info_is_silent_while_it_is_off(node: Node) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
        guest.settimeout(10)
        guest.sendto(INFO, ("127.0.0.1", node.udp_port))
        assert guest.recv(2048)[:1] == b"\xf0"
        switch(node, "bootstrap-info", False)
        guest.sendto(INFO, ("127.0.0.1", node.udp_port))
        until(lambda: refused(node, "bootstrap-info") == 1, 10.0)
        guest.setblocking(False)
        with pytest.raises(BlockingIOError):
            guest.recv(2048)
        switch(node, "bootstrap-info", True)
        guest.settimeout(10)
        guest.sendto(INFO, ("127.0.0.1", node.udp_port))
        assert guest.recv(2048)[:1] == b"\xf0"


def test_a_switch_lasts_until_the_settings_are_read_again(node: Node) -> None:
    switch(node, "forward", False)
    switch(node, "data", True)
    rows = client.ask(node.state_dir, "reload", timeout_s=60)["rows"]
    assert [row["setting"] for row in rows] == ["services_off"]
    assert (state(node, "forward"), state(node, "data")) == ("on", "off")


def test_a_message_of_the_day_is_filled_in_each_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path, "--tcp-port", "0", "--motd", "since {{ start_date }}") as node:
        assert info(node).startswith(b"since 20")
        assert info(node).endswith(b" UTC\0")
        said = ops(capsys, node, "motd", "set", "{{udp_packets_in}} came, up {{uptime}}")
        assert said.code == 0
        came = re.compile(rb"[1-9]\d* came, up 0 days 0 hours 0 minutes\0")
        until(lambda: came.fullmatch(info(node)), 20.0)
        answer = ask(node, "motd")
        assert answer["template"] == "{{udp_packets_in}} came, up {{uptime}}"
        assert answer["bytes"] == len(answer["text"]) < answer["most"] == 255
        assert "template" in ops(capsys, node, "motd", "show").out
        for wrong, why in (("{{load}}", "names are start_date"), ("x" * 256, "at most 255 bytes")):
            said = ops(capsys, node, "motd", "set", wrong)
            assert (said.code, why in said.err) == (3, True)
        os.kill(node.child("broker")["pid"], signal.SIGKILL)
        until(lambda: info(node).endswith(b"minutes\0"), 20.0)
        assert ops(capsys, node, "motd", "set", "").out.splitlines()[-1] == "there is no message"
        until(lambda: info(node) == b"\0", 5.0)  # more than a few in a second are not answered


def info(node: Node) -> bytes:
    """Returns the message of a node as it is on the wire, or nothing if none comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
        guest.settimeout(1)
        guest.sendto(INFO, ("127.0.0.1", node.udp_port))
        try:
            return guest.recv(2048)[5:]
        except TimeoutError:
            return b""
