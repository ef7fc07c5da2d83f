"""Requests that change the running node."""

from typing import TYPE_CHECKING, Any

from core.asking import USAGE, CannotAnswer, text_of
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

    def upgrade(args: dict[str, Any]) -> Later:
        """Goes on as the version that is installed now, or (`check`) only tries whether it can."""
        check = args.get("check", False)
        if not isinstance(check, bool):
            raise CannotAnswer(USAGE, "check must be true or false")
        return node.upgrade.ask(check)

    return {
        "worker restart": Request(restart, full=True),
        "upgrade": Request(upgrade, full=True),
    }
