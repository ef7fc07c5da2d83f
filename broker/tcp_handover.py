"""All connections of a relay go from one broker process to the next; no client notices.

The old broker has stopped reading, and every input it gave to a worker is committed, so its records
are the whole truth. They travel with the descriptors of their streams over a socket that both
brokers were given; the new one begins when the last has come.
"""

import select
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from broker.tcp_connection import (
    NOT_PINGED,
    PING_WAITS,
    Connection,
    State,
    count_between,
)
from broker.tcp_pace import Pace
from broker.tcp_shard import ShardWork
from core.endpoint import Endpoint
from core.link.descriptors import MAX_DESCRIPTORS, Channel, Note

if TYPE_CHECKING:
    from broker.tcp import RelayTcp

_WAITING = 1 << 20  # bytes on their way before the sender waits for the reader
_PATIENCE_S = 5.0  # a reader that takes nothing for so long is dead
_CLIENTS = 256  # in one message: each may have 240 links
_PLAIN = (
    "serial",
    "address",
    "prefix",
    "shard",
    "key",
    "shared",
    "ping_id",
    "ended",
    "deaths",
    "moved",
    "note",
    "since",
    "seen",
    "bytes_in",
    "bytes_out",
)
"""Fields that are the same in both processes; the others are made anew or need a form."""


def hand_over(tcp: "RelayTcp", channel: Channel) -> None:
    """Sends everything; raises ChannelClosed or TimeoutError where the successor is gone."""
    for name, body, descriptors in _notes(tcp):
        channel.send(name, body, descriptors)
        while channel.waiting > _WAITING:
            _wait(channel)
    while channel.blocked:
        _wait(channel)


def _wait(channel: Channel) -> None:
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLOUT)
    if not poll.poll(1000 * _PATIENCE_S):
        raise TimeoutError("the new broker does not take the connections")
    channel.flush()


def _notes(tcp: "RelayTcp") -> Iterator[tuple[str, dict[str, Any], tuple[int, ...]]]:
    rows = [row for row in tcp.connections.values() if row.state != State.CLOSED]
    for start in range(0, len(rows), MAX_DESCRIPTORS):
        part = rows[start : start + MAX_DESCRIPTORS]
        body = {"rows": [_record(row) for row in part]}
        yield "connections", body, tuple(row.fd for row in part)
    clients = tcp.directory.rows()
    for start in range(0, len(clients), _CLIENTS):
        yield "clients", {"rows": clients[start : start + _CLIENTS]}, ()
    clocks = tcp.clocks
    yield (
        "end",
        {
            "serial": tcp.serial,
            "counts": dict(tcp.counts),
            "suspects": [
                [shard, [row.serial for row in work.suspects]] for shard, work in tcp.works.items()
            ],
            "hellos": list(clocks.hellos),
            "confirms": list(clocks.confirms),
            "pings": clocks.pings.due_rows(),
            "pongs": clocks.pings.asked_rows(),
        },
        (),
    )


def _record(row: Connection) -> dict[str, Any]:
    body = {name: getattr(row, name) for name in _PLAIN}
    body["state"] = int(row.state)
    body["receive"] = row.receive
    body["send"] = row.send
    body["receive_first"] = row.receive_first
    body["send_first"] = row.send_first
    body["ping_waits"] = row.pinging != NOT_PINGED
    body["source"] = bytes(row.source)
    body["rest"] = bytes(row.rest)
    body["out"] = None if row.out is None else bytes(row.out)
    body["pace"] = None if row.pace is None else row.pace.to_body()
    body["inbox"] = [] if row.inbox is None else list(row.inbox)
    return body


class Taken:
    """What has come from the broker before, until it is whole."""

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self.done = False
        """Whether nothing more comes: it is whole, or its sender has died."""

    def add(self, note: Note) -> None:
        """Keeps one message."""
        self._notes.append(note)
        self.done = note.name == "end"

    def discard(self) -> None:
        """Closes the streams: the predecessor has died in between, and their clients must know."""
        for note in self._notes:
            for descriptor in note.descriptors:
                socket.socket(fileno=descriptor).close()
        self._notes.clear()
        self.done = True

    def restore(self, tcp: "RelayTcp") -> int:
        """Goes on with all connections; returns how many. `tcp` is new and has no worker yet."""
        clients: list[Any] = []
        for note in self._notes:
            if note.name == "connections":
                for body, descriptor in zip(note.body["rows"], note.descriptors, strict=True):
                    tcp.adopt(_connection(body, descriptor))
            elif note.name == "clients":
                clients += note.body["rows"]
            elif note.name == "end":
                _restore_rest(tcp, note.body)
        tcp.directory.restore(clients)
        return len(tcp.connections)


def _connection(body: dict[str, Any], descriptor: int) -> Connection:
    stream = socket.socket(fileno=descriptor)
    stream.setblocking(False)
    source = Endpoint(bytes(body["source"]))
    row = Connection(
        body["serial"], stream, body["address"], body["prefix"], source, body["since"]
    )
    for name in _PLAIN:
        setattr(row, name, body[name])
    row.state = State(body["state"])
    row.receive_first, row.send_first = body["receive_first"], body["send_first"]
    row.frames_in = count_between(row.receive_first, body["receive"])
    row.frames_out = count_between(row.send_first, body["send"])
    if body.get("ping_waits"):  # the broker before may be of an earlier version
        row.pinging = PING_WAITS
    row.rest = body["rest"]
    row.regive = bool(row.rest) and row.state > State.GREETED
    row.out = None if body["out"] is None else bytearray(body["out"])
    if (pace := body.get("pace")) is not None:  # here too
        row.pace = Pace.from_body(pace)
    for frame, peer in body["inbox"]:
        row.post(frame, None if peer is None else (peer[0], peer[1]))
    return row


def _restore_rest(tcp: "RelayTcp", body: dict[str, Any]) -> None:
    tcp.serial = body["serial"]
    tcp.counts.update(body["counts"])
    for shard, serials in body["suspects"]:
        work = tcp.works[shard] = ShardWork(shard, tcp.limits, tcp.directory)
        work.suspects.extend(tcp.connections[serial] for serial in serials)
    clocks = tcp.clocks
    clocks.hellos.extend((row[0], row[1]) for row in body["hellos"])
    clocks.confirms.extend((row[0], row[1]) for row in body["confirms"])
    clocks.pings.restore(body["pings"], body["pongs"])

