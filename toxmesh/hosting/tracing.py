"""What an operator who follows a session sees: each step between its two processes, no contents."""

from typing import Any

from core.identity import messages

EVENT = "session"


def step(message: Any) -> dict[str, Any] | None:
    """Returns the data of the event, or None for a message that is about no session."""
    match message:
        case messages.SessionUp():
            what = {"what": "up", "direct": message.direct}
        case messages.SessionDirect():
            what = {"what": "path", "direct": message.direct}
        case messages.SessionDown():
            what = {"what": "down"}
        case messages.Came():
            sizes = sum(map(len, message.packets))
            what = _packets("came", len(message.packets), sizes, message.upto)
        case messages.Stored():
            what = {"what": "stored", "number": message.upto}
        case messages.Handed():
            sizes = sum(len(data) for _, data in message.packets)
            last = message.first + len(message.packets) - 1
            what = _packets("handed", len(message.packets), sizes, last)
        case messages.Advanced():
            what = {"what": "advanced", "taken": message.taken[0], "acked": message.acked[0]}
        case messages.LossyCame():
            what = _packets("lossy came", 1, len(message.data), None)
        case messages.LossyHanded():
            what = _packets("lossy handed", 1, len(message.data), None)
        case _:
            return None
    return {
        "identity": message.identity.hex().upper(),
        "key": message.friend.hex().upper(),
        **what,
    }


def _packets(what: str, count: int, size: int, number: int | None) -> dict[str, Any]:
    row: dict[str, Any] = {"what": what, "packets": count, "bytes": size}
    return row if number is None else {**row, "number": number}
