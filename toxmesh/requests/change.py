"""Requests that change how the running node is set up: its settings."""

from typing import TYPE_CHECKING, Any

from core.asking import USAGE, CannotAnswer
from toxmesh.control import Request

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor


def flag_of(args: dict[str, Any], name: str) -> bool:
    """Returns a flag of the arguments, false where it is missing; refuses what is none."""
    value = args.get(name, False)
    if not isinstance(value, bool):
        raise CannotAnswer(USAGE, f"{name} must be true or false")
    return value


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""

    def reload(args: dict[str, Any]) -> Any:
        """Reads the settings again and follows them; `dry_run` only says what would change."""
        reloads = node.reloads
        return reloads.preview() if flag_of(args, "dry_run") else reloads.reload()

    return {"reload": Request(reload, full=True)}
