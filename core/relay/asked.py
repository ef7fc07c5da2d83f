"""What operators ask a relay worker: how it is with one connection that it serves."""

from typing import Any

from core.asking import NOT_FOUND, CannotAnswer, whole_number
from core.relay.frames import AHEAD, ANSWER, GO_ON, PAUSED
from core.relay.shard import RelayShard

_WAITS = {
    GO_ON: "nothing",
    ANSWER: "answer",
    AHEAD: "broker",
    PAUSED: "receiver",
}
"""For what the rest of a connection's input waits."""


def answer(shard: RelayShard, what: str, args: dict[str, Any], now: float) -> dict[str, Any]:
    """Answers one question with plain data; raises CannotAnswer."""
    if what != "relay session":
        raise CannotAnswer(NOT_FOUND, f"{what} is nothing that a relay worker knows")
    serial = whole_number(args, "serial", 0, 0, 1 << 63)
    session = shard.sessions.get(serial)
    if session is None:
        raise CannotAnswer(NOT_FOUND, "the worker does not have this connection now")
    since = session.paused_since
    return {
        "waits_for": _WAITS[session.wait],
        "paused_s": None if since is None else round(max(0.0, now - since), 3),
        "input_bytes": len(session.rest),
        "ahead_bytes": session.ahead,
        "routes_open": session.routes,
        "dropping_for": len(session.dropping or ()),
        "ping_open": session.ping_id is not None,
        "pinged_s": None if session.pinged is None else round(now - session.pinged, 3),
    }
