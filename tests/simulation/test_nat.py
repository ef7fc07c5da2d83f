"""The simulation's own promises: what each kind of NAT lets in, and what the network does."""

import pytest

from core.endpoint import Endpoint, from_text, ip_of, port_of, with_port
from core.module import NodeOptions
from tests.simulation import NatBox, NatKind, World

INSIDE = from_text("192.168.1.2", 33445)
PUBLIC = from_text("20.0.0.1", 0)
ASKED = from_text("30.0.0.1", 1000)
SAME_HOST = from_text("30.0.0.1", 2000)
STRANGER = from_text("40.0.0.1", 1000)


@pytest.mark.parametrize(
    ("kind", "let_in"),
    [
        (NatKind.FULL_CONE, [ASKED, SAME_HOST, STRANGER]),
        (NatKind.RESTRICTED, [ASKED, SAME_HOST]),
        (NatKind.PORT_RESTRICTED, [ASKED]),
        (NatKind.SYMMETRIC, [ASKED]),
    ],
)
def test_who_may_send_to_a_mapped_port(kind: NatKind, let_in: list[Endpoint]) -> None:
    nat = NatBox(kind, PUBLIC)
    assert all(nat.inward(with_port(PUBLIC, 40_000), peer, 0.0) is None for peer in let_in)
    outside = nat.outward(INSIDE, ASKED, 0.0)
    assert ip_of(outside) == ip_of(PUBLIC)
    for peer in (ASKED, SAME_HOST, STRANGER):
        assert nat.inward(outside, peer, 1.0) == (INSIDE if peer in let_in else None)
        assert nat.inward(outside, peer, 61.0) is None  # the mapping ran out


@pytest.mark.parametrize("kind", list(NatKind))
def test_only_a_symmetric_nat_shows_each_destination_another_port(kind: NatKind) -> None:
    nat = NatBox(kind, PUBLIC)
    ports = {port_of(nat.outward(INSIDE, peer, 0.0)) for peer in (ASKED, SAME_HOST, STRANGER)}
    assert len(ports) == (3 if kind is NatKind.SYMMETRIC else 1)
    assert nat.outward(INSIDE, ASKED, 1.0) == nat.outward(INSIDE, ASKED, 2.0)


def test_nodes_behind_one_nat_meet_by_broadcast_and_strangers_do_not_see_it() -> None:
    world = World(seed=1)
    options = NodeOptions(lan_discovery=True)
    nat = world.add_nat(NatKind.PORT_RESTRICTED)
    alice = world.add_node("alice", nat=nat, options=options)
    bob = world.add_node("bob", nat=nat, options=options)
    other = world.add_node("other", nat=world.add_nat(NatKind.FULL_CONE), options=options)
    world.run_for(5.0)

    def known(node: object) -> set[bytes]:
        return set(node.modules["dht"][0].snapshot_of_table.rows)  # type: ignore[attr-defined]  # a Node

    assert known(alice) == {bob.key}
    assert known(bob) == {alice.key}
    assert known(other) == set()


def test_datagrams_are_lost_doubled_and_late_as_often_as_was_asked_for() -> None:
    world = World(seed=1, loss=0.2, duplication=0.1, reordering=0.5, latency=(0.01, 0.1))
    sender, receiver = world.add_peer("sender"), world.add_peer("receiver")
    for number in range(1000):
        sender.send(receiver.endpoint, number.to_bytes(2, "big"))
    world.run_for(1.0)
    assert world.drops["loss"] == pytest.approx(200, abs=50)
    assert len(receiver.received) == pytest.approx(880, abs=60)
    order = [packet for _, packet in receiver.received]
    assert order != sorted(order)


def test_a_packet_to_nobody_is_counted_and_a_watcher_may_drop_any() -> None:
    world = World(seed=1)
    peer = world.add_peer()
    peer.send(STRANGER, b"x")
    world.watch = lambda source, to, packet: packet != b"y"
    peer.send(STRANGER, b"y")
    world.run_for(1.0)
    assert world.drops == {"nobody_there": 1, "watch": 1}


def test_run_until_gives_up_at_its_limit() -> None:
    world = World(seed=1)
    start = world.now
    assert not world.run_until(lambda: False, limit=7.0)
    assert world.now == start + 7.0
