"""What operators may ask about the sessions of identities, and do to them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from core.asking import MOST_ROWS, NOT_FOUND, CannotAnswer, key_of
from core.crypto import PublicKey
from core.endpoint import to_text
from core.friend.peer import State
from core.identity.near import CarrierDesk, NearDesk

Row = dict[str, Any]
Carriers = dict[PublicKey, CarrierDesk]


def answer(near: NearDesk | None, what: str, args: dict[str, Any], now: float) -> Any:
    """Answers one question. Raises CannotAnswer."""
    carriers: Carriers = {} if near is None else dict(near.carriers)
    if what == "carriers":
        return {key.hex().upper(): _carrier(desk) for key, desk in carriers.items()}
    if what == "sessions":
        return [row for own, desk in carriers.items() for row in _sessions(own, desk, now)]
    if what == "session close":
        return _close(carriers, PublicKey(key_of(args)), now)
    raise CannotAnswer(NOT_FOUND, f"{what} is nothing that a net_crypto worker knows")


def counts(near: NearDesk | None, now: float) -> dict[str, Any]:
    """Returns what a heartbeat tells."""
    carriers: Carriers = {} if near is None else near.carriers
    sums: Counter[str] = Counter(carriers=len(carriers), sessions_direct=0, sessions_relayed=0)
    relays = 0
    for desk in carriers.values():
        for friend in desk.carrier.friends.real_keys():
            found = desk.carrier.friends.status(friend, now)
            if found is not None and found.state is State.ONLINE:
                sums["sessions_direct" if found.direct else "sessions_relayed"] += 1
        relays += sum(row.state == "connected" for row in desk.carrier.relays.status())
    return {**sums, "relays": relays}


def _carrier(desk: CarrierDesk) -> Row:
    """Returns one identity as its sockets see it."""
    carrier = desk.carrier
    return {
        "dht_key": carrier.dht_key.hex().upper(),
        "udp_port": desk.place.port,
        "connected": carrier.connected,
        "relays": [
            {
                "key": row.key.hex().upper(),
                "address": row.address,
                "state": row.state,
                "linked": row.linked,
                "rtt_s": round(row.rtt_s, 4),
                "waiting_bytes": row.waiting,
            }
            for row in carrier.relays.status()
        ],
    }


def _sessions(own: PublicKey, desk: CarrierDesk, now: float) -> Iterator[Row]:
    """Yields a row for each friend to whom there is, or is being made, a session."""
    carrier = desk.carrier
    for friend in carrier.friends.real_keys()[:MOST_ROWS]:
        found = carrier.friends.status(friend, now)
        if found is None:
            continue
        session = carrier.crypto.status(friend)
        row: Row = {
            "identity": own.hex().upper(),
            "key": friend.hex().upper(),
            "search": found.state.value,
            "addresses": [to_text(each) for each in found.addresses],
            "state": None,
            "path": None,
            "address": None,
            "rtt_s": None,
            "packets_per_s": None,
            "queued": 0,
            "missing": 0,
            "sent_bytes": 0,
            "received_bytes": 0,
        }
        if session is not None:
            row |= {
                "state": session.state.value,
                "path": "direct" if found.direct else "relay",
                "address": to_text(session.endpoint) if session.endpoint is not None else None,
                "rtt_s": round(session.rtt_s, 4),
                "packets_per_s": round(session.send_rate),
                "queued": session.queued,
                "missing": session.missing,
                "sent_bytes": session.sent_bytes,
                "received_bytes": session.received_bytes,
            }
        yield row


def _close(carriers: Carriers, friend: PublicKey, now: float) -> list[str]:
    """Ends the sessions with a friend; returns whose they were. They come up again by themselves.
    """
    closed = []
    for own, desk in carriers.items():
        crypto = desk.carrier.crypto
        if crypto.status(friend) is None:
            continue
        crypto.close(friend, now)
        desk.carrier.friends.session_down(friend, now)
        desk.place.plan()
        closed.append(own.hex().upper())
    return closed
