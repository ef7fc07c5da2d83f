"""How an identity is at this moment, as plain data for people and programs that look after it."""

from typing import Any

from core.endpoint import to_text
from core.identity import Engine
from toxmesh.identity.mailbox import Mailbox


def describe(engine: Engine, mailbox: Mailbox, port: int, now: float) -> dict[str, Any]:
    """Returns what `toxmesh identity status --json` prints; times in seconds, keys in hex."""
    outgoing, incoming = mailbox.counts()
    return {
        "tox_id": str(engine.messenger.tox_id),
        "udp_port": port,
        "connected": engine.connected,
        "friends": [_friend(engine, mailbox, key, now) for key in engine.messenger.friends()],
        "relays": [
            {
                "key": row.key.hex().upper(),
                "address": row.address,
                "state": row.state,
                "linked": row.linked,
                "rtt_s": round(row.rtt_s, 4),
                "sent_bytes": row.sent,
                "received_bytes": row.received,
                "waiting_bytes": row.waiting,
                "failures": row.failures,
            }
            for row in engine.relays.status()
        ],
        "messages": {"unsent": outgoing, "untaken": incoming},
        "drops": dict(sorted(engine.drops.items())),
    }


def _friend(engine: Engine, mailbox: Mailbox, key: Any, now: float) -> dict[str, Any]:
    view = engine.messenger.friend(key)
    row: dict[str, Any] = {
        "key": key.hex().upper(),
        "nick": view.saved.name.decode("utf-8", "replace"),
        "path": view.connection.value,
        "state": view.saved.state.name.lower(),
        "last_seen": view.saved.last_seen or None,
        "unsent": mailbox.count_for(key),
        "transfers": [
            {
                "number": transfer.number,
                "size": transfer.size,
                "position": transfer.position,
                "state": transfer.state.name.lower(),
            }
            for transfer in engine.messenger.transfers(key)
        ],
    }
    found = engine.friends.status(key, now)
    row["search"] = None if found is None else found.state.value
    row["addresses"] = [] if found is None else [to_text(each) for each in found.addresses]
    session = engine.crypto.status(key)
    row["session"] = None
    if session is not None:
        row["session"] = {
            "state": session.state.value,
            "address": None if session.endpoint is None else to_text(session.endpoint),
            "rtt_s": round(session.rtt_s, 4),
            "packets_per_s": round(session.send_rate),
            "queued": session.queued,
            "missing": session.missing,
            "sent_bytes": session.sent_bytes,
            "received_bytes": session.received_bytes,
        }
    return row
