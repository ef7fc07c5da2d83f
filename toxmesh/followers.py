"""What operators follow: events of all processes, the node's state, the drops of each second."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from toxmesh import status
from toxmesh.captures import Captures
from toxmesh.children import Child, State

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

_INTERVAL_S = 1.0  # between two events of drops, as between heartbeats


class Followers:
    """Passes events on to those who follow; nothing is made while nobody does."""

    def __init__(self, node: "Supervisor") -> None:
        self.captures = Captures(node)
        self._node = node
        self.drop_rates: dict[str, float] = {}
        """Drops a second by reason, of the last whole second."""
        self._drops: Counter[str] = Counter()  # as they were then
        self._counted = node.started
        self._state = ""

    def event(self, name: str, data: dict[str, Any]) -> None:
        """Tells those who follow such events, if anybody does."""
        if name in self._node.door.wanted:
            self._node.door.tell(name, data)

    def follow(self, names: frozenset[str]) -> None:
        """Lets all children know which events somebody follows."""
        for row in self._node.children:
            if row.state is State.UP:
                self._node.tell(row, "follow", {"names": sorted(names)})

    def greet(self, row: Child) -> None:
        """Lets a new child know; it begins with the belief that nobody follows."""
        if self._node.door.wanted:
            self._node.tell(row, "follow", {"names": sorted(self._node.door.wanted)})

    def told(self, row: Child, body: dict[str, Any]) -> None:
        """Passes on what a child has told."""
        for name, data in body["rows"]:
            self.event(str(name), {"from": row.name, **data})
        if body["lost"]:
            self._node.totals.drops["control_event"] += int(body["lost"])

    def turn(self, now: float) -> None:
        """Tells a change of the node's state at once, and once a second what was dropped."""
        state = status.node_state(self._node)
        if state != self._state:
            was, self._state = self._state, state
            self.event("node", {"state": state, "was": was})
        self.captures.turn(now)
        if now - self._counted >= _INTERVAL_S:
            self._count_drops(now)

    def _count_drops(self, now: float) -> None:
        """Looks what was dropped since the last time."""
        passed, self._counted = now - self._counted, now
        drops = status.totals(self._node)[0].drops
        new = drops - self._drops
        self._drops = drops
        self.drop_rates = {reason: round(many / passed, 2) for reason, many in new.items()}
        if new:
            self.event("drops", {"seconds": round(passed, 3), "drops": dict(sorted(new.items()))})
