"""Fixtures of the interop tests: peers that must be there in CI, clients and nodes that end."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.interop import nodes, peers
from tests.interop.driver import Client
from tests.interop.nodes import Bootstrap, Node


def _must_have_peers() -> bool:
    return bool(os.environ.get("CI") or os.environ.get("TOXMESH_REQUIRE_PEERS"))


def found(find: Callable[[], peers.Peer]) -> peers.Peer:
    """Returns the peer; a missing one fails the test where peers are required, else skips it."""
    try:
        return find()
    except peers.PeerMissing as reason:
        if _must_have_peers():
            pytest.fail(f"a peer is missing: {reason}")
        pytest.skip(f"a peer is missing: {reason}")


class MakeClient(Protocol):
    """Makes a client of the given version that ends with the test."""

    def __call__(
        self,
        version: str,
        *,
        name: str = "",
        udp: bool = True,
        dht_parity: int | None = None,
        real_parity: int | None = None,
        tcp_port: int = 0,
        ipv6: bool = False,
        saved: str = "",
    ) -> Client: ...


class MakeNode(Protocol):
    """Makes a node that ends with the test: "ours" or "bootstrapd".

    `tcp` False keeps ours from being a relay.
    """

    def __call__(
        self,
        kind: str,
        *,
        workers: str = "dht=1,onion=1,relay=1",
        tcp: bool = True,
        host: str = nodes.HOST,
        bootstrap: tuple[Bootstrap, ...] = (),
        motd: str = "",
    ) -> Node: ...


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    made: list[Client] = []

    def make(
        version: str,
        *,
        name: str = "",
        udp: bool = True,
        dht_parity: int | None = None,
        real_parity: int | None = None,
        tcp_port: int = 0,
        ipv6: bool = False,
        saved: str = "",
    ) -> Client:
        peer = found(lambda: peers.library(version))
        client = Client(
            peer,
            name=name,
            udp=udp,
            dht_parity=dht_parity,
            real_parity=real_parity,
            tcp_port=tcp_port,
            ipv6=ipv6,
            saved=saved,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        print(client.story())
        client.close()


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[MakeNode]:
    made: list[Node] = []

    def make(
        kind: str,
        *,
        workers: str = "dht=1,onion=1,relay=1",
        tcp: bool = True,
        host: str = nodes.HOST,
        bootstrap: tuple[Bootstrap, ...] = (),
        motd: str = "",
    ) -> Node:
        folder = tmp_path / f"node{len(made)}"
        folder.mkdir()
        if kind == "bootstrapd":
            peer = found(peers.bootstrapd)
            node = nodes.start_bootstrapd(
                peer, folder, host=host, bootstrap=bootstrap, motd=motd or "-"
            )
        else:
            arguments = ("--motd", motd) if motd else ()
            node = nodes.start_ours(
                folder,
                workers=workers,
                tcp=tcp,
                host=host,
                bootstrap=bootstrap,
                arguments=arguments,
            )
        made.append(node)
        return node

    yield make
    for node in made:
        node.stop()
        print(node.story())
