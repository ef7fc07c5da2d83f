"""Nodes to begin with: the shipped list, and host names looked up."""

import socket
import threading
from collections.abc import Iterable
from importlib import resources

from core import endpoint
from core.bootstrap_node import BootstrapNode, parse
from core.endpoint import Endpoint

SHIPPED_FILE = "bootstrap_nodes.txt"

__all__ = ["SHIPPED_FILE", "BootstrapNode", "parse", "resolve", "shipped"]


def shipped() -> tuple[BootstrapNode, ...]:
    """Returns the list that comes with toxmesh (its file says where it is from)."""
    text = resources.files("toxmesh").joinpath(SHIPPED_FILE).read_text("utf-8")
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return tuple(parse(line) for line in lines if line)


def resolve(
    nodes: Iterable[BootstrapNode], timeout_s: float = 3.0
) -> tuple[tuple[tuple[Endpoint, bytes], ...], tuple[BootstrapNode, ...]]:
    """Looks all host names up at once; returns endpoints with keys, and the nodes not found.

    A name with IPv4 and IPv6 addresses gives both. A resolver that hangs costs `timeout_s`.
    """
    asked = tuple(nodes)
    found: dict[BootstrapNode, list[tuple[Endpoint, bytes]]] = {}
    threads: list[threading.Thread] = []

    def look_up(node: BootstrapNode) -> None:
        try:
            rows = socket.getaddrinfo(node.host, node.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return
        texts = dict.fromkeys(str(row[4][0]).split("%")[0] for row in rows)
        found[node] = [(endpoint.from_text(text, node.port), node.key) for text in texts]

    for node in dict.fromkeys(asked):
        try:
            found[node] = [(endpoint.from_text(node.host, node.port), node.key)]
        except ValueError:
            thread = threading.Thread(target=look_up, args=(node,), daemon=True)
            thread.start()
            threads.append(thread)
    share = timeout_s / len(threads) if threads else 0.0
    for thread in threads:
        thread.join(share)
    known = dict(found)  # a late thread may still add to `found`
    rows = [row for node in dict.fromkeys(asked) for row in known.get(node, [])]
    return tuple(rows), tuple(node for node in dict.fromkeys(asked) if not known.get(node))
