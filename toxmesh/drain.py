"""Takes a node out of use without dropping anyone: nobody new comes, who is here goes on.

While a node is drained

- its TCP ports refuse connections; clients that are connected stay, with all that they may do;
- it answers no ping and no nodes request, so other nodes do not give it to others any more, and
  forget it after 122 s (c-toxcore DHT.h: BAD_NODE_TIMEOUT); clients choose other onion paths;
- it stores no announces but those of keys that it has already.
"""

import logging
import signal
import time
from typing import TYPE_CHECKING, Any

from core.asking import BUSY, REFUSED
from toxmesh.control import Refused
from toxmesh.reload import tell_children

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

FORGOTTEN_S = 122.0  # c-toxcore DHT.h: BAD_NODE_TIMEOUT, 60 + 2 * (60 + 2) / 2 s
_SETTLED_S = 2.5  # until a heartbeat has told who is connected since the ports are shut

log = logging.getLogger("toxmesh.supervisor")


class Drain:
    """Whether the node is drained; it stands in the node's life, so an upgrade keeps it."""

    def __init__(self, node: "Supervisor") -> None:
        self._node = node

    @property
    def active(self) -> bool:
        """Whether the node is drained now."""
        return bool(self._node.life.drain)

    def clients(self) -> int:
        """Returns how many relay clients are connected, as the last heartbeat said."""
        snapshot = self._node.children[0].beat.get("snapshot", {})
        return int(sum(snapshot.get("connections", {}).values()))

    def left(self, now: float) -> bool:
        """Tells whether all are gone: no relay client, and no other node that would name us."""
        since = now - float(self._node.life.drain["since"])
        patience = FORGOTTEN_S if self._node.bound.udp else _SETTLED_S
        return since >= patience and self.clients() == 0

    def begin(self, seconds: float | None, then_stop: bool) -> dict[str, Any]:
        """Begins, or changes how long it lasts and what follows. Raises Refused."""
        node = self._node
        if node.stopping or not node.listening:
            raise Refused(BUSY, "the node starts or stops; try again later")
        now = time.monotonic()
        since = node.life.drain["since"] if self.active else now
        until = None if seconds is None else now + seconds
        node.life.drain = {"since": since, "until": until, "then_stop": then_stop}
        tell_children(node)
        log.info("the node is drained: it takes nobody new")
        return self.told(now)

    def cancel(self, why: str = "it was cancelled") -> None:
        """Takes new ones again. Raises Refused where the node is not drained."""
        node = self._node
        if not self.active:
            raise Refused(REFUSED, "the node is not drained")
        node.life.drain = {}
        tell_children(node)
        log.info("the node is drained no more: %s", why)

    def turn(self, now: float) -> None:
        """Ends it when its time is over, or all have left."""
        node = self._node
        if not self.active or node.stopping:
            return
        until = node.life.drain["until"]
        over = until is not None and now >= until
        if node.life.drain["then_stop"] and (over or self.left(now)):
            why = "its time is over" if over else "all have left"
            log.info("the node was drained and stops: %s, %d clients are left", why, self.clients())
            signal.raise_signal(signal.SIGTERM)
        elif over:
            self.cancel("its time is over")

    def told(self, now: float) -> dict[str, Any]:
        """Returns what `drain` answers, and `status` has while it lasts."""
        row = self._node.life.drain
        until = row["until"]
        return {
            "for_s": round(now - row["since"], 1),
            "left_s": None if until is None else round(max(0.0, until - now), 1),
            "then_stop": row["then_stop"],
            "clients": self.clients(),
        }
