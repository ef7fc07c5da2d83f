"""What an operator has laid down for the running node, kept alike in all of its processes."""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from toxmesh.bans import Ban, BanList, What
from toxmesh.children import Child
from toxmesh.limits import Limits, Number

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

log = logging.getLogger("toxmesh.rules")


def _body(add: Iterable[What], remove: Iterable[What], whole: bool = False) -> dict[str, Any]:
    """Returns a change as processes take it (`core.bans.Bans.learn`)."""
    added, removed = list(add), list(remove)
    return {
        "whole": whole,
        "add": [[row.data, row.bits] for row in added if row.bits >= 0],
        "remove": [[row.data, row.bits] for row in removed if row.bits >= 0],
        "add_keys": [row.data for row in added if row.bits < 0],
        "remove_keys": [row.data for row in removed if row.bits < 0],
    }


class Rules:
    """Bans and limits: told to each process that begins, and then as they change."""

    def __init__(self, node: "Supervisor") -> None:
        self._node = node
        self.bans = BanList(node.settings.state_dir)
        self.limits = Limits(node.life.limits)
        self._goes_on = bool(node.life.children)  # with processes of the version before

    def greet(self, row: Child) -> None:
        """Tells a process that begins; it hears this before anything else but its orders."""
        if len(self.bans):
            whats = (ban.what for ban in self.bans.rows())
            self._node.tell(row, "bans", _body(whats, (), whole=True))
        values = self.limits.values()
        if values:
            self._node.tell(row, "limits", {"values": values})

    def _tell(self, name: str, body: dict[str, Any]) -> None:
        node = self._node
        for row in [*node.children, *node.swaps.extra]:
            node.tell(row, name, body)

    def ban(self, bans: Sequence[Ban]) -> bool:
        """Shuts somebody out; returns whether that is kept for the next start."""
        new = self.bans.add(bans)
        if new:
            self._tell("bans", _body(new, ()))
        kept = self.bans.save()
        self._say("added", bans)
        return kept

    def let_in(self, whats: Iterable[What]) -> tuple[list[Ban], bool]:
        """Takes bans back; returns them, and whether that is kept for the next start."""
        gone = self.bans.remove(whats)
        return gone, self._gone("removed", gone)

    def _gone(self, change: str, gone: Sequence[Ban]) -> bool:
        if not gone:
            return True
        self._tell("bans", _body((), (row.what for row in gone)))
        kept = self.bans.save()
        self._say(change, gone)
        return kept

    def _say(self, change: str, bans: Sequence[Ban]) -> None:
        if "ban" in self._node.door.wanted:
            now = time.time()
            for row in bans:
                self._node.event("ban", {"change": change, "bans": len(self.bans), **row.row(now)})

    def lay(self, name: str, value: Number | None, until: float | None) -> None:
        """Sets a limit in all processes, or (None) sets it back."""
        self.limits.lay(name, value, until)
        log.info("the limit %s is %s", name, "its default again" if value is None else value)
        self._tell("limits", {"values": self.limits.values()})

    def turn(self, now: float) -> None:
        """Ends what was laid down for a time that is over."""
        if self._goes_on:  # what could not be written is over, or what ended meanwhile
            self._goes_on = False
            self._tell("bans", _body((row.what for row in self.bans.rows()), (), whole=True))
        if self.bans.next_end is not None:
            self._gone("over", self.bans.over(time.time()))
        if self.limits.next_end is not None:
            ended = self.limits.over(time.time())
            if ended:
                log.info("back to their defaults: %s", ", ".join(ended))
                self._tell("limits", {"values": self.limits.values()})
