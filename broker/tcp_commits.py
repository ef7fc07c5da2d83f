"""How a commit of a relay worker changes the broker's records: whole, and in its order."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from broker.tcp_connection import NOT_PINGED, PING_GIVEN, UNCONFIRMED, Connection
from broker.tcp_gather import OFTEN
from core.module import ProtocolViolation
from core.relay.frames import (
    CLOSE,
    CONFIRM,
    HELLO,
    OOB,
    OWN,
    PONG,
    PUSH,
    READ,
    ROUTE,
    ROW_FIELDS,
    UNLINK,
)

if TYPE_CHECKING:
    from broker.tcp import RelayTcp
    from broker.tcp_shard import ShardWork

_OOB_RECEIVE = b"\x07"
_LINK_BYTES = [bytes((number,)) for number in range(256)]


def apply(tcp: "RelayTcp", work: "ShardWork", items: Sequence[Any], now: float) -> None:
    """Applies a commit of the present epoch.

    First the rows (input consumed, nonces moved on, bytes written), then the effects. Connections
    that were closed meanwhile are passed over: their nonces are of no use any more.
    """
    _, sequence, rows, out, effects, drops = items
    done = work.committed(sequence, now)
    if done is None:
        tcp.drops["relay_commit_sequence"] += 1
        return
    connections = tcp.connections
    frames = frames_in = frames_out = 0
    view = memoryview(out)
    end = 0
    part = iter(rows)
    for serial, consumed, received, sent, taken, wait, size in zip(
        *([part] * ROW_FIELDS), strict=False
    ):
        begin = end
        end += size
        connection = connections.get(serial)
        if connection is None:
            continue
        try:
            if consumed:
                rest = connection.rest
                connection.rest = bytes(rest[consumed:]) if consumed < len(rest) else b""
            if received:
                connection.frames_in += received
                frames_in += received
            if sent:
                connection.frames_out += sent
                frames_out += sent
            if taken:
                frames += taken
                if connection.pinging == PING_GIVEN:
                    connection.pinging = NOT_PINGED
                    taken -= 1
                if taken:
                    connection.taken(taken)
            if wait or connection.wait:
                work.set_wait(connection, wait)
            if size:
                tcp.write(connection, view[begin:end], now)
            elif taken and connection.full:
                tcp.check_level(connection, now)
            if wait == OWN:
                tcp.wait_for_no_answer(connection, now)
        except Exception:  # a bug over one stream ends that one (counted, logged: `Bugs`): its
            # nonces may have moved on in part, so it cannot go on; all others in the commit can
            tcp.broke(connection, now)
    for effect in effects:
        connection = connections.get(effect[1])
        if connection is None:
            continue
        try:
            _EFFECTS[effect[0]](tcp, connection, effect, now)
        except Exception:  # as above: what an effect of one client breaks is that client's alone
            tcp.broke(connection, now)
    for reason, count in drops.items():
        tcp.drops[reason] += count
    tcp.counts["frames_in"] += frames_in
    tcp.counts["frames_out"] += frames_out
    tcp.turn_frames += frames + frames_in
    work.settle(done)


def _hello(tcp: "RelayTcp", connection: Connection, effect: list[Any], now: float) -> None:
    _, serial, shared, receive, send = effect
    connection.shared = shared
    connection.receive_first, connection.send_first = receive, send
    connection.state = UNCONFIRMED
    tcp.clocks.confirms.append((now + tcp.limits.confirm_s, serial))
    tcp.counts["hellos"] += 1


def _confirm(tcp: "RelayTcp", connection: Connection, effect: list[Any], now: float) -> None:
    tcp.confirm(connection, now)


def _route(tcp: "RelayTcp", connection: Connection, effect: list[Any], now: float) -> None:
    notices = tcp.directory.route(connection.serial, effect[2])
    tcp.relink(connection, notices, "both_asked", now)


def _unlink(tcp: "RelayTcp", connection: Connection, effect: list[Any], now: float) -> None:
    try:
        notices = tcp.directory.unlink(connection.serial, effect[2])
    except ProtocolViolation as error:
        tcp.doom(connection, error.reason)
        return
    tcp.relink(connection, notices, "given_up", now)


def _push(tcp: "RelayTcp", connection: Connection, effect: list[Any], now: float) -> None:
    peer = tcp.directory.peer_of(connection.serial, effect[2])
    if peer is None:
        tcp.drops["relay_link_down"] += 1
        return
    serial, link_id = peer
    receiver = tcp.connections[serial]
    frame = _LINK_BYTES[link_id] + effect[3]
    tcp.post_data(receiver, frame, "relay_receiver_full", now)
    connection.crossed += 1
    if connection.crossed >= OFTEN and connection.shard != receiver.shard:
        tcp.gather.consider(connection, receiver)


def _oob(tcp: "RelayTcp", connection: Connection, effect: list[Any], now: float) -> None:
    other = tcp.directory.find(effect[2])
    if other is None:
        tcp.drops["relay_oob_nobody"] += 1
        return
    receiver = tcp.connections[other.serial]
    if receiver.full:
        tcp.drops["relay_oob_full"] += 1
        return
    frame = b"".join((_OOB_RECEIVE, connection.key, effect[3]))
    tcp.post_data(receiver, frame, "relay_oob_full", now)


def _pong(tcp: "RelayTcp", connection: Connection, effect: list[Any], now: float) -> None:
    connection.ping_id = None


def _read(tcp: "RelayTcp", connection: Connection, effect: list[Any], now: float) -> None:
    pace = connection.pace
    if pace is None or not pace.answered(effect[2], connection.bytes_out, connection.socket):
        return
    if connection.out is not None:
        tcp.flush(connection, now)


def _close(tcp: "RelayTcp", connection: Connection, effect: list[Any], now: float) -> None:
    tcp.close(connection, f"relay_closed:{effect[2]}", now)


_EFFECTS = {
    HELLO: _hello,
    CONFIRM: _confirm,
    ROUTE: _route,
    UNLINK: _unlink,
    PUSH: _push,
    OOB: _oob,
    PONG: _pong,
    READ: _read,
    CLOSE: _close,
}
