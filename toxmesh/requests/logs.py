"""Requests about the log: how much each process says, and the last that was said."""

import time
from typing import TYPE_CHECKING, Any

from core.asking import NOT_FOUND, USAGE, CannotAnswer, text_of, whole_number
from core.link import logs
from toxmesh.control import Follow, Later, Request
from toxmesh.logbook import KEPT, SUPERVISOR

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

_ALL_LEVELS = (*logs.LEVELS, "critical")


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {
        "log levels": Request(lambda args: levels(node)),
        "log level": Request(lambda args: set_level(node, args), full=True),
        "log tail": Request(lambda args: tail(node, args)),
    }


def _rows(own: bool, answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns a row for each process that answered, and the supervisor's own first."""
    found = dict(sorted(answers.items()))
    if own:
        found = {SUPERVISOR: logs.level_now(time.monotonic()), **found}
    rows = [{"name": name, **row} for name, row in found.items()]
    return {"rows": rows, "total": len(rows), "shown": len(rows)}


def levels(node: "Supervisor") -> Later:
    """Tells how much each process logs."""
    return node.asker.ask("*", "log level").map(lambda answers: _rows(True, answers))


def set_level(node: "Supervisor", args: dict[str, Any]) -> Any:
    """Changes how much all processes log, or one, or those of a role; successors keep it."""
    level = text_of(args, "level").lower()
    who = text_of(args, "name", "*")
    seconds = whole_number(args, "seconds", 0, 0, logs.LONGEST_S)
    if level not in logs.LEVELS:
        raise CannotAnswer(USAGE, f"level must be one of {', '.join(logs.LEVELS)}")
    names = [row.name for row in node.children if who in ("*", row.name, row.role)]
    own = who in ("*", SUPERVISOR)
    if not names and not own:
        known = ", ".join([SUPERVISOR, *(row.name for row in node.children)])
        raise CannotAnswer(NOT_FOUND, f"no {who[:60]} is in this node; there are {known}")
    until = time.monotonic() + seconds if seconds else None
    node.log_book.set_level([*names, *([SUPERVISOR] if own else [])], level, until, who == "*")
    if not names:
        return _rows(own, {})
    order = {"level": level, "seconds": seconds}
    return node.asker.ask(who, "log level", order).map(lambda answers: _rows(own, answers))


def tail(node: "Supervisor", args: dict[str, Any]) -> Any:
    """Lists the last records, oldest first; `follow`: those that come are told as events."""
    count = whole_number(args, "limit", 100, 0, KEPT)
    least = text_of(args, "level", "debug").lower()
    name = text_of(args, "name", "")
    if least not in _ALL_LEVELS:
        raise CannotAnswer(USAGE, f"level must be one of {', '.join(_ALL_LEVELS)}")
    wanted = frozenset(_ALL_LEVELS[_ALL_LEVELS.index(least) :])
    rows, total = node.log_book.last(count, wanted, name)
    answer = {"rows": rows, "total": total, "shown": len(rows)}
    if args.get("follow") is not True:
        return answer

    def matches(event: str, data: dict[str, Any]) -> bool:
        process = str(data.get("from"))
        return data.get("level") in wanted and name in ("", process, process.split(".")[0])

    return Follow(answer, frozenset({"log"}), matches)
