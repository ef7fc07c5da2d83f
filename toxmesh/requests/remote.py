"""The request about the door for remote operators."""

from typing import TYPE_CHECKING, Any

from core.asking import listing
from toxmesh.control import Request

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {"remote": Request(lambda args: remote(node, args))}


def remote(node: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Tells where the remote door is, its key, and who may come in with which role."""
    door = node.remote
    rows = [
        {"key": row.key, "role": row.role, "clients": door.clients.get(str(row), 0)}
        for row in door.operators
    ]
    return {
        "address": door.place,
        "wanted": node.settings.remote,
        "server_key": door.public_key,
        **listing(rows, args),
    }
