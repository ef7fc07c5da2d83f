"""The node's log as operators see it: the last records of all processes, and how much each logs."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.link import logs
from core.link.logs import Line

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

KEPT = 1_000  # records: some 200 KiB, at most 16 MiB of records as long as they may be
SUPERVISOR = "supervisor"
REMOTE = "remote"  # the process of the remote door
_INTERVAL_S = 1.0  # between two looks at what was held back


class LogBook:
    """Keeps records, and the levels that were set while the node runs."""

    def __init__(self, node: "Supervisor") -> None:
        self._node = node
        self._normal = node.settings.log_level
        self._levels: dict[str, str] = {}
        self._passing: dict[str, tuple[str, float]] = {}  # and when each passes
        self._records: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._settled = 0.0
        self._go_on(node.life.log)
        log = logs.current()
        if log is not None:
            log.listener = self._own

    def _go_on(self, body: Mapping[str, Any]) -> None:
        """Goes on with what the version before has kept, if anything."""
        if not body:
            return
        self._normal = body["normal"]
        self._levels.update(body["levels"])
        self._passing.update({name: tuple(row) for name, row in body["passing"].items()})
        self._records.extend(body["records"])
        logs.set_level(self.level_of(SUPERVISOR))
        if SUPERVISOR in self._passing:
            logs.set_level(*self._passing[SUPERVISOR])

    def to_body(self) -> dict[str, Any]:
        """Returns all of it as plain data, for the next version of the supervisor."""
        return {
            "normal": self._normal,
            "levels": self._levels,
            "passing": self._passing,
            "records": list(self._records),
        }

    # Records

    def _own(self, line: Line) -> None:
        """Keeps a line of the supervisor, and tells it to those who follow."""
        self._node.event("log", self._keep(SUPERVISOR, line.as_data()))

    def _keep(self, process: str, data: Mapping[str, Any]) -> dict[str, Any]:
        record = {"from": process, **data}
        self._records.append(record)
        return record

    def hear(self, process: str, body: Mapping[str, Any]) -> None:
        """Keeps the records among the events that a process tells."""
        for name, data in body["rows"]:
            if name == "log":
                self._keep(process, data)

    def turn(self, now: float) -> None:
        """Says about once a second what was held back of the supervisor's own log."""
        if now - self._settled >= _INTERVAL_S:
            self._settled = now
            logs.settle(now)

    def last(
        self, count: int, levels: frozenset[str], process: str = ""
    ) -> tuple[list[dict[str, Any]], int]:
        """Returns the last records of some levels in their order, and how many of these there are.

        They are ordered by when they were made: a process tells at the end of a turn.
        """
        rows = [
            row
            for row in self._records
            if row["level"] in levels and process in ("", row["from"], row["from"].split(".")[0])
        ]
        rows.sort(key=lambda row: float(row["at"]))
        return rows[-count:] if count else [], len(rows)

    # Levels

    def level_of(self, name: str) -> str:
        """Returns the normal level of a process, with which it starts."""
        return self._levels.get(name, self._normal)

    def passing(self, name: str, now: float) -> tuple[Any, ...]:
        """Returns the level that a process has for a while, and until when; or nothing."""
        level, until = self._passing.get(name, ("", 0.0))
        return (level, until) if until > now else ()

    def set_level(
        self, names: Sequence[str], level: str, until: float | None, all_of: bool
    ) -> None:
        """Remembers a level for some processes, or for `all_of` them and those that will come.

        `until`: monotonic seconds when it passes; None: it is normal from now on.
        """
        for name in names:
            self._passing.pop(name, None)
            if until is not None:
                self._passing[name] = (level, until)
            elif not all_of:
                self._levels[name] = level
        if all_of and until is None:
            self._normal = level
            self._levels.clear()
        if SUPERVISOR in names:
            logs.set_level(level, until)
