"""Captures of datagrams that operators have asked for: begun, kept alive, and ended in time."""

import time
from typing import TYPE_CHECKING, Any

from core.asking import BUSY
from core.capturing import LEASE_S, args_of, wanted_of
from toxmesh.children import State
from toxmesh.control import Follow, Refused

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

MOST = 8  # at a time; as many as a process has room for (`core.link.taps`)
_AGAIN_S = LEASE_S / 4  # how often processes are asked to go on: new ones are asked so as well


class Captures:
    """Those that run in this node. A process that is not asked again ends them by itself."""

    def __init__(self, node: "Supervisor") -> None:
        self._node = node
        # Children outlive an upgrade of the supervisor, and remember captures that are done.
        self._number = time.time_ns() // 1_000_000
        self._open: dict[int, dict[str, Any]] = {}
        self._asked = 0.0

    def begin(self, args: dict[str, Any]) -> Follow:
        """Begins one; its packets are events of the guest who asks, until that leaves."""
        wanted = wanted_of(args)
        if len(self._open) >= MOST:
            raise Refused(BUSY, f"{MOST} captures run already; wait, or end one of them")
        self._number += 1
        number = self._number
        self._open[number] = {"id": number, **args_of(wanted)}
        self._tell_all("capture", self._open[number])

        def matches(name: str, data: dict[str, Any]) -> bool:
            return name != "capture" or data["id"] == number

        def left() -> None:
            if self._open.pop(number, None) is not None:
                self._tell_all("capture end", {"id": number})

        bound = self._node.bound
        answer = {
            "id": number,
            "count": wanted.most,
            "rate": wanted.rate,
            "processes": sum(row.state is State.UP for row in self._node.children),
            "addresses": [row for row in bound.addresses() if row.startswith("udp")],
            "udp_port": bound.udp_port,
            "at": round(time.time(), 3),
        }
        return Follow(answer, frozenset({"capture"}), matches, left)

    def turn(self, now: float) -> None:
        """Asks all processes to go on."""
        if self._open and now - self._asked >= _AGAIN_S:
            self._asked = now
            for args in self._open.values():
                self._tell_all("capture", args)

    def _tell_all(self, what: str, args: dict[str, Any]) -> None:
        """Asks all who are up; nobody waits for their answers, the id 0 is no open question."""
        for row in self._node.children:
            if row.state is State.UP:
                self._node.tell(row, "ask", {"id": 0, "what": what, "args": args})
