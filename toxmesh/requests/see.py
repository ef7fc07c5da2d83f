"""Requests that look at the node as a whole."""

from typing import TYPE_CHECKING, Any

from core.asking import USAGE, CannotAnswer
from toxmesh import status
from toxmesh.control import Follow, Request

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

EVENTS = ("worker", "node", "log", "relay", "dht", "announce", "ban", "drops")
"""What may be followed: workers that come and go, changes of the node's state, log records,
relay clients that come and go, close nodes that change, announces, bans, drops of each second."""


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {
        "status": Request(lambda args: status.report(node)),
        "watch": Request(watch),
    }


def watch(args: dict[str, Any]) -> Follow:
    """Follows events; args: names, a list of some of EVENTS."""
    names = args.get("names")
    if not isinstance(names, list) or not names or not set(map(str, names)) <= set(EVENTS):
        raise CannotAnswer(USAGE, f"names must be a list of some of: {', '.join(EVENTS)}")
    return Follow({"following": names}, frozenset(names))
