"""Gives a role of the running node more processes or fewer, so that nothing is lost.

A new process is one more place of the node; it has no slots before it is up. Then the role changes
its slot table, in which slots go only to the new shard, or only away from the one that leaves:

1. *holding*: nobody sends anything to the role any more; what is on its way arrives first.
2. *pausing*: who gains slots reads no socket (the new one does not yet).
3. The kernel gets the new program: datagrams wait with those who will own them.
4. *draining*: who loses slots reads what came by the old program, and answers it.
5. *giving*, *taking*: state by key goes to those who own it now.
6. The new table is announced, and all go on. Messages and datagrams that waited are sorted by it.
7. *stopping*: the one that leaves finishes and ends.

Each phase has a time; what lasts longer is not waited for. The successor of one that dies meanwhile
does what that has not done: announce entries stand in memory that it finds.
"""

import logging
import os
from collections import deque
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from core.asking import BUSY, NOT_FOUND, REFUSED, USAGE, CannotAnswer
from core.link.descriptors import Note
from core.slots import IDENTITY_ROLES, SlotTable
from toxmesh.children import START_S, Child, State
from toxmesh.control import Later, Refused
from toxmesh.settings import MAX_WORKERS, ROLES
from toxmesh.sockets import BindError

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

_PATIENCE_S = {
    "starting": START_S,
    "holding": 1.0,
    "pausing": 1.0,
    "draining": 1.0,
    "giving": 8.0,
    "taking": 8.0,
    "stopping": 3.0,
}
"""How long each phase may take: the longer ones may have 100,000 announce entries to move, or have
to wait for the successor of one that hangs."""
_ANSWERS = {
    "holding": "held",
    "pausing": "paused",
    "draining": "drained",
    "giving": "shared out",
    "taking": "taken in",
}
_READS = ("dht", "onion")  # roles with sockets of their own, where the kernel dispatches
_TABLE_S = 3.0  # for a new dht shard to get its copy of the table
_MOST_WAITING = 2 * MAX_WORKERS
_ANSWER_S = 600.0

log = logging.getLogger("toxmesh.supervisor")


class Order(NamedTuple):
    """One shard that comes or goes."""

    role: str
    shard: int
    adds: bool
    later: Later


class _Change:
    """The order that is being carried out."""

    def __init__(self, order: Order, row: Child, table: SlotTable, now: float) -> None:
        self.order = order
        self.row = row  # the process that comes or goes
        self.table = table
        self.phase = "starting"
        self.since = now
        self.missing: set[str] = set()  # names of those whose answer is awaited
        self.order_now = ""  # what the present phase tells
        self.told: dict[str, int] = {}  # names of those who were told, and their generations
        self.states: list[int] = []  # descriptors of what was given


class Resizes:
    """Changes of how many processes a role has: one at a time, in their order."""

    def __init__(self, node: "Supervisor") -> None:
        self._node = node
        self._waiting: deque[Order] = deque()
        self._now: _Change | None = None
        self._away_since = 0.0  # since when some process is not up while an order waits

    @property
    def busy(self) -> bool:
        """Whether a number of processes is being changed."""
        return self._now is not None or bool(self._waiting)

    @property
    def under_way(self) -> bool:
        """Whether one is being changed at this moment."""
        return self._now is not None

    # What may be asked

    def _check(self, role: str) -> list[int]:
        """Returns the shards of a role; refuses roles that do not take part."""
        node = self._node
        if role in IDENTITY_ROLES and role in node.slots:
            raise Refused(
                REFUSED,
                f"an identity stays with its {role} process while the node runs; set"
                f" workers.{role} and start the node again",
            )
        if role not in ROLES:
            raise Refused(USAGE, f"there is no role {role[:60]}; roles are {', '.join(ROLES)}")
        if role not in node.slots:
            raise Refused(
                REFUSED,
                f"this node has no {role} at all; set workers.{role} and start it again",
            )
        if node.stopping or not node.listening or len(self._waiting) >= _MOST_WAITING:
            raise Refused(BUSY, "the node starts, stops or is being changed; try again later")
        orders = [self._now.order] if self._now is not None else []
        shards = {row.shard for row in node.children if row.role == role}
        for order in [*orders, *self._waiting]:
            if order.role == role:
                (shards.add if order.adds else shards.discard)(order.shard)
        return sorted(shards)

    def add(self, role: str, count: int = 1) -> Later:
        """Adds processes to a role; they get the lowest numbers that are free."""
        shards = self._check(role)
        if len(shards) + count > MAX_WORKERS:
            raise Refused(REFUSED, f"{role} would have more than {MAX_WORKERS} processes")
        free = [shard for shard in range(MAX_WORKERS) if shard not in shards]
        return self._all([Order(role, shard, True, Later()) for shard in free[:count]])

    def remove(self, role: str, count: int = 1) -> Later:
        """Takes processes from a role, those with the highest numbers."""
        shards = self._check(role)
        if count >= len(shards):
            raise Refused(
                REFUSED,
                f"{role} has {len(shards)}, and one has to stay; set workers.{role} = 0 and start"
                " the node again to switch it off",
            )
        chosen = shards[-count:][::-1]
        return self._all([Order(role, shard, False, Later()) for shard in chosen])

    def drain(self, name: str) -> Later:
        """Takes one process away by its name."""
        row = next((row for row in self._node.children if row.name == name), None)
        if row is None:
            known = ", ".join(row.name for row in self._node.children)
            raise Refused(NOT_FOUND, f"there is no {name[:60]} in this node; there are {known}")
        if row.role == "broker":
            raise Refused(
                REFUSED, "a broker cannot leave: it has the node's TCP; use: ops worker restart"
            )
        if name == "dht.0":
            raise Refused(
                REFUSED, "dht.0 keeps the table of nodes and cannot leave; use: ops worker restart"
            )
        shards = self._check(row.role)
        if row.shard not in shards:
            raise Refused(BUSY, f"{name} is leaving already")
        if len(shards) == 1:
            raise Refused(REFUSED, f"{name} is the only {row.role}; add another one before")
        return self._all([Order(row.role, row.shard, False, Later())])

    def resize(self, role: str, count: int) -> Later:
        """Gives a role as many processes as that."""
        more = count - len(self._check(role))
        if not more:
            return self._all([])
        return self.add(role, more) if more > 0 else self.remove(role, -more)

    def why_not(self, role: str, count: int) -> str:
        """Says why a role cannot have so many processes before the node is started again."""
        if role in IDENTITY_ROLES:
            return f"{role} processes are as many as when the node starts"
        if not count or role not in self._node.slots:
            return f"{role} is switched on and off when the node starts"
        return ""

    def _all(self, orders: list[Order]) -> Later:
        """Queues orders; the answer comes when all are done, or one is not."""
        result = Later(_ANSWER_S)
        rows: list[dict[str, Any]] = []
        if not orders:
            result.resolve({"rows": rows, "total": 0, "shown": 0})

        def went(later: Later) -> None:
            good, value = later.outcome or (False, None)
            if good:
                rows.append(dict(value or {}))
                if len(rows) == len(orders):
                    result.resolve({"rows": rows, "total": len(rows), "shown": len(rows)})
                return
            for order in orders:
                if order in self._waiting:
                    self._waiting.remove(order)
            result.refuse(value or Refused(REFUSED, "nothing was done"))

        for order in orders:
            self._waiting.append(order)
            order.later.then(went)
        return result

    # The steps

    def turn(self, now: float) -> None:
        """Begins the next change, and ends waiting that lasts too long."""
        change = self._now
        if change is None:
            if self._waiting and not self._node.stopping:
                try:
                    self._begin(self._waiting[0], now)
                except CannotAnswer as refusal:
                    self._away_since = 0.0
                    self._waiting.popleft().later.refuse(refusal)
            return
        if change.phase == "starting":
            if self._is_ready(change, now):
                self._go_on(change, now)
            elif now - change.since > _PATIENCE_S["starting"]:
                self._give_up(change, "the new process does not get ready")
            return
        alive = {row.name for row in self._node.children}
        if change.phase in ("holding", "stopping"):  # a successor begins with nothing on its way
            alive = {row.name for row in self._node.children if row.alive}
        change.missing = {name for name in change.missing if name.partition(">")[0] in alive}
        if change.order_now:
            self._tell(change)
        if now - change.since > _PATIENCE_S[change.phase]:
            late = ", ".join(sorted(change.missing))
            log.warning("%s: %s lasts too long (%s)", change.row.name, change.phase, late)
            change.missing.clear()
        if not change.missing:
            self._go_on(change, now)

    def _begin(self, order: Order, now: float) -> None:
        node = self._node
        away = [row.name for row in node.children if row.state is not State.UP]
        if away:  # for a moment; it would be waited for in each phase
            self._away_since = self._away_since or now
            if now - self._away_since > START_S:
                raise Refused(BUSY, f"{', '.join(away)} is not at work; try again when it is")
            return
        self._away_since = 0.0
        table = node.slots[order.role]
        if order.adds:
            row = Child(order.role, order.shard, None)
            table = table.adding(order.shard)
            if node.dispatch == "kernel":
                try:
                    node.bound.add_lanes({**node.slots, order.role: table})
                except BindError as error:
                    raise Refused(REFUSED, str(error)) from None
            node.children.append(row)
        else:
            row = next(
                row
                for row in node.children
                if (row.role, row.shard) == (order.role, order.shard)
            )
            table = table.without(order.shard)
        self._waiting.popleft()
        self._now = _Change(order, row, table, now)

    @staticmethod
    def _is_ready(change: _Change, now: float) -> bool:
        """Tells whether the new process is up and has what it needs to answer."""
        row = change.row
        if not change.order.adds:
            return True
        if row.state is not State.UP or now - row.spawned < 0.1:
            return False
        known = row.beat.get("snapshot", {}).get("table_version") is not None
        return row.role != "dht" or known or now - row.spawned > _TABLE_S

    def _role(self, change: _Change) -> list[Child]:
        """Returns the places that have slots by the old table. One whose process has died has its
        part all the same: the successor will do it."""
        table = self._node.slots[change.order.role]
        return [
            row
            for row in self._node.children
            if row.role == change.order.role and row.shard in table.shards
        ]

    def _givers(self, change: _Change) -> list[Child]:
        return self._role(change) if change.order.adds else [change.row]

    def _takers(self, change: _Change) -> list[Child]:
        if change.order.adds:
            return [change.row]
        return [row for row in self._role(change) if row is not change.row]

    def _begin_phase(
        self, change: _Change, phase: str, rows: list[Child], name: str, now: float
    ) -> None:
        """Begins a phase: tells some processes, whose answers are awaited."""
        change.phase, change.since, change.order_now = phase, now, name
        change.missing = {row.name for row in rows}
        change.told.clear()
        self._tell(change)

    def _tell(self, change: _Change) -> None:
        """Tells those who are missing, if they are up and were not told: a successor is told what
        the one before has not done."""
        body = {"generation": change.table.generation, "shards": list(change.table.shards)}
        for row in self._node.children:
            name = row.name
            if name not in change.missing or row.state is not State.UP:
                continue
            if change.told.get(name) != row.generation:
                change.told[name] = row.generation
                given = change.states if change.phase == "taking" else []
                copies = tuple(_reopen(fd) for fd in given)
                self._node.tell(row, change.order_now, body, copies)
                for fd in copies:
                    os.close(fd)

    def _go_on(self, change: _Change, now: float) -> None:
        """Goes to the next phase that there is something to do in."""
        phase = change.phase
        role = change.order.role
        reads = role in _READS and self._node.dispatch == "kernel"
        if phase == "starting":
            self._hold(change, now)
        elif phase == "holding" and reads:
            self._begin_phase(change, "pausing", self._takers(change), "pause", now)
        elif phase == "pausing":
            try:
                self._node.bound.follow({**self._node.slots, role: change.table})
            except OSError as error:
                reason = (error.strerror or "?").lower()
                self._give_up(change, f"the kernel does not take the new program ({reason})")
                return
            self._begin_phase(change, "draining", self._givers(change), "drain", now)
        elif phase in ("holding", "draining") and role == "onion":
            self._begin_phase(change, "giving", self._givers(change), "share out", now)
        elif phase == "giving":
            self._begin_phase(change, "taking", self._takers(change), "take in", now)
        elif phase == "stopping":
            self._leave(change)
        else:
            self._follow(change, now)

    def _hold(self, change: _Change, now: float) -> None:
        """Lets nobody send anything to the role."""
        change.phase, change.since = "holding", now
        role = [row for row in self._role(change) if row.alive]
        others = [row for row in self._node.children if row.state is State.UP]
        change.missing = {
            f"{row.name}>{one.name}" for row in others for one in role if one is not row
        }
        for row in others:
            for one in role:
                if one is not row:
                    self._node.tell(row, "hold", {"name": [one.role, one.shard]})

    def _release(self, change: _Change) -> None:
        """Lets all go on."""
        role = self._role(change)
        for row in self._node.children:
            if row.state is State.UP:
                for one in role:
                    if one is not row:
                        self._node.tell(row, "release", {"name": [one.role, one.shard]})
        for row in self._takers(change):
            self._node.tell(row, "resume", {})

    def _follow(self, change: _Change, now: float) -> None:
        """The new table counts from now on."""
        node, order = self._node, change.order
        self._forget_states(change)
        holders = self._role(change)
        node.slots[order.role] = change.table
        node.announce()
        for row in node.children:
            if row.state is State.UP:
                for one in holders:
                    if one is not row and (order.adds or one is not change.row):
                        node.tell(row, "release", {"name": [one.role, one.shard]})
                if row.role == order.role:
                    node.tell(row, "resume", {})
        if order.adds:
            self._done(change, "added")
            return
        change.phase, change.since, change.missing = "stopping", now, {change.row.name}
        change.order_now = ""
        change.row.move("stop")
        node.tell(change.row, "stop", {})

    def _leave(self, change: _Change) -> None:
        """The process that goes has finished."""
        node, row = self._node, change.row
        node.children.remove(row)
        self._park()
        node.lasting.forget(row.name)
        node.announce()
        if row.alive:
            node.swaps.retired.append(row)
            node.tell(row, "exit", {})
        self._done(change, "removed")

    def _park(self) -> None:
        """Puts aside the sockets that nobody reads any more; what they have dropped stays told."""
        node = self._node
        if node.dispatch == "kernel":
            node.totals.drops.update(node.bound.park_lanes(node.slots))

    def _done(self, change: _Change, what: str) -> None:
        node, row = self._node, change.row
        self._now = None
        counts = {role: len(set(table.shards)) for role, table in node.slots.items()}
        workers = MappingProxyType({**node.settings.workers, **counts})
        node.settings = replace(node.settings, workers=workers)
        log.info("%s was %s: %s has %d now", row.name, what, row.role, counts[row.role])
        node.event("worker", {"name": row.name, "pid": row.pid, "what": what})
        change.order.later.resolve({"name": row.name, "pid": row.pid, "what": what})

    # What happens meanwhile

    def note(self, row: Child, note: Note, now: float) -> bool:
        """Takes what the processes say about a change; returns whether that was all."""
        change = self._now
        if change is None:
            return False
        if note.name == "held" and change.phase == "holding":
            role, shard = note.body["name"]
            change.missing.discard(f"{row.name}>{role}.{shard}")
        elif note.name == _ANSWERS.get(change.phase, "-"):
            change.missing.discard(row.name)
            change.states += note.descriptors
        elif note.name == "stopped" and row is change.row and change.phase == "stopping":
            row.take_beat(note.body, now)
            row.move("stopped")
            change.missing.clear()
        else:
            return note.name in _ANSWERS.values()  # too late
        if not change.missing:
            self._go_on(change, now)
        return True

    def ended(self, row: Child, now: float) -> bool:
        """Learns that a process has ended; returns whether its place is not to be filled."""
        change = self._now
        if change is None or row is not change.row or change.phase != "stopping":
            return False
        self._leave(change)
        return True

    def _forget_states(self, change: _Change) -> None:
        for fd in change.states:
            with suppress(OSError):
                os.close(fd)
        change.states.clear()

    def _give_up(self, change: _Change, reason: str) -> None:
        """Leaves everything as it was."""
        node, row = self._node, change.row
        self._now = None
        self._forget_states(change)
        if node.dispatch == "kernel":
            with suppress(OSError):  # it took this very program before
                node.bound.follow(node.slots)
        self._release(change)
        if change.order.adds:
            node.children.remove(row)
            if row.alive:
                row.kill()
                node.swaps.retired.append(row)
            self._park()
            node.announce()
        log.error("%s: %s", row.name, reason)
        change.order.later.refuse(Refused(REFUSED, f"{row.name}: {reason}; nothing was changed"))

    def abandon(self) -> None:
        """The node stops: whatever is under way ends."""
        while self._waiting:
            self._waiting.popleft().later.refuse(Refused(BUSY, "the node stops"))
        if self._now is not None and self._now.phase == "stopping":
            self._leave(self._now)
        elif self._now is not None:
            self._give_up(self._now, "the node stops")


def _reopen(descriptor: int) -> int:
    """Returns another descriptor of the same memory with a position of its own: several read it."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
