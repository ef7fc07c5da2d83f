"""How an identity is at this moment, as plain data for people and programs that look after it."""

from typing import Any

from core.crypto import PublicKey
from core.endpoint import to_text
from core.identity import Carrier
from toxmesh.identity.host import Runner
from toxmesh.identity.mailbox import Mailbox


def describe(runner: Runner, mailbox: Mailbox, now: float) -> dict[str, Any]:
    """Returns what `toxmesh identity status --json` prints; times in seconds, keys in hex. What
    another process knows, since it carries the packets, is None and no relay here."""
    outgoing, incoming = mailbox.counts()
    engine, carrier = runner.engine, runner.carrier
    return {
        "tox_id": str(engine.messenger.tox_id),
        "udp_port": runner.port,
        "connected": engine.connected,
        "friends": [_friend(runner, mailbox, key, now) for key in engine.messenger.friends()],
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
            for row in (() if carrier is None else carrier.relays.status())
        ],
        "messages": {"unsent": outgoing, "untaken": incoming},
        "drops": dict(sorted(engine.drops.items())),
    }


def _friend(runner: Runner, mailbox: Mailbox, key: PublicKey, now: float) -> dict[str, Any]:
    messenger = runner.engine.messenger
    view = messenger.friend(key)
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
            for transfer in messenger.transfers(key)
        ],
        "search": None,
        "addresses": [],
        "session": None,
    }
    if runner.carrier is not None:
        row |= way_to(runner.carrier, key, now)
    return row


def way_to(carrier: Carrier, key: PublicKey, now: float) -> dict[str, Any]:
    """Returns how a friend is reached: `search`, `addresses` and `session` of its row."""
    found = carrier.friends.status(key, now)
    row: dict[str, Any] = {
        "search": None if found is None else found.state.value,
        "addresses": [] if found is None else [to_text(each) for each in found.addresses],
        "session": None,
    }
    session = carrier.crypto.status(key)
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
