"""Requests that change how the running node is set up: its settings, its processes."""

from typing import TYPE_CHECKING, Any

from core.asking import USAGE, CannotAnswer, text_of, whole_number
from toxmesh.control import Later, Request
from toxmesh.reload import when_heard
from toxmesh.settings import MAX_WORKERS

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

_LONGEST_S = 30 * 86_400  # that a node is drained


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

    def add(args: dict[str, Any]) -> Later:
        """Gives a role more processes."""
        return node.swaps.sizes.add(text_of(args, "role"), _count_of(args))

    def remove(args: dict[str, Any]) -> Later:
        """Takes processes from a role, those with the highest numbers first."""
        return node.swaps.sizes.remove(text_of(args, "role"), _count_of(args))

    def drain(args: dict[str, Any]) -> Later:
        """Gives what one process has to the others of its role, and ends it."""
        return node.swaps.sizes.drain(text_of(args, "name"))

    def drain_node(args: dict[str, Any]) -> Later:
        """Takes nobody new from now on."""
        told = node.drain.begin(_seconds_of(args), flag_of(args, "then_stop"))
        return when_heard(node, lambda: told)

    def cancel(args: dict[str, Any]) -> Later:
        """Takes new ones again."""
        node.drain.cancel()
        return when_heard(node, lambda: {"draining": False})

    return {
        "drain": Request(drain_node, full=True),
        "drain cancel": Request(cancel, full=True),
        "reload": Request(reload, full=True),
        "worker add": Request(add, full=True),
        "worker remove": Request(remove, full=True),
        "worker drain": Request(drain, full=True),
    }


def _seconds_of(args: dict[str, Any]) -> float | None:
    value = args.get("for_s")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and 1 <= value <= _LONGEST_S):
        raise CannotAnswer(USAGE, f"for_s must be a number of seconds from 1 to {_LONGEST_S:,}")
    return value


def _count_of(args: dict[str, Any]) -> int:
    return whole_number(args, "count", 1, 1, MAX_WORKERS)
