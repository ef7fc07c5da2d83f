"""Reasons of drops that no other test is about: each is made to happen where it is counted."""

import os
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from broker.tcp import RelayTcp
from core import batch
from core.crypto import KeyPair
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.messages import RelayDeliver
from core.module import NodeOptions
from core.packets.forwarding import ForwardReply
from core.relay import RelayLimits
from core.relay.frames import RELAY_COMMIT
from tests.broker.test_main import Stage
from tests.onion.node import Node, address
from tests.processes.test_control import house, line
from tests.relay.joined import Hooks, Joined
from workers.outbox import WorkerOutbox

LIMITS = RelayLimits(per_address=0, per_prefix=0, rest_s=0)


def test_an_address_has_its_number_of_relay_connections() -> None:
    relay = Joined(limits=RelayLimits(per_address=2, per_prefix=0, rest_s=0))
    for _ in range(2):
        relay.confirmed()
    relay.connect()
    assert relay.hooks.drops == {"relay_per_address": 1}


def test_the_same_key_replaces_its_older_connection() -> None:
    relay = Joined()
    keys = KeyPair.generate(SeededEntropy("twice"))
    first = relay.confirmed(keys=keys)
    relay.confirmed(keys=keys)
    relay.run()
    assert first.closed
    assert relay.hooks.drops == {"relay_replaced": 1}


def test_a_client_whose_relay_worker_is_off_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Joined()
    end = relay.connect()
    monkeypatch.setattr(relay.hooks, "slots", lambda role: None)
    end.socket.sendall(end.client.hello())
    relay.run()
    assert end.closed
    assert relay.hooks.drops == {"relay_no_shard": 1}


def test_a_connection_that_breaks_is_gone() -> None:
    relay = Joined()
    end = relay.confirmed()
    connection = end.connection
    assert connection is not None
    end.socket.close()
    relay.ends.remove(end)
    relay.tcp.write(connection, memoryview(b"for nobody"), relay.now)
    relay.run()
    assert relay.hooks.drops == {"relay_gone": 1}


def test_what_others_send_to_a_full_client_is_dropped() -> None:
    relay = Joined(2, LIMITS)
    alice, bob = relay.confirmed(0), relay.confirmed(1)
    assert bob.connection is not None
    while bob.connection.level < LIMITS.queue_limit - 1000:
        relay.tcp.post_data(bob.connection, bytes(1000), "odd", relay.now)
    relay.tcp.post_data(bob.connection, bytes(LIMITS.queue_limit - bob.connection.level), "", 0)
    deliver = RelayDeliver(bob.connection.serial, b"\x09answer")
    relay.tcp.handle_message(deliver, relay.now)
    assert relay.hooks.drops == {"relay_answer_full": 1}
    alice.send(b"\x06" + bob.key + b"hello")
    relay.sockets()
    while relay.work(0):
        pass
    assert relay.hooks.drops == {"relay_answer_full": 1, "relay_oob_full": 1}


def test_a_client_with_too_many_control_frames_is_closed() -> None:
    relay = Joined()
    end = relay.confirmed()
    assert end.connection is not None
    end.reads = False
    for _ in range(LIMITS.control_limit // 34 + 1):
        relay.tcp.post_control(end.connection, b"\x01\x10" + bytes(32), relay.now)
    relay.tcp.pump(relay.now)
    relay.run()
    assert relay.hooks.drops["relay_control_overflow"] >= 1


def test_a_commit_that_answers_no_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Joined()
    end = relay.connect()
    end.socket.sendall(end.client.hello())
    commits: list[Any] = []
    give = relay.give

    def keep(shard: int, kind: int, items: Any) -> None:
        commits.append((shard, kind, items))
        give(shard, kind, items)

    monkeypatch.setattr(relay, "give", keep)
    relay.run()
    shard, kind, items = next(row for row in commits if row[1] == RELAY_COMMIT)
    give(shard, kind, items)
    assert relay.hooks.drops == {"relay_commit_sequence": 1}


@pytest.mark.parametrize(
    ("packet", "rule"),
    [
        (b"\x00short", "route_size"),
        (b"\x02", "notice_size"),
        (b"\x04short", "ping_size"),
        (b"\x05short", "pong_size"),
        (b"\x05" + bytes(8), "pong_zero"),
        (b"\x06short", "oob_size"),
        (b"\x08short", "onion_size"),
        (b"\x0d", "kind"),
        (b"\x20data", "no_link"),
    ],
)
def test_a_client_that_breaks_a_rule_is_closed_under_that_rule(packet: bytes, rule: str) -> None:
    relay = Joined()
    end = relay.confirmed()
    end.send(packet)
    relay.run()
    assert end.closed
    assert relay.hooks.drops == {f"relay_closed:{rule}": 1}


def test_so_is_one_whose_forward_request_no_hop_takes() -> None:
    relay = Joined()
    relay.forward = lambda packet, serial, now, private: False
    end = relay.confirmed()
    end.send(b"\x0ashort")
    relay.run()
    assert end.closed
    assert relay.hooks.drops == {"relay_closed:forward_size": 1}


@pytest.mark.parametrize(
    ("data", "rule"),
    [(b"\x00\x00", "frame_size"), (b"\x00\x20" + bytes(32), "frame_box")],
)
def test_so_is_one_whose_frames_are_none(data: bytes, rule: str) -> None:
    relay = Joined()
    end = relay.confirmed()
    end.socket.sendall(data)
    relay.run()
    assert end.closed
    assert relay.hooks.drops == {f"relay_closed:{rule}": 1}


def test_so_is_one_whose_greeting_nobody_opens() -> None:
    relay = Joined()
    end = relay.connect()
    hello = end.client.hello()
    end.socket.sendall(hello[:-1] + bytes((hello[-1] ^ 1,)))
    relay.run()
    assert end.closed
    assert relay.hooks.drops == {"relay_closed:hello": 1}


def test_connections_wait_at_the_door_while_all_places_are_taken() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    hooks = Hooks(1)
    tcp = RelayTcp(hooks, [listener], NodeOptions(), LIMITS, SeededEntropy("tcp"))
    tcp.door.room = 0
    tcp.door.accept(listener, 0.0)
    assert hooks.drops == {"relay_accept_paused": 1}
    assert not tcp.door.accepting
    tcp.door.close()


def test_an_error_of_the_kernel_over_one_stream_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    hooks = Hooks(1)
    tcp = RelayTcp(hooks, [listener], NodeOptions(), LIMITS, SeededEntropy("tcp"))
    errors: list[OSError] = [ConnectionAbortedError(), BlockingIOError()]

    def accept(row: socket.socket) -> Any:
        raise errors.pop(0)

    monkeypatch.setattr("core.link.streams.accept", accept)
    tcp.door.accept(listener, 0.0)
    assert hooks.drops == {"relay_accept_failed": 1}
    tcp.door.close()


def test_a_way_back_that_we_have_not_made_is_refused() -> None:
    node = Node("n", address(0))
    assert node.handle(ForwardReply(bytes(40), b"x").encode(), address(1), 1000.0) == []
    assert sum((box.drops for box in node.boxes), Counter()) == {"forward_sendback": 1}


def test_an_answer_to_a_family_without_a_socket_is_counted() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as only:
        out = WorkerOutbox("dht", 0, [(only.fileno(), socket.AF_INET)], {})
        out.send(from_text("2001:db8::1", 5), b"\x00")
        assert out.drops == {"no_socket_for_family": 1}


def test_a_guest_at_the_control_door_who_asks_much_and_reads_nothing_is_shown_out(
    tmp_path: Path,
) -> None:
    answer = {"text": os.urandom(9 << 20).hex()}
    with house(tmp_path, much=lambda args: answer) as here, here.guest() as guest:
        guest.send(line("much"))
        here.turn()
        assert here.door.drops == {"control_not_read": 1}


def test_a_broker_without_tcp_is_told_in_vain(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.connect()
    stage.from_relay.send(batch.MESSAGES, batch.rows([RelayDeliver(1, b"x")]))
    stage.until_dropped(told_nobody__tcp=1)
    stage.close()
