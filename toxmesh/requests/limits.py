"""Requests about bounds that strangers can fill: how full they are, and other values for them."""

import time
from typing import TYPE_CHECKING, Any

from core.asking import NOT_FOUND, REFUSED, CannotAnswer, listing, text_of
from toxmesh import status
from toxmesh.control import Later, Request
from toxmesh.limits import LIMITS, Limit, checked, find, row_of
from toxmesh.requests.bans import seconds_of

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {
        "limits show": Request(lambda args: show(node, args)),
        "limits set": Request(lambda args: change(node, args), full=True),
    }


def show(node: "Supervisor", args: dict[str, Any]) -> Later:
    """Lists limits; `name`: only those whose names begin so."""
    begins = text_of(args, "name", "")
    wanted = [row for row in LIMITS if row.name.startswith(begins)]
    if not wanted:
        find(begins)
    changed = args.get("changed") is True

    def done(answers: dict[str, Any]) -> dict[str, Any]:
        rows = _rows(node, wanted, answers)
        return listing([row for row in rows if row["changed"] or not changed], args)

    return node.asker.ask("*", "limits").map(done)


def _rows(
    node: "Supervisor", limits: list[Limit], answers: dict[str, Any]
) -> list[dict[str, Any]]:
    drops = status.totals(node)[0].drops
    own = {"bans": len(node.rules.bans), "control.connections": node.door.guests}
    return [
        row_of(
            limit,
            {name: row[limit.name] for name, row in answers.items() if limit.name in row},
            node.rules.limits.of(limit.name),
            sum(drops[reason] for reason in limit.reasons),
            own.get(limit.name),
        )
        for limit in limits
    ]


def change(node: "Supervisor", args: dict[str, Any]) -> Later:
    """Sets a limit in all processes, or (`value` null) sets it back."""
    limit = find(text_of(args, "name"))
    value = args.get("value")
    seconds = seconds_of(args)
    if value is not None:
        value = checked(limit, value)
        _check_order(node, limit.name, value)
    elif not limit.most:
        checked(limit, value)
    before = node.rules.limits.of(limit.name)
    if value is None and before is None:
        raise CannotAnswer(NOT_FOUND, f"{limit.name} has its default already")
    node.rules.lay(limit.name, value, None if seconds is None else time.time() + seconds)

    def done(answers: dict[str, Any]) -> dict[str, Any]:
        return _rows(node, [limit], answers)[0]

    return node.asker.ask("*", "limits").map(done)


_QUEUE, _CONTROL = "relay.queue_bytes", "relay.control_bytes"
_DEFAULTS = {_QUEUE: 64 << 10, _CONTROL: 96 << 10}  # core.relay.limits


def _check_order(node: "Supervisor", name: str, value: float) -> None:
    """Refuses a queue that closes its client before its data is refused."""
    if name not in _DEFAULTS:
        return
    now = {**_DEFAULTS, **node.rules.limits.values(), name: value}
    if now[_QUEUE] + (4 << 10) > now[_CONTROL]:
        raise CannotAnswer(
            REFUSED,
            f"{_CONTROL} must be 4,096 bytes above {_QUEUE}, or data would close its receiver; "
            f"they would be {now[_CONTROL]:,} and {now[_QUEUE]:,}: change the other one first",
        )
