"""The messenger worker: friends, messages and files of the identities of one shard."""

from typing import Any

from core.endpoint import Endpoint
from core.messages import Message
from core.module import Context, Module, ProtocolViolation
from workers.desk import LoopDesk

ROLE = "messenger"


class MessengerWorker:
    """What the host runs in this role."""

    def __init__(self, context: Context, desk: LoopDesk) -> None:
        self.out = context.out

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Takes no datagram: all that identities say leaves by their net_crypto worker."""
        raise ProtocolViolation("messenger_datagram")

    def handle_message(self, message: Message, now: float) -> None:
        """Takes nothing yet that it would not have asked for."""
        raise ProtocolViolation("messenger_message")

    def handle_timer(self, now: float) -> None:
        """Has nothing to do: timers are the loop's."""

    def next_timer(self) -> float | None:
        """Returns None: timers are the loop's."""
        return None

    def snapshot(self) -> dict[str, Any]:
        """Returns counts for the operator."""
        return {"identities": 0}


def create(context: Context, desk: LoopDesk) -> Module:
    """Makes the module of a messenger worker."""
    return MessengerWorker(context, desk)
