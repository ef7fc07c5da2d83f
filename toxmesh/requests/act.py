"""Requests that change the running node."""

from typing import TYPE_CHECKING, Any

from core.asking import text_of
from toxmesh.control import Later, Request

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""

    def restart(args: dict[str, Any]) -> Later:
        """Replaces one process, all of a role, or all (`*`), without losing anything."""
        name = text_of(args, "name")
        names = [row.name for row in node.children if name in ("*", row.name, row.role)]
        return node.swaps.replace(names or [name])

    return {"worker restart": Request(restart, full=True)}
