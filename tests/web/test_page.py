"""The live page in a real browser: it draws the running node, and asks for nothing elsewhere."""

import os
import socket
from pathlib import Path

import pytest

from core import endpoint
from tests.processes.node import Pinger, free_port, running, until
from tests.web.browser import Browser, BrowserMissing, find
from tests.web.test_node import Watched
from toxmesh.bench.fakes import Fakes

pytestmark = pytest.mark.process


def browser() -> Path:
    """Returns the browser; where CI runs a missing one is a failure, as for peers."""
    try:
        return find()
    except BrowserMissing as reason:
        if os.environ.get("CI") or os.environ.get("TOXMESH_REQUIRE_PEERS"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))


def test_the_page_draws_the_running_node(tmp_path: Path) -> None:
    program = browser()
    port = free_port(socket.SOCK_STREAM)
    options = ("--tcp-port", str(port), "--http", "127.0.0.1:0")
    with running(tmp_path / "state", *options, workers="dht=2,onion=1,relay=1") as node:
        watched = Watched(node, port)
        target = endpoint.from_text("127.0.0.1", node.udp_port)
        with Fakes(bytes(node.key), target, 24), Browser(program) as page:
            stream, _ = watched.relay_client()  # after the fork, which would keep it open
            until(lambda: watched.count("dht_nodes", state="good") >= 8, 20)
            page.open(f"http://{watched.node.status()['node']['http']}/")
            assert page.until("document.getElementById('state').textContent == 'good'")
            assert page.value("document.getElementById('key').textContent") == (
                bytes(node.key).hex().upper()
            )
            # Everything is drawn, and what is drawn follows the node.
            assert page.until("document.querySelectorAll('#space .node').length >= 8")
            assert page.until("document.getElementById('clients').textContent == '1'")
            rows = "[...document.querySelectorAll('#workers tr')]"
            names = page.value(rows + ".map(row => row.cells[0].innerText)")
            assert names == ["broker", "dht.0", "dht.1", "onion.0", "relay.0"]
            pinger = Pinger(node.key, node.udp_port)
            assert until(pinger.answered, 10)
            stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            stranger.sendto(b"\x07" * 50, ("127.0.0.1", node.udp_port))
            stranger.close()
            for _ in range(20):
                pinger.answered(1.0)
            pinger.close()
            text = "document.getElementById('{}').textContent"
            assert page.until(text.format("drops") + ".includes('unknown_kind:0x07')")
            assert page.until(text.format("kinds") + ".includes('ping request')")
            assert page.until("document.querySelectorAll('#rates path[fill]').length >= 2")
            stream.close()
            assert page.until("document.getElementById('clients').textContent == '0'")
            parts = "[...document.querySelectorAll('section')]"
            assert page.value(parts + ".every(part => part.offsetHeight > 100)")
            assert page.value("document.documentElement.scrollWidth <= window.innerWidth")
            # It looks different in the dark, and none of it was refused by its own policy.
            light = page.picture(tmp_path / "light.png")
            ground = "getComputedStyle(document.body).backgroundColor"
            bright = page.value(ground)
            page.dark(True)
            assert page.until(f"{ground} != {bright!r}")
            assert page.picture(tmp_path / "dark.png") != light
            assert page.complaints() == []
            asked = {address.partition("/")[2] for address in page.requested()}
            place = ":".join(map(str, watched.place))
            assert asked == {f"/{place}/", f"/{place}/events"}
            # When the node is gone it says so.
            node.process.terminate()
            assert page.until(text.format("state") + ".includes('no connection')")


def test_a_page_by_another_name_gets_nothing(tmp_path: Path) -> None:
    program = browser()
    with (
        running(tmp_path / "state", "--tcp-port", "0", "--http", "127.0.0.1:0") as node,
        Browser(program) as page,
    ):
        port = node.status()["node"]["http"].rpartition(":")[2]
        # Browsers resolve every name below localhost to loopback, as a rebound name would.
        page.open(f"http://rebound.localhost:{port}/")
        assert page.until("document.body && document.body.innerText.includes('ask for localhost')")
