"""Replaces processes of a running node, one after the other, so that nothing is lost.

The new process is started beside the old one. When it is ready the others stop sending to the old
one, that finishes what it has in hand and leaves its state, the new one takes it up, and only then
is announced. What comes meanwhile waits where it is safe: in the kernel's queues, in mailboxes, in
the broker's records. Whatever fails before the old one was told to stop changes nothing.
"""

import logging
import socket
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from core.asking import BUSY, NOT_FOUND, REFUSED
from core.link.descriptors import Note
from toxmesh.children import START_S, Child, State
from toxmesh.control import Later, Refused
from toxmesh.resize import Resizes

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

_PATIENCE_S = {"starting": START_S, "pausing": 3.0, "holding": 1.0, "stopping": 8.0, "taking": 8.0}
"""How long each phase may take: the longer ones may have 20,000 connections to move."""
_MOST_WAITING = 256
_ANSWER_S = 600.0  # for all processes of a node, one after the other

log = logging.getLogger("toxmesh.supervisor")


class Node(Protocol):
    """The supervisor as this sees it."""

    children: list[Child]
    stopping: bool

    def spawn(self, row: Child, now: float, successor: bool = False) -> None:
        """Starts the process of a place."""
        ...

    def tell(
        self, row: Child, name: str, body: dict[str, Any], descriptors: tuple[int, ...] = ()
    ) -> None:
        """Tells a child something."""
        ...

    def announce(self) -> None:
        """Tells all who is up."""
        ...

    def keep_nodes(self, body: dict[str, Any]) -> None:
        """Keeps the nodes that dht.0 knows."""
        ...

    def event(self, name: str, data: dict[str, Any]) -> None:
        """Tells those who follow such events."""
        ...


class _Swap:
    """One process that is replaced."""

    def __init__(self, old: Child, fresh: Child, now: float) -> None:
        self.old = old
        self.fresh = fresh
        self.phase = "starting"
        self.since = now
        self.missing: set[str] = set()  # who has not yet let go of the old one
        self.old_done = False  # it has said its last word, or died
        self.told = False  # the new one knows what it takes over
        self.taken = False


class Swaps:
    """The replacements that were asked for: one at a time, in their order."""

    def __init__(self, node: "Node | Supervisor") -> None:
        self._node = node
        self._waiting: deque[tuple[str, Later]] = deque()
        self._now: _Swap | None = None
        self._later = Later()
        self.sizes = Resizes(cast("Supervisor", node))
        self.retired: list[Child] = []
        """Processes that were replaced and have not ended yet."""

    @property
    def busy(self) -> bool:
        """Whether something is being replaced, or waits for it."""
        return self._now is not None or bool(self._waiting) or self.sizes.busy

    @property
    def extra(self) -> list[Child]:
        """Processes beside those of the node's places."""
        return self.retired + ([self._now.fresh] if self._now is not None else [])

    def replace(self, names: Sequence[str]) -> Later:
        """Replaces these processes in turn; the answer comes when the last is done.

        Refuses with `not_found`, `busy`, or `refused` with what went wrong; then those behind it in
        the list are not touched.
        """
        node = self._node
        known = {row.name for row in node.children}
        for name in names:
            if name not in known:
                listed = ", ".join(sorted(known))
                text = f"there is no {name[:60]} in this node; there are {listed}"
                raise Refused(NOT_FOUND, text)
        if node.stopping or len(self._waiting) + len(names) > _MOST_WAITING:
            raise Refused(BUSY, "the node stops, or is being changed already; try again later")
        result = Later(_ANSWER_S)
        rest = list(names)

        def next_one(done: list[dict[str, Any]]) -> None:
            if not rest:
                result.resolve({"rows": done, "total": len(done), "shown": len(done)})
                return
            later = Later()
            self._waiting.append((rest.pop(0), later))
            later.then(went)

        done: list[dict[str, Any]] = []

        def went(later: Later) -> None:
            good, value = later.outcome or (False, None)
            if good:
                done.append(dict(value or {}))
                next_one(done)
            else:
                rest.clear()
                result.refuse(value or Refused(REFUSED, "nothing was done"))

        next_one(done)
        return result

    # The steps

    def turn(self, now: float) -> None:
        """Begins the next replacement, and ends waiting that lasts too long."""
        swap = self._now
        if swap is None:
            if self.sizes.under_way or not self._waiting:
                self.sizes.turn(now)
            elif not self._node.stopping:
                name, self._later = self._waiting.popleft()
                row = next((row for row in self._node.children if row.name == name), None)
                if row is not None:
                    self._begin(row, now)
                else:
                    self._later.refuse(Refused(NOT_FOUND, f"{name} has left meanwhile"))
            return
        if now - swap.since <= _PATIENCE_S[swap.phase]:
            return
        log.warning("%s: %s lasts too long while it is replaced", swap.old.name, swap.phase)
        if swap.phase == "starting":
            self._give_up("the new process does not get ready")
        elif swap.phase == "pausing":
            self._hold(swap, now)
        elif swap.phase == "holding":
            self._stop_old(swap, now)
        elif swap.phase == "stopping":
            swap.old.kill()
            swap.since = now
        else:
            self._give_up("the new process does not take over")

    def _begin(self, old: Child, now: float) -> None:
        if old.state is not State.UP:
            self._later.refuse(Refused(REFUSED, f"{old.name} is {old.state.value} by itself now"))
            return
        fresh = Child(old.role, old.shard, old.core)
        self._now = _Swap(old, fresh, now)
        self._node.spawn(fresh, now, successor=True)
        if not fresh.alive:
            self._now = None
            self._later.refuse(Refused(REFUSED, f"no new process for {old.name} can be started"))

    def _move(self, swap: _Swap, phase: str, now: float) -> None:
        swap.phase, swap.since = phase, now

    def note(self, row: Child, note: Note, now: float) -> bool:
        """Takes what the processes of a replacement say; returns whether that was all."""
        swap = self._now
        if swap is None:
            return self.sizes.note(row, note, now)
        if row is swap.fresh and note.name == "ready":
            row.move("ready")
            self._node.event("worker", {"name": row.name, "pid": row.pid, "what": "successor"})
            if swap.old_done:
                self._tell_fresh(swap, {}, now)
            elif row.role == "broker":
                self._move(swap, "pausing", now)
                self._node.tell(swap.old, "hold", {"name": [row.role, row.shard]})
            else:
                self._hold(swap, now)
        elif row is swap.fresh and note.name == "taken":
            swap.taken = True
            self._finish_if_done(swap)
        elif note.name == "held":
            if tuple(note.body["name"]) != (swap.old.role, swap.old.shard):
                return True  # of a replacement that was given up
            if row is swap.old and swap.phase == "pausing":
                self._hold(swap, now)
            elif swap.phase == "holding":
                swap.missing.discard(row.name)
                if not swap.missing:
                    self._stop_old(swap, now)
        elif row is swap.old and note.name == "stopped":
            row.take_beat(note.body, now)
            self._node.keep_nodes(note.body)
            row.move("stopped")
            swap.old_done = True
            self._tell_fresh(swap, {"nodes": note.body.get("nodes", [])}, now)
        else:
            return False
        return True

    def _others(self, swap: _Swap) -> list[Child]:
        return [
            row for row in self._node.children if row is not swap.old and row.state is State.UP
        ]

    def _hold(self, swap: _Swap, now: float) -> None:
        """Lets all others stop sending to the old process."""
        self._move(swap, "holding", now)
        others = self._others(swap)
        swap.missing = {row.name for row in others}
        for row in others:
            self._node.tell(row, "hold", {"name": [swap.old.role, swap.old.shard]})
        if not others:
            self._stop_old(swap, now)

    def _stop_old(self, swap: _Swap, now: float) -> None:
        """Lets the old process finish and leave its state; connections go from broker to broker."""
        self._move(swap, "stopping", now)
        old, fresh = swap.old, swap.fresh
        old.move("stop")
        if old.role != "broker":
            self._node.tell(old, "stop", {"hand_over": True})
            return
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        swap.told = True
        self._node.tell(fresh, "take over", {}, (ends[1].fileno(),))
        self._node.tell(old, "stop", {"hand_over": True}, (ends[0].fileno(),))
        for end in ends:
            end.close()

    def _tell_fresh(self, swap: _Swap, body: dict[str, Any], now: float) -> None:
        """Lets the new process take over what the old one has left."""
        if not swap.told:
            swap.told = True
            self._node.tell(swap.fresh, "take over", body)
        if swap.phase != "taking":
            self._move(swap, "taking", now)
        self._finish_if_done(swap)

    def _finish_if_done(self, swap: _Swap) -> None:
        """Puts the new process into the old one's place."""
        if not (swap.taken and swap.old_done):
            return
        node, old, fresh = self._node, swap.old, swap.fresh
        self._now = None
        fresh.restarts = old.restarts
        node.children[node.children.index(old)] = fresh
        node.announce()
        if old.alive:
            self.retired.append(old)
            node.tell(old, "exit", {})
        log.info("%s is now process %d (it was %d)", fresh.name, fresh.pid, old.pid)
        node.event("worker", {"name": fresh.name, "pid": fresh.pid, "what": "replaced"})
        self._later.resolve({"name": fresh.name, "pid": fresh.pid, "was": old.pid})

    def ended(self, row: Child, now: float) -> bool:
        """Learns that a process has ended; returns whether it was nobody's place any more."""
        if row in self.retired:
            self.retired.remove(row)
            return True
        swap = self._now
        if swap is None:
            return self.sizes.ended(row, now)
        if row is swap.fresh:
            self._give_up("the new process ended")
            return True
        if row is not swap.old:
            if row.name in swap.missing and swap.phase == "holding":
                swap.missing.discard(row.name)
                if not swap.missing:
                    self._stop_old(swap, now)
            return False
        if swap.fresh.state is not State.UP:
            self._give_up(f"{row.name} ended by itself meanwhile")
            return False  # its place is filled as after any death
        swap.old_done = True
        self._tell_fresh(swap, {}, now)
        return True

    def _give_up(self, reason: str) -> None:
        """Goes on with the old process if that still works; else its place is filled anew."""
        swap, self._now = self._now, None
        if swap is None:
            return
        old, fresh = swap.old, swap.fresh
        if fresh.alive:
            fresh.kill()
            self.retired.append(fresh)
        for row in self._others(swap):
            self._node.tell(row, "release", {"name": [old.role, old.shard]})
        if old.alive and (swap.phase == "pausing" or old.state is not State.UP):
            old.state = State.UP  # it has let go of everything: its death is that of a worker
            old.kill()
        log.error("%s could not be replaced: %s", old.name, reason)
        self._later.refuse(Refused(REFUSED, f"{old.name} could not be replaced: {reason}"))

    def abandon(self) -> None:
        """The node stops: whatever is under way ends."""
        self.sizes.abandon()
        while self._waiting:
            self._waiting.popleft()[1].refuse(Refused(BUSY, "the node stops"))
        if self._now is not None:
            self._give_up("the node stops")
