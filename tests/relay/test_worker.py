"""The worker's adapter: one input in, one commit out, and hops that leave by UDP."""

from collections.abc import Sequence
from typing import Any

import pytest

from core.crypto import KeyPair, SecretKey
from core.endpoint import from_text, pack_ip_port
from core.entropy import SeededEntropy
from core.messages import RelayDeliver
from core.module import Collected, Context, NodeOptions, ProtocolViolation
from core.relay.frames import CLOSE, HELLO, RELAY_COMMIT, RELAY_INPUT, RELAY_RESET
from tests.relay.client import RelayClient
from workers.relay import RelayWorker, create

PUBLIC, PRIVATE = from_text("192.0.2.1", 5), from_text("10.0.0.1", 5)


class Desk:
    def __init__(self) -> None:
        self.frames: list[tuple[int, Sequence[Any]]] = []

    def send_frame(self, kind: int, items: Sequence[Any]) -> None:
        self.frames.append((kind, items))


def worker() -> tuple[RelayWorker, Desk, Collected, KeyPair]:
    entropy = SeededEntropy("worker")
    keys = KeyPair.generate(entropy)
    out = Collected()
    desk = Desk()
    context = Context(keys, SecretKey(bytes(32)), entropy, out, options=NodeOptions())
    module = create(context, desk)
    assert isinstance(module, RelayWorker)
    return module, desk, out, keys


def an_input(
    sequence: int, hellos: list[Any] | None = None, chunks: bytes | None = None, epoch: int = 1
) -> list[Any]:
    chunk = chunks or b""
    return [
        epoch, sequence, sequence - 1, [], [], [], hellos or [], [77, len(chunk)], chunk
    ]  # fmt: skip


def test_a_hello_and_a_request_of_the_onion() -> None:
    module, desk, out, keys = worker()
    client = RelayClient(keys.public, KeyPair.generate(SeededEntropy("client")))
    module.handle_frame(RELAY_INPUT, an_input(1, hellos=[77, client.hello(), PRIVATE]), 1.0)
    kind, (epoch, sequence, rows, out_bytes, effects, drops) = desk.frames.pop()
    assert (kind, epoch, sequence, drops) == (RELAY_COMMIT, 1, 1, {})
    assert rows[:6] == [77, 128, 0, 0, 0, 0]
    assert effects[0][:2] == (HELLO, 77)
    assert rows[6] == len(out_bytes) == 96
    client.receive(out_bytes)
    target = from_text("127.0.0.1", 3000)
    packet = b"\x08" + bytes(24) + pack_ip_port(target) + bytes(300)
    module.handle_frame(RELAY_INPUT, an_input(2, chunks=client.frame(packet)), 1.0)
    assert [row[0] for row in out.sent] == [target]
    assert out.sent[0][1][0] == 0x81
    assert module.snapshot() == {"connections": 1, "frames": {"08": 1}}


def test_a_hello_that_was_not_made_for_us_closes() -> None:
    module, desk, _, _ = worker()
    module.handle_frame(RELAY_INPUT, an_input(1, hellos=[5, bytes(128), PUBLIC]), 1.0)
    assert desk.frames[0][1][4] == [(CLOSE, 5, "hello")]


def test_a_broken_input_is_answered_with_one_reset_until_the_next_epoch() -> None:
    module, desk, _, _ = worker()
    with pytest.raises(TypeError):
        module.handle_frame(RELAY_INPUT, an_input(1, hellos=[5, None, PUBLIC]), 1.0)
    module.handle_frame(RELAY_INPUT, an_input(2), 1.0)
    assert desk.frames == [(RELAY_RESET, [1])]
    module.handle_frame(RELAY_INPUT, an_input(1, epoch=2), 1.0)
    assert desk.frames[1:] == [(RELAY_COMMIT, [2, 1, [], b"", [], {}])]


def test_what_is_not_for_a_relay_is_refused() -> None:
    module, desk, out, _ = worker()
    with pytest.raises(ProtocolViolation, match="relay_datagram"):
        module.handle_packet(b"\x00", from_text("127.0.0.1", 1), 1.0)
    module.handle_message(RelayDeliver(1, b"\x09"), 1.0)
    module.handle_frame(RELAY_COMMIT, [], 1.0)
    assert out.drops == {"relay_message": 1, "relay_frame_kind": 1}
    assert desk.frames == []
    module.handle_timer(1.0)
    assert module.next_timer() is None


def test_hops_that_are_off_count_and_close_as_the_reference_does() -> None:
    module, desk, out, keys = worker()
    module._context.options = NodeOptions(services_off=("forward", "onion"))
    module.handle_options(1.0)
    client = RelayClient(keys.public, KeyPair.generate(SeededEntropy("client")))
    module.handle_frame(RELAY_INPUT, an_input(1, hellos=[77, client.hello(), PRIVATE]), 1.0)
    client.receive(desk.frames.pop()[1][3])
    module.handle_frame(RELAY_INPUT, an_input(2, chunks=client.frame(b"\x08short")), 1.0)
    assert CLOSE not in [effect[0] for effect in desk.frames.pop()[1][4]]
    assert (out.sent, out.drops) == ([], {"service_off:onion": 1})
    module.handle_frame(RELAY_INPUT, an_input(3, chunks=client.frame(b"\x0a" + bytes(99))), 1.0)
    effects = desk.frames.pop()[1][4]
    assert [effect[:2] for effect in effects] == [(CLOSE, 77)]
    assert out.drops["service_off:forward"] == 1
