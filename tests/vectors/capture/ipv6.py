"""Captures packets with IPv6 addresses in them: `python -m tests.vectors.capture.ipv6`.

Only the reference can show the order of an address's bytes: it is told of nodes on ::1 by their
packets' source, and names them to us.
"""

import subprocess
import tempfile
from pathlib import Path

from core.crypto import NO_KEY, PublicKey
from core.packets.announce import (
    AnnounceRequest,
    AnnounceRequestBody,
    AnnounceResponse,
    AnnounceResponseBody,
)
from core.packets.dht import NodesResponse, NodesResponseBody
from core.packets.onion import OnionResponse3
from tests.interop import peers
from tests.interop.driver import Client, free_port
from tests.interop.nodes import new_keys
from tests.vectors.capture.recorder import ENTROPY, Book, FakeNetwork, add_box, box, new_nonce
from tests.vectors.capture.store import Friend, Store

_HOST = "::1"
_NOTE = "IPv6"

_CONFIG = """
port = {port}
keys_file_path = "{folder}/keys"
pid_file_path = "{folder}/pid"
enable_ipv6 = true
enable_ipv4_fallback = true
enable_lan_discovery = false
enable_tcp_relay = false
enable_motd = false
"""


def main() -> None:
    """Meets a daemon and a client on ::1."""
    book = Book()
    capture_daemon(book)
    capture_client(book)
    book.save()


def capture_daemon(book: Book) -> None:
    """Nodes and announce responses that name nodes on ::1."""
    network, keys, peer, port = FakeNetwork(6, _HOST), new_keys(), peers.bootstrapd(), free_port()
    made_by, node = "tox-bootstrapd 0.2.18", network.nodes[0]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "keys").write_bytes(keys.public + keys.secret.reveal())
        config = Path(folder) / "config"
        config.write_text(_CONFIG.format(port=port, folder=folder))
        command = [str(peer.path), "--foreground", "--log-backend=stdout", f"--config={config}"]
        process = subprocess.Popen(
            command, env=peer.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            network.pump(lambda: False, 2)
            for one in network.nodes:
                one.ping(port, keys.public)
            network.pump(lambda: False, 6)
            node.ask_nodes(port, keys.public, node.keys.public)
            data = network.wait_for(node, 0x04)
            vector = book.keep(NodesResponse, data, made_by, _NOTE)
            named = add_box(vector, node.keys, keys.public, NodesResponseBody)["fields"]["nodes"]
            addresses = {f"[::1]:{one.port}" for one in network.nodes}
            assert {one["address"] for one in named} <= addresses, named
            assert len(named) == 4
            nonce = new_nonce()
            body = AnnounceRequestBody(bytes(32), node.keys.public, NO_KEY, b"sendback")
            sealed = box(body, node.keys, keys.public, nonce)
            packet = AnnounceRequest(nonce, node.keys.public, sealed, ENTROPY.bytes(177))
            node.send(port, packet.encode())
            data = OnionResponse3.decode(network.wait_for(node, 0x8C)).payload
            vector = book.keep(AnnounceResponse, data, made_by, _NOTE)
            add_box(vector, node.keys, keys.public, AnnounceResponseBody)
        finally:
            process.terminate()
            process.wait()


def capture_client(book: Book) -> None:
    """An onion request through hops on ::1."""
    network = FakeNetwork(10, _HOST)
    store = Store(book, network, Friend(), "libtoxcore 0.2.18")
    store.note = _NOTE
    client = Client(peers.library(peers.OLD))
    try:
        # another instance in the same process, for `Client` itself starts without IPv6
        started = client.call(
            "start", port=free_port(), ipv6=True, udp=True, dht_parity=None, real_parity=None,
            tcp_port=0,
        )  # fmt: skip
        store.client_key = PublicKey(bytes.fromhex(started["address"])[:32])
        for node in network.nodes[:4]:
            client.meet(_HOST, node.port, 0, node.keys.public, udp=True)
        assert network.pump(lambda: book.has(f"OnionRequest0 ({_NOTE})"), 60), "no onion request"
    finally:
        client.close()


if __name__ == "__main__":
    main()
