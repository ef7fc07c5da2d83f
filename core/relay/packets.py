"""The packets of the relay protocol below the link ids: what each leads to, and which close.

The rules are those of c-toxcore TCP_server.c: handle_tcp_packet. A handler returns GO_ON, a reason
to wait, or None after it has closed the connection.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.relay.frames import GO_ON, OOB, READ, ROUTE, UNLINK
from core.relay.frames import PONG as PONGED
from core.relay.limits import MAX_OOB
from core.relay.session import Session

if TYPE_CHECKING:
    from core.relay.shard import RelayShard

ROUTING_REQUEST = 0x00
ROUTING_RESPONSE = 0x01
CONNECT_NOTICE = 0x02
DISCONNECT_NOTICE = 0x03
PING = 0x04
PONG = 0x05
OOB_SEND = 0x06
OOB_RECEIVE = 0x07
ONION_REQUEST = 0x08
ONION_RESPONSE = 0x09
FORWARD_REQUEST = 0x0A
FORWARDING = 0x0B

_NO_ID = bytes(8)

Handler = Callable[["RelayShard", Session, bytes, float], int | None]


def _route(shard: "RelayShard", session: Session, plain: bytes, now: float) -> int | None:
    if len(plain) != 33:
        return shard.close(session, "route_size")
    wait = shard.wait_for_answer_room(session)
    if wait:
        return wait
    session.routes += 1
    shard.effects.append((ROUTE, session.serial, plain[1:]))
    return GO_ON


def _connect(shard: "RelayShard", session: Session, plain: bytes, now: float) -> int | None:
    return GO_ON if len(plain) == 2 else shard.close(session, "notice_size")


def _disconnect(shard: "RelayShard", session: Session, plain: bytes, now: float) -> int | None:
    if len(plain) != 2:
        return shard.close(session, "notice_size")
    link_id = plain[1]
    if link_id not in session.links:
        return shard.no_link(session)
    del session.links[link_id]
    shard.effects.append((UNLINK, session.serial, link_id))
    return GO_ON


def _ping(shard: "RelayShard", session: Session, plain: bytes, now: float) -> int | None:
    if len(plain) != 9:
        return shard.close(session, "ping_size")
    wait = shard.wait_for_answer_room(session)
    if wait:
        return wait
    session.pinged = now
    shard.seal(session, b"\x05" + plain[1:])
    return GO_ON


def _pong(shard: "RelayShard", session: Session, plain: bytes, now: float) -> int | None:
    if len(plain) != 9:
        return shard.close(session, "pong_size")
    ping_id = plain[1:]
    if ping_id == _NO_ID:
        return shard.close(session, "pong_zero")
    if ping_id == session.ping_id:
        session.ping_id = None
        shard.effects.append((PONGED, session.serial))
    else:
        shard.effects.append((READ, session.serial, ping_id))
    return GO_ON


def _oob(shard: "RelayShard", session: Session, plain: bytes, now: float) -> int | None:
    if not 33 < len(plain) <= 33 + MAX_OOB:
        return shard.close(session, "oob_size")
    shard.effects.append((OOB, session.serial, plain[1:33], plain[33:]))
    return GO_ON


def _onion(shard: "RelayShard", session: Session, plain: bytes, now: float) -> int | None:
    if not shard.onion(plain, session.serial, now, session.private):
        return shard.close(session, "onion_size")
    return GO_ON


def _forward(shard: "RelayShard", session: Session, plain: bytes, now: float) -> int | None:
    if not shard.forward(plain, session.serial, now, session.private):
        return shard.close(session, "forward_size")
    return GO_ON


_HANDLERS: dict[int, Handler] = {
    ROUTING_REQUEST: _route,
    CONNECT_NOTICE: _connect,
    DISCONNECT_NOTICE: _disconnect,
    PING: _ping,
    PONG: _pong,
    OOB_SEND: _oob,
    ONION_REQUEST: _onion,
    FORWARD_REQUEST: _forward,
}


def handle(
    shard: "RelayShard", session: Session, kind: int, plain: bytes, now: float
) -> int | None:
    """Handles a packet of kind 0..15 from a client."""
    handler = _HANDLERS.get(kind)
    if handler is None:
        return shard.close(session, "kind")
    shard.frames[kind] += 1
    return handler(shard, session, plain, now)
