"""What a relay worker makes of messages that are meant for others."""

from collections.abc import Sequence
from typing import Any

import pytest

from core.crypto import KeyPair, SecretKey
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.messages import Message, RelayDeliver, TableChange, TableFull, TableWanted
from core.module import Collected, Context, NodeOptions, ProtocolViolation
from workers.relay import RelayWorker


class Desk:
    """Takes the frames of a worker."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, Sequence[Any]]] = []

    def send_frame(self, kind: int, items: Sequence[Any]) -> None:
        self.frames.append((kind, items))


@pytest.fixture
def worker() -> RelayWorker:
    entropy = SeededEntropy("relay worker")
    keys = KeyPair.generate(entropy)
    master = SecretKey(entropy.bytes(32))
    context = Context(keys, master, entropy, Collected(), 0, {}, NodeOptions(), started=0.0)
    return RelayWorker(context, Desk())


@pytest.mark.parametrize(
    "message",
    [TableFull(1, bytes(32), ()), TableChange(1, bytes(32), (), ()), TableWanted("dht", 0)],
    ids=lambda message: type(message).__name__,
)
def test_the_table_is_passed_over_in_silence(worker: RelayWorker, message: Message) -> None:
    worker.handle_message(message, 1.0)
    assert not worker.out.drops


def test_a_message_for_the_broker_is_refused(worker: RelayWorker) -> None:
    worker.handle_message(RelayDeliver(1, b"\x09"), 1.0)
    assert worker.out.drops == {"relay_message": 1}


def test_a_datagram_is_refused(worker: RelayWorker) -> None:
    with pytest.raises(ProtocolViolation, match="relay_datagram"):
        worker.handle_packet(b"\x02", from_text("192.0.2.1", 1), 1.0)
