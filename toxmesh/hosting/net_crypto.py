"""The net_crypto worker: sockets, relay connections and sessions of the identities of one shard."""

from typing import Any

from core.endpoint import Endpoint
from core.messages import Message
from core.module import Context, Module, ProtocolViolation
from toxmesh.hosting.node_table import NodeTable
from workers.desk import LoopDesk

ROLE = "net_crypto"


class NetCryptoWorker:
    """What the host runs in this role."""

    def __init__(self, context: Context, desk: LoopDesk) -> None:
        self.out = context.out
        self.table = NodeTable(context, ROLE)

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes no datagram of the node's port: identities have sockets of their own."""
        raise ProtocolViolation("net_crypto_datagram")

    def handle_message(self, message: Message, now: float) -> None:
        """Takes what dht.0 tells of its table."""
        if not self.table.handle_message(message, now):
            raise ProtocolViolation("net_crypto_message")

    def handle_topology(self, now: float) -> None:
        """Asks for the nodes to begin with."""
        if self.table.nodes.version is None:
            self.table.ask(now)

    def handle_timer(self, now: float) -> None:
        """Has nothing to do: timers are the loop's."""

    def next_timer(self) -> float | None:
        """Returns None: timers are the loop's."""
        return None

    def snapshot(self) -> dict[str, Any]:
        """Returns counts for the operator."""
        return {"nodes": len(self.table.nodes.rows)}


def create(context: Context, desk: LoopDesk) -> Module:
    """Makes the module of a net_crypto worker."""
    return NetCryptoWorker(context, desk)
