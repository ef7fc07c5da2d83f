"""The life of a session: which event is legal in which state, and where it leads."""

from enum import Enum


class State(Enum):
    """What a session waits for.  c-toxcore net_crypto.c: Crypto_Conn_State."""

    COOKIE_REQUESTING = "cookie requesting"
    HANDSHAKE_SENT = "handshake sent"
    NOT_CONFIRMED = "not confirmed"
    ESTABLISHED = "established"
    DEAD = "dead"


class Event(Enum):
    """What happens to a session; all of it is authentic already."""

    COOKIE = "cookie"  # the answer to our cookie request
    HANDSHAKE = "handshake"
    DATA = "data"  # any session packet but a kill
    KILL = "kill"
    EXPIRED = "expired"  # the last of the resends was not answered
    CLOSED = "closed"  # by us


_ENDS: dict[tuple[State, Event], State] = {
    (state, event): State.DEAD
    for state in State
    if state is not State.DEAD
    for event in (Event.CLOSED, Event.EXPIRED)
    if (state, event) != (State.ESTABLISHED, Event.EXPIRED)
}

MOVES: dict[tuple[State, Event], State] = {
    (State.COOKIE_REQUESTING, Event.COOKIE): State.HANDSHAKE_SENT,
    # A valid handshake beats our pending cookie request: both sides may start at once.
    (State.COOKIE_REQUESTING, Event.HANDSHAKE): State.NOT_CONFIRMED,
    (State.HANDSHAKE_SENT, Event.HANDSHAKE): State.NOT_CONFIRMED,
    (State.NOT_CONFIRMED, Event.DATA): State.ESTABLISHED,
    (State.NOT_CONFIRMED, Event.KILL): State.DEAD,
    (State.ESTABLISHED, Event.DATA): State.ESTABLISHED,
    (State.ESTABLISHED, Event.KILL): State.DEAD,
    **_ENDS,
}
"""What is not here does not happen: such a packet is counted and forgotten. A new handshake of a
peer that has a session already makes a new session; it is no event of the old one."""


def after(state: State, event: Event) -> State | None:
    """Returns the state behind the event, or None where it is not legal."""
    return MOVES.get((state, event))
