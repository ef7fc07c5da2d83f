"""The broker's loop, with workers that the test plays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from broker.main import Broker
from core import batch
from core.link.child import Peer, Start, Topology
from core.link.descriptors import Channel, Note
from core.link.frames import Outlet
from core.messages import Candidate, RelayDeliver
from core.module import LocalError
from core.slots import SlotTable

OWN, DHT, RELAY = 4, 5, 6  # generations


class Stage:
    """A broker without sockets, and two workers."""

    def __init__(self, folder: Path) -> None:
        self.channel, theirs = Channel.pair()
        self.folder = folder
        start = Start(
            name="broker",
            role="broker",
            shard=0,
            generation=OWN,
            path=f"{folder}/broker",
            started=0.0,
            secret=bytes(range(32)),
            master=bytes(32),
        )
        self.broker = Broker(Channel(theirs), start)
        self.zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.from_dht = Outlet(self.zmq, f"{folder}/broker", DHT, OWN)
        self.from_relay = Outlet(self.zmq, f"{folder}/broker", RELAY, OWN)

    def connect(self, dht: int = DHT) -> None:
        rows = [
            Peer("dht.0", "dht", 0, dht, f"{self.folder}/dht"),
            Peer("relay.0", "relay", 0, RELAY, f"{self.folder}/relay"),
        ]
        slots = {"dht": SlotTable.even(1), "relay": SlotTable.even(1)}
        topology = Topology(slots, {(row.role, row.shard): row for row in rows})
        self.broker._note(Note("topology", topology.to_body(), ()), 0.0)

    def until_dropped(self, **reasons: int) -> None:
        wanted = {name.replace("__", ":"): count for name, count in reasons.items()}
        for _ in range(200):
            self.broker._turn()
            if dict(self.broker.drops) == wanted:
                return
        raise AssertionError(f"{dict(self.broker.drops)} is not {wanted}")

    def close(self) -> None:
        for lane in self.broker._udp.lanes.values():
            lane.connect(None)
        self.broker._inlet.close()
        self.broker._zmq.destroy(linger=0)
        self.zmq.destroy(linger=0)
        self.channel.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def test_a_worker_says_only_what_its_role_may(stage: Stage) -> None:
    stage.connect()
    stage.from_dht.send(10, [1])  # a relay's commit
    stage.from_dht.send(batch.MESSAGES, batch.rows([RelayDeliver(1, b"x")]))
    stage.from_dht.send(batch.DATAGRAMS, [b"a", b"b"])
    stage.from_relay.send(batch.DATAGRAMS, [b"a", b"b"])
    stage.until_dropped(wrong_verb__dht=3, wrong_verb__relay=1)


def test_frames_before_their_announcement_wait_and_frames_of_the_dead_are_refused(
    stage: Stage,
) -> None:
    stage.from_dht.send(10, [1])
    for _ in range(20):
        stage.broker._turn()
        if stage.broker._early:
            break
    assert not stage.broker.drops
    stage.connect()
    stage.until_dropped(wrong_verb__dht=1)
    stage.connect(dht=9)
    stage.from_dht.send(batch.MESSAGES, batch.rows([Candidate(b"", b"")]))
    stage.until_dropped(wrong_verb__dht=1, late_frame=1)


def test_the_tcp_side_sends_to_relay_shards_that_are_up_and_with_credit_alone(
    stage: Stage,
) -> None:
    assert stage.broker.relay_shards() == []
    assert stage.broker.credit(0) == 0
    with pytest.raises(LocalError):
        stage.broker.send_frame(0, 10, [])
    stage.connect()
    assert stage.broker.relay_shards() == [0]
    assert [stage.broker.send_frame(0, 10, [i]) for i in range(4)] == [1, 2, 3, 4]
    assert stage.broker.credit(0) == 0
    with pytest.raises(LocalError):
        stage.broker.send_frame(0, 10, [])
    stage.from_relay.acknowledge(3)
    for _ in range(100):
        stage.broker._turn()
        if stage.broker.credit(0) == 3:
            break
    assert stage.broker.credit(0) == 3
    with pytest.raises(LocalError):
        stage.broker.send_frame(0, batch.DATAGRAMS, [])
