"""The control channel: whole messages, descriptors, and the end of the other side."""

import os
import socket

import pytest

from core.endpoint import Endpoint
from core.link.child import Peer, Start, Topology, plain
from core.link.descriptors import Channel, ChannelClosed, Note
from core.module import NodeOptions
from core.slots import SlotTable
from core.wire import WireError


def both() -> tuple[Channel, Channel]:
    ours, theirs = Channel.pair()
    return ours, Channel(theirs)


def received(channel: Channel, count: int, other: Channel) -> list[Note]:
    notes: list[Note] = []
    while len(notes) < count:
        other.flush()
        notes += channel.receive()
    return notes


def test_descriptors_come_with_their_message_and_not_with_another() -> None:
    ours, theirs = both()
    reader, writer = os.pipe()
    ours.send("first", {"a": [1, b"2"]})
    ours.send("second", {}, (writer,))
    ours.send("third", {})
    notes = received(theirs, 3, ours)
    assert [(note.name, len(note.descriptors)) for note in notes] == [
        ("first", 0),
        ("second", 1),
        ("third", 0),
    ]
    os.write(notes[1].descriptors[0], b"hello")
    assert os.read(reader, 10) == b"hello"
    for fd in (reader, writer, *notes[1].descriptors):
        os.close(fd)
    ours.close()
    theirs.close()


def test_a_great_message_waits_for_its_reader_and_arrives_whole() -> None:
    ours, theirs = both()
    ours.send("table", {"rows": [bytes(1000)] * 4000})
    assert ours.blocked
    (note,) = received(theirs, 1, ours)
    assert len(note.body["rows"]) == 4000
    assert not ours.blocked
    ours.close()
    theirs.close()


def test_a_reader_that_never_reads_is_given_up() -> None:
    ours, theirs = both()
    great = {"rows": [bytes(1000)] * 3000}
    while ours.waiting < 6_000_000:
        ours.send("table", great)
    with pytest.raises(ChannelClosed):
        ours.send("table", great)
    ours.close()
    theirs.close()


def test_the_last_words_of_the_other_side_are_heard_and_then_its_end() -> None:
    ours, theirs = both()
    theirs.send("stopped", {"n": 1})
    theirs.close()
    assert [note.name for note in ours.receive()] == ["stopped"]
    with pytest.raises(ChannelClosed):
        ours.receive()
    with pytest.raises(ChannelClosed):
        ours.send("more", {})
    ours.close()


def test_what_is_no_message_is_a_wire_error() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    ours.sendall((3).to_bytes(4, "big") + b"\x93\x01\x02")
    with pytest.raises(WireError):
        channel.receive()
    ours.close()
    channel.close()


def test_orders_and_topology_travel_unchanged_and_hide_their_secrets() -> None:
    start = Start(
        name="dht.1",
        role="dht",
        shard=1,
        generation=7,
        path="/run/x",
        started=1.5,
        secret=b"s" * 32,
        master=b"m" * 32,
        options=NodeOptions(saved_nodes=((Endpoint(b"e" * 16), b"k" * 32),)),
        families=(2, 10),
        udp=(5, 6),
        tcp=(7,),
    )
    body, descriptors = start.to_note()
    ours, theirs = both()
    ours.send("start", body)
    (note,) = received(theirs, 1, ours)
    assert Start.from_note(note._replace(descriptors=descriptors)) == start
    assert "ssss" not in repr(start)
    assert "mmmm" not in repr(start)
    peer = Peer("dht.1", "dht", 1, 7, "/run/x")
    topology = Topology({"dht": SlotTable.even(2)}, {("dht", 1): peer})
    ours.send("topology", topology.to_body())
    (note,) = received(theirs, 1, ours)
    assert Topology.from_body(note.body) == topology
    ours.close()
    theirs.close()


def test_a_snapshot_becomes_data_that_json_can_say() -> None:
    assert plain({1: b"\xff", b"k": (1, None, {2.5})}) == {"1": "ff", "6b": [1, None, [2.5]]}
