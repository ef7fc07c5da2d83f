"""The one loop of a worker: take datagrams and frames, give them to the module, answer.

No threads, no locks, no shared memory. A turn reads a fair share of each socket that is ready
(`workers.datagrams`), takes at most a few frames and acknowledges them, runs timers, sends what was
told to other workers and, once a second, tells the supervisor how it is going. An exception that
comes out of the module is caught and counted `bug`; what caused it is never given again, and ten in
ten seconds end the worker.
"""

import contextlib
import logging
import select
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import zmq

from core import batch
from core.crypto import KeyBanned
from core.endpoint import Endpoint
from core.entropy import SystemEntropy
from core.link import child, handover, lasting, logs
from core.link.asked import Asked
from core.link.descriptors import Channel, ChannelClosed, Note
from core.link.dispatch import CLASSES, Lane
from core.link.frames import ACK, RELAY_KINDS, Inlet, Outlet
from core.link.in_hand import InHand
from core.messages import Bootstrap
from core.module import Context, LocalError, Module, ProtocolViolation
from core.wire import WireError
from workers import bounds, looks
from workers.bugs import Bugs
from workers.datagrams import Datagrams
from workers.desk import Create
from workers.outbox import WorkerOutbox
from workers.resizing import Resizing

_FRAMES_A_TURN = 4
_EVENTS_A_TURN = 64
_OWN_A_TURN = 1024  # messages to itself in one turn
_ACK_FRAMES = 2  # acknowledged together: half the messages, and the credit still never runs out
_ACK_S = 0.02  # how long the last one may stay unacknowledged
_WITHHOLD_S = 0.25  # how long a worker that is behind may make this one take less in
_STOP_S = 0.7  # how long a worker that stops may take for what it has in hand
_LISTEN_MS = 50  # how long one that has handed over sleeps; then its last word may have room
_NODES_FIRST_S = 5.0  # a dht.0 that dies young has a successor that knows its nodes
_NODES_INTERVAL_S = 60.0

log = logging.getLogger("toxmesh.worker")


class Host:
    """Runs the module of one worker."""

    def __init__(
        self,
        channel: Channel,
        start: child.Start,
        create: Callable[[Context, WorkerOutbox], Module],
    ) -> None:
        self._channel = channel
        self._start = start
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context = Context(
            keys=start.keys(),
            master=start.master_key(),
            entropy=SystemEntropy(),
            out=None,  # type: ignore[arg-type]  # the outbox needs the context's slots
            shard=start.shard,
            options=start.options,
            started=start.started,
            unix_offset=start.unix_offset,
            lasting=partial(lasting.map_all, start.lasting[0]) if start.lasting else None,
        )
        sockets = list(zip(start.udp, start.families, strict=True))
        self.out = WorkerOutbox(start.role, start.shard, sockets, self.context.slots)
        self.context.out = self.out
        self.module = create(self.context, self.out)
        in_hand = next((InHand(fd) for fd in start.in_hand), None)
        self.datagrams = Datagrams(
            self.module, self.out, self.context.key_cache(), self._bug, in_hand
        )
        self._inlet = Inlet(self._zmq, start.path, self.out.drops)
        self._epoll = select.epoll()
        self._epoll.register(self._inlet.fd, select.EPOLLIN)
        self._epoll.register(channel.fileno(), select.EPOLLIN)
        self._reading = False  # whether sockets are watched
        self._ready: list[int] = []  # sockets that have datagrams, the most valued class first
        self._rank: dict[int, int] = {}  # of a socket, by its class
        for fd, (socket, name) in zip(start.inputs, start.lanes, strict=True):
            lane = Lane(start.role, start.shard, name)
            self.datagrams.watch(fd, start.families[socket], socket, lane)
            self._rank[fd] = -CLASSES.index(name)
        self._more_frames = True
        self._names: dict[int, tuple[str, int]] = {}  # from generation
        self._handled: dict[int, int] = {}  # generation: sequence to acknowledge
        self._acknowledged: dict[int, int] = {}  # generation: sequence last acknowledged
        self._acknowledge_by = 0.0
        self._withheld_since: float | None = None
        self._connected = False  # before the first topology nobody can be told anything
        self._bugs = Bugs(self.out.drops)
        self._next_beat = 0.0
        self._next_nodes = time.monotonic() + _NODES_FIRST_S
        self._stop_by: float | None = None
        self._stopped = False
        self._exit: int | None = None
        # Modules have these or not; whoever has none is not asked.
        self._handle_frame: Callable[[int, Sequence[Any], float], None] | None = self._optional(
            "handle_frame"
        )
        self._snapshot: Callable[[], dict[str, Any]] | None = self._optional("snapshot")
        self._nodes: Callable[[], tuple[tuple[bytes, bytes], ...]] | None = self._optional(
            "nodes_to_save"
        )
        self._handle_topology: Callable[[float], None] | None = self._optional("handle_topology")
        self._handle_stop: Callable[[bool, float], None] | None = self._optional("handle_stop")
        self._finished: Callable[[], bool] | None = self._optional("finished")
        self._holds = handover.Holds(channel)
        self._resizing = Resizing(channel, self.module, self._guard)
        self._hands_over = False
        self._asked = Asked(
            channel,
            self._optional("ask"),
            self.context.events,
            lambda what, now: self._bug(what, 0, now),
            looks.questions(self.context, self.out, self.datagrams, self.module),
            bounds.of_worker(self.datagrams, self.context.key_cache(), self.module),
        )

    def _optional(self, name: str) -> Any:
        """Returns a method that a module may have, or None."""
        return getattr(self.module, name, None)

    def run(self, notes: list[Note]) -> int:
        """Runs until told to stop, and returns the exit code."""
        try:
            self._channel.send("ready", {})
            for note in notes:
                self._note(note)
            more = True
            while self._exit is None:
                more = self._turn(0.0 if more else self._patience())
        except ChannelClosed:
            log.info("the supervisor is gone, so this worker stops")
            with contextlib.suppress(ChannelClosed):
                self._finish()
        return self._close()

    def _close(self) -> int:
        """Lets go of everything, and returns the exit code."""
        self._epoll.close()
        self._inlet.close()
        for box in self.out.mailboxes.values():
            box.connect(None)
        self._zmq.term()
        return self._exit or 0

    def _turn(self, patience: float = 0.0) -> bool:
        """Waits up to `patience` seconds and does one turn; returns whether there is more to do."""
        if self._stopped and self._hands_over:
            return self._wait_for_end()
        self._wait(patience)
        now = time.monotonic()
        datagrams = self.datagrams
        for fd in self._ready:
            datagrams.read(fd, now)
        count = self._frames(now) if self._more_frames else 0
        more = self._more_frames
        if datagrams.misses:
            more = datagrams.serve_misses(now) or more
        when = self.module.next_timer()
        if when is not None and when <= now and self._connected:
            self.out.begin(-1)
            self._guard("timer", 0, self.module.handle_timer, now)
        own = self.out.own
        for _ in range(min(len(own), _OWN_A_TURN)):
            origin, message = own.popleft()
            self.out.begin(origin)
            self._guard("message", 0, self.module.handle_message, message, now)
        self.out.flush()
        self.out.pump(now)
        self._balance(now)
        if self._handled:
            self._acknowledge(now)
        else:
            self._acknowledge_by = 0.0
        if now >= self._next_beat:
            self._beat(now)
        if self.context.events:
            self._asked.tell_events()
        if self._holds:
            self._holds.turn(lambda name: self.out.mailbox(name).quiet)
        if self._reading or not self._rank:
            self._resizing.turn(self._ready, not (datagrams.misses or self._handled or own))
        if self._stop_by is not None and not self._stopped:
            self._stop(now, count == 0 and not datagrams.misses)
        return more or bool(own)

    def _wait_for_end(self) -> bool:
        """Touches nothing more, since its successor goes on in the memory that it had."""
        ready = select.poll()
        ready.register(self._channel.fileno(), select.POLLIN)
        ready.poll(_LISTEN_MS)
        self._channel.flush()
        self._hear()
        return False

    def _wait(self, seconds: float) -> None:
        """Waits for datagrams, frames or the supervisor; epoll counts in milliseconds, rounded up.

        ZeroMQ's descriptor tells an edge: once it was ready, frames are taken until none is left.
        """
        ready = self._ready
        ready.clear()
        for fd, _ in self._epoll.poll(seconds, _EVENTS_A_TURN):
            if fd in self._rank:
                ready.append(fd)
            elif fd == self._inlet.fd:
                self._more_frames = True
            else:
                self._hear()
        if len(ready) > 1:
            ready.sort(key=self._rank.__getitem__)

    def _frames(self, now: float) -> int:
        """Takes a few frames; returns how many."""
        for count in range(_FRAMES_A_TURN):
            frame = self._inlet.receive()
            if frame is None:
                self._more_frames = False
                return count
            self._take(frame, now)
        return _FRAMES_A_TURN

    def _read_sockets(self, read: bool) -> None:
        """Begins or stops to read this worker's sockets; meanwhile the kernel keeps datagrams."""
        if read != self._reading:
            self._reading = read
            for fd in self.datagrams.sockets:
                if read:
                    self._epoll.register(fd, select.EPOLLIN)
                else:
                    self._epoll.unregister(fd)

    def _balance(self, now: float) -> None:
        """Takes less in while receivers of messages are behind, but not for long."""
        if self.out.congested:
            if self._withheld_since is None:
                self._withheld_since = now
        else:
            self._withheld_since = None
        paused = self._resizing.paused or self._stop_by is not None or self._withholds(now)
        self._read_sockets(self._connected and not paused)

    def _withholds(self, now: float) -> bool:
        since = self._withheld_since
        return since is not None and now - since < _WITHHOLD_S

    def _take(self, frame: batch.Frame, now: float) -> None:
        """Handles one frame; its sequence is acknowledged at the end of the turn."""
        kind = frame.kind
        if frame.generation not in self._names:
            self._hear()  # its predecessor is gone, and must not be given the answer
        if kind == ACK:
            name = self._names.get(frame.generation)
            if name is not None:
                self.out.mailboxes[name].acknowledged(frame.items[0])
            return
        if kind == batch.DATAGRAMS:
            self.datagrams.take(frame.items, frame.socket, now)
        elif kind == batch.MESSAGES:
            self.out.begin(frame.socket - 1)  # where the datagram came to that it is about
            try:
                rows = batch.messages(frame.items)
            except WireError as error:
                self.out.drops[f"bad_message:{error.packet}"] += 1
                rows = []
            for message in rows:
                self._guard("message", 0, self.module.handle_message, message, now)
        elif kind in RELAY_KINDS and self._handle_frame is not None:
            self.out.begin(-1)
            self._guard("frame", kind, self._handle_frame, kind, frame.items, now)
        else:
            self.out.drops["bad_frame"] += 1
        self._handled[frame.generation] = frame.sequence

    def _guard(self, what: str, size: int, call: Callable[..., None], *arguments: Any) -> None:
        """Calls the module and counts what it raises, as for datagrams."""
        try:
            call(*arguments)
        except KeyBanned:
            self.out.drops["banned:key"] += 1
        except WireError as error:
            self.out.drops[f"wire:{error.packet}"] += 1
        except ProtocolViolation as error:
            self.out.drops[error.reason] += 1
        except Exception:  # the one loop that must outlive any message
            if what == "message":
                what = type(arguments[0]).__name__
            self._bug(what, size, time.monotonic())

    def _bug(self, kind: str, size: int, now: float) -> None:
        """Counts a bug, logs it once, and ends the worker after ten in ten seconds."""
        if self._bugs.add(kind, size, traceback.format_exc(), now):
            self._exit = child.EXIT_BUGS

    def _acknowledge(self, now: float) -> None:
        """Acknowledges what was handled; the broker waits a moment while others are behind."""
        withhold = self._withholds(now)
        if not self._acknowledge_by:
            self._acknowledge_by = now + _ACK_S
        everything = now >= self._acknowledge_by or self._stop_by is not None
        for generation, sequence in list(self._handled.items()):
            name = self._names.get(generation)
            if name is None:
                continue  # its sender is in a topology that is still to come
            box = self.out.mailboxes[name]
            if withhold and name[0] == "broker":
                continue
            if not everything and sequence - self._acknowledged.get(generation, 0) < _ACK_FRAMES:
                continue
            del self._handled[generation]
            self._acknowledged[generation] = sequence
            if box.outlet is not None:
                box.outlet.acknowledge(sequence)
        if everything:
            self._acknowledge_by = 0.0

    def _patience(self) -> float:
        """Returns how long to wait for something to happen, in seconds."""
        now = time.monotonic()
        until = self._next_beat
        when = self.module.next_timer()
        if when is not None and when < until and self._connected:
            until = when
        due = self.out.due
        if due is not None:
            until = min(until, due)
        if self._handled:
            until = min(until, self._acknowledge_by or now + _ACK_S)
        if self._withheld_since is not None:
            over = self._withheld_since + _WITHHOLD_S
            if over > now:  # else nothing is withheld any more
                until = min(until, over)
        if self._stop_by is not None and not self._stopped:
            until = min(until, now + 0.01)
        return max(0.0, until - now)

    def _hear(self) -> None:
        for note in self._channel.receive():
            self._note(note)

    def _note(self, note: Note) -> None:
        """Does what the supervisor says."""
        if note.name == "topology":
            self._connect(child.Topology.from_body(note.body))
        elif note.name == "bootstrap":
            rows = tuple((bytes(row[0]), bytes(row[1])) for row in note.body["nodes"])
            self.out.begin(-1)
            now = time.monotonic()
            self._guard("message", 0, self.module.handle_message, Bootstrap(rows), now)
        elif note.name == "hold":
            self.out.mailbox(self._holds.begin(note)).held = True
        elif note.name == "release":
            self.out.mailbox(handover.name_of(note)).held = False
        elif note.name == "take over":
            self._take_over(note)
        elif note.name == "stop":
            self._hands_over = bool(note.body.get("hand_over"))
            self._stop_by = time.monotonic() + _STOP_S
            self._begin_stop()
        elif note.name == "settings":
            self.context.options = child.follow_settings(note)
            follow = self._optional("handle_options")
            if follow is not None:
                self._guard("options", 0, follow, time.monotonic())
                self.datagrams.find_handlers()
        elif note.name == "exit":
            self._exit = 0
        elif note.name == "bans":
            self.datagrams.bans.learn(note.body)
        elif not self._resizing.hear(note, self.datagrams.sockets, time.monotonic()):
            self.out.begin(-1)
            self._asked.hear(note, time.monotonic())

    def _begin_stop(self) -> None:
        """Lets the module end what it does by itself; `finished` says when it has."""
        if self._handle_stop is not None:
            self._guard("stop", 0, self._handle_stop, self._hands_over, time.monotonic())

    def _is_finished(self) -> bool:
        return self._finished is None or self._finished()

    def _take_over(self, note: Note) -> None:
        """Begins with what the predecessor has said at its end; the rest stands in memory."""
        now = time.monotonic()
        self.out.begin(-1)
        rows = tuple((bytes(row[0]), bytes(row[1])) for row in note.body.get("nodes", ()))
        if rows:
            self._guard("message", 0, self.module.handle_message, Bootstrap(rows), now)
        self._channel.send("taken", {})

    def _connect(self, topology: child.Topology) -> None:
        """Connects to new incarnations and lets go of those that are gone."""
        self._connected = True
        start = self._start
        slots = self.context.slots
        for role in set(slots) - set(topology.slots):
            del slots[role]
        slots.update(topology.slots)
        self.out.sort_again()
        own = (start.role, start.shard)
        for name in (set(self.out.mailboxes) | set(topology.peers)) - {own}:
            peer = topology.peers.get(name)
            box = self.out.mailbox(name)
            known = None if box.outlet is None else box.outlet.generation
            if known == (None if peer is None else peer.generation):
                continue
            if known is not None:
                del self._names[known]
                self._handled.pop(known, None)
                self._acknowledged.pop(known, None)
            if peer is None:
                box.connect(None)
                continue
            box.connect(Outlet(self._zmq, peer.path, start.generation, peer.generation))
            self._names[peer.generation] = name
            box.pump(time.monotonic())
        newest = max(self._names, default=0)
        for generation in [row for row in self._handled if row < newest]:
            if generation not in self._names:
                del self._handled[generation]  # its sender died before it was announced here
        if self._handle_topology is not None:
            self.out.begin(-1)
            self._guard("topology", 0, self._handle_topology, time.monotonic())

    def _beat(self, now: float) -> None:
        """Tells the supervisor that this worker lives, and its counters."""
        self._next_beat = now + child.BEAT_INTERVAL
        logs.settle(now)
        if self._channel.blocked:
            self._channel.flush()
            return  # the supervisor does not read: what it missed is in the next beat
        self._channel.send("beat", self._counters())
        if self._nodes is not None and now >= self._next_nodes:
            self._next_nodes = now + _NODES_INTERVAL_S
            self._channel.send("nodes", {"nodes": self._nodes_to_save()})

    def _counters(self) -> dict[str, Any]:
        """Returns what a heartbeat tells; all counters run from the start of this incarnation."""
        out = self.out
        snapshot: dict[str, Any] = {}
        if self._snapshot is not None:
            try:
                snapshot = self._snapshot()
            except Exception:  # a view of the state must not end what it shows
                self._bug("snapshot", 0, time.monotonic())
        return {
            "packets": self.datagrams.packets,
            "received": [
                [kind, count]
                for kind, count in enumerate(self.datagrams.kinds_received)
                if count
            ],
            "sent": [[kind, count] for kind, count in enumerate(out.kinds_sent) if count],
            "drops": dict(out.drops),
            "at": time.monotonic(),
            "busy": time.process_time(),
            "rss": child.rss(),
            "waiting": sum(len(box) for box in out.mailboxes.values()),
            "batches": self.datagrams.batches,
            "keys": self.context.key_cache().counts(),
            "snapshot": child.plain(snapshot),
        }

    def _nodes_to_save(self) -> list[list[bytes]]:
        if self._nodes is None:
            return []
        try:
            return [[bytes(Endpoint(row[0])), bytes(row[1])] for row in self._nodes()]
        except Exception:  # nothing to save is better than no orderly stop
            self._bug("nodes_to_save", 0, time.monotonic())
            return []

    def _stop(self, now: float, quiet: bool) -> None:
        """Says that this worker has stopped once nothing is in hand, or its time is over."""
        assert self._stop_by is not None
        done = quiet and not self._handled and self.out.idle and self._is_finished()
        if now < self._stop_by and not done:
            return
        self._stopped = True
        self._finish()

    def _finish(self) -> None:
        """Says the last words: counters and nodes to save."""
        self.out.flush()
        body = self._counters()
        body["nodes"] = self._nodes_to_save()
        self._channel.send("stopped", body)


def main(name: str, create: Create) -> int:
    """Runs a worker process: `create` makes the module of its role."""
    try:
        channel, start, notes = child.begin()
    except ChannelClosed:
        return 0
    if start.role != name:
        raise LocalError(f"a worker for {name} was told to be {start.role}")
    return Host(channel, start, create).run(notes)
