"""The broker's loop: UDP datagrams to workers, TCP streams, frames from workers, in fair turns."""

import contextlib
import logging
import select
import socket
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import zmq

from broker import bounds, looks, tcp_handover
from broker.hooks import Handler, TcpSide
from broker.info import BootstrapInfo
from broker.lanes import Lane
from broker.routes import Target
from broker.tcp_bugs import Bugs
from broker.udp import UdpSide
from core import batch
from core.asking import NOT_FOUND, CannotAnswer, Events
from core.link import child, handover, logs
from core.link.asked import Asked
from core.link.descriptors import Channel, ChannelClosed, Note
from core.link.frames import ACK, RELAY_KINDS, Inlet, Outlet
from core.module import LocalError, NodeOptions
from core.services import INFO
from core.slots import SlotTable
from core.wire import WireError

_FRAMES_A_TURN = 64
_EVENTS_A_TURN = 128
_EARLY = 256  # frames kept of workers that the supervisor has not announced here yet
_STOP_S = 0.7  # how long workers may take for what is on its way when the node stops
_TELLERS = ("onion", "relay")  # roles that have something to tell the broker (SECURITY S-35)

log = logging.getLogger("toxmesh.broker")


class Broker:
    """One broker process; also the hooks of its TCP side."""

    def __init__(self, channel: Channel, start: child.Start) -> None:
        self.drops: Counter[str] = Counter()
        self._channel = channel
        self._start = start
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._inlet = Inlet(self._zmq, start.path, self.drops)
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._slots: dict[str, SlotTable] = {}
        self._lanes: dict[int, Lane] = {}  # from generation, those that are up
        self._newest = start.generation  # the greatest generation that was announced
        self._early: list[batch.Frame] = []  # from workers that are announced in a moment
        self._handled: dict[int, int] = {}  # generation: sequence to acknowledge
        self._options = start.options
        self._info = BootstrapInfo(start.version_number, start.options.motd, self.drops)
        self._info.off = INFO in start.options.services_off
        sockets = list(zip(start.udp, start.families, strict=True))
        self._udp = UdpSide(sockets, self._info, self.drops, start.dispatch == "kernel")
        self.bans = self._udp.bans
        self._ready: dict[int, None] = {}  # sockets that have more than their share
        self._more_frames = False
        self._next_beat = 0.0
        self._stop_by: float | None = None
        self._stopped = False
        self._exit = False
        self.watch(channel.fileno(), select.EPOLLIN, self._on_channel)
        self.watch(self._inlet.fd, select.EPOLLIN, self._on_frames)
        self._reads_udp = False
        self.events = Events()
        self._bugs = Bugs(self.drops, "bug", "an answer to an operator")
        self._holds = handover.Holds(channel)
        self._paused = False
        self._bounds = bounds.of_broker(self._info, self._udp)
        # A successor opens its listeners when it has the connections of the broker before it.
        self._tcp = None if start.successor else self._make_tcp()
        self._taken = tcp_handover.Taken()
        self._asked = Asked(
            channel,
            self._ask,
            self.events,
            lambda what, now: self._bugs.contain(now),
            looks.questions(self._udp, self.events),
            self._bounds,
        )

    def _make_tcp(self) -> TcpSide | None:
        """Makes the relay's side, where there is TCP."""
        if not self._start.tcp:
            return None
        from broker.tcp import RelayTcp

        listeners = [socket.socket(fileno=fd) for fd in self._start.tcp]
        tcp = RelayTcp(self, listeners, self._options)
        self._bounds.add(tcp.bounds.rows())
        return tcp

    # What the TCP side may do (BrokerHooks)

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Calls `handler` whenever one of `events` is ready."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def rewatch(self, fd: int, events: int) -> None:
        """Changes the events of a watched descriptor."""
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Forgets a descriptor."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def slots(self, role: str) -> SlotTable | None:
        """Returns the slot table of a role."""
        return self._slots.get(role)

    def _relay_lane(self, shard: int) -> Lane | None:
        lane = self._udp.lanes.get(Target("relay", shard))
        return None if lane is None or lane.outlet is None else lane

    def relay_shards(self) -> list[int]:
        """Returns the numbers of the relay shards that are up."""
        return sorted(lane.target.shard for lane in self._lanes.values() if _is_relay(lane))

    def credit(self, shard: int) -> int:
        """Returns how many frames may be sent to a relay shard now."""
        lane = self._relay_lane(shard)
        return 0 if lane is None or lane.outlet is None else lane.outlet.credit

    def send_frame(self, shard: int, kind: int, items: Sequence[Any]) -> int:
        """Sends a frame to a relay shard and returns its sequence."""
        lane = self._relay_lane(shard)
        if lane is None or lane.outlet is None or kind not in RELAY_KINDS:
            raise LocalError(f"no frame of kind {kind} can go to relay.{shard}")
        return lane.outlet.send(kind, items)

    # The loop

    def run(self, notes: list[Note]) -> int:
        """Runs until told to stop, and returns the exit code."""
        try:
            self._channel.send("ready", {})
            for note in notes:
                self._note(note, time.monotonic())
            while not self._exit:
                self._turn()
        except ChannelClosed:
            log.info("the supervisor is gone, so the broker stops")
            if self._tcp is not None and self._stop_by is None:
                self._tcp.handle_stop(time.monotonic())
        self._inlet.close()
        for lane in self._udp.lanes.values():
            lane.connect(None)
        self._zmq.term()
        return 0

    def _turn(self) -> None:
        """Waits for something to happen and does it."""
        events = self._epoll.poll(self._patience(), _EVENTS_A_TURN)
        now = time.monotonic()
        handlers = self._handlers
        for fd, mask in events:
            handler = handlers.get(fd)
            if handler is not None:
                handler(mask, now)
        if self._more_frames:
            self._on_frames(select.EPOLLIN, now)
        if self._handled:
            self._acknowledge()
        tcp = self._tcp
        if tcp is not None:
            when = tcp.next_timer()
            if when is not None and when <= now:
                tcp.handle_timer(now)
        if now >= self._next_beat:
            self._beat(now)
        if self.events:
            self._asked.tell_events()
        if self._holds:
            self._holds.turn(self._quiet)
        if self._stop_by is not None and not self._stopped:
            self._stop(now)

    def _patience(self) -> float:
        """Returns how long to wait, in seconds."""
        if self._more_frames:
            return 0.0
        now = time.monotonic()
        until = self._next_beat
        if self._tcp is not None:
            when = self._tcp.next_timer()
            if when is not None and when < until:
                until = when
        if self._stop_by is not None and not self._stopped:
            until = min(until, now + 0.01)
        return max(0.0, until - now)

    def _reader(self, index: int) -> Handler:
        read = self._udp.read

        def on_udp(events: int, now: float) -> None:
            read(index, now)  # level-triggered: what is left is ready again next turn

        return on_udp

    def _on_frames(self, events: int, now: float) -> None:
        """Takes frames from workers. ZeroMQ's descriptor tells an edge: it is read until empty."""
        for _ in range(_FRAMES_A_TURN):
            frame = self._inlet.receive()
            if frame is None:
                self._more_frames = False
                return
            self._take(frame, now)
        self._more_frames = True

    def _take(self, frame: batch.Frame, now: float) -> None:
        """Handles one frame of a worker; those of a worker that is gone are refused."""
        kind = frame.kind
        lane = self._lanes.get(frame.generation)
        if lane is None:
            if frame.generation > self._newest and len(self._early) < _EARLY:
                self._early.append(frame)
            else:
                self.drops["late_frame"] += 1
            return
        role, shard = lane.target
        if kind == ACK:
            lane.acknowledged(frame.items[0])
            if role == "relay" and self._tcp is not None:
                self._tcp.handle_credit(shard, now)
            return
        self._handled[frame.generation] = frame.sequence
        tcp = self._tcp
        if kind == batch.MESSAGES and role in _TELLERS:
            try:
                rows = batch.messages(frame.items)
            except WireError:
                self.drops["bad_message"] += 1
                return
            for message in rows:
                if tcp is None:
                    self.drops["told_nobody:tcp"] += 1
                else:
                    tcp.handle_message(message, now)
        elif kind in RELAY_KINDS and role == "relay" and tcp is not None:
            tcp.handle_frame(shard, frame.generation, kind, frame.items, now)
        else:
            self.drops[f"wrong_verb:{role}"] += 1

    def _acknowledge(self) -> None:
        for generation, sequence in self._handled.items():
            lane = self._lanes.get(generation)
            if lane is not None and lane.outlet is not None:
                lane.outlet.acknowledge(sequence)
        self._handled.clear()

    # Operators

    def _ask(self, what: str, args: dict[str, Any], now: float) -> Any:
        """Answers what the relay knows; `looks` has the rest."""
        if self._tcp is None:
            raise CannotAnswer(NOT_FOUND, "this node has no relay: no TCP port is open")
        return self._tcp.ask(what, args, now)

    # The supervisor

    def _on_channel(self, events: int, now: float) -> None:
        for note in self._channel.receive():
            self._note(note, now)

    def _note(self, note: Note, now: float) -> None:
        """Does what the supervisor says."""
        if note.name == "topology":
            self._connect(child.Topology.from_body(note.body), now)
        elif note.name == "hold":
            self._hold(self._holds.begin(note), True, now)
        elif note.name == "release":
            self._hold(handover.name_of(note), False, now)
        elif note.name == "take over":
            self._take_over(note)
        elif note.name == "stop":
            self._stop_by = now + _STOP_S
            for fd in self._start.udp:
                self.unwatch(fd)
            if note.descriptors:
                self._hand_over(Channel(socket.socket(fileno=note.descriptors[0])), now)
            elif self._tcp is not None:
                self._tcp.handle_stop(now)
        elif note.name == "settings":
            self._follow(child.follow_settings(note), now)
        elif note.name == "motd":
            self._info.say(str(note.body["text"]))
        elif note.name == "exit":
            self._exit = True
        elif note.name == "bans":
            news = self.bans.learn(note.body)
            if self._tcp is not None:
                self._tcp.handle_bans(news, now)
        else:
            self._asked.hear(note, now)

    def _follow(self, options: NodeOptions, now: float) -> None:
        """Follows settings that were changed while the broker runs, as its successor would."""
        self._options = options
        self._info.say(options.motd)
        self._info.off = INFO in options.services_off
        if self._tcp is not None:
            self._tcp.follow(options, now)

    # Replacement, planned

    def _hold(self, name: tuple[str, int], held: bool, now: float) -> None:
        """Leaves the way to a process alone, or goes on with it; the broker itself reads nothing
        more then, and gives no work out."""
        role, shard = name
        if role == self._start.role:
            if held and not self._paused:
                self._paused = True
                for fd in self._start.udp:
                    self.unwatch(fd)
                if self._tcp is not None:
                    self._tcp.pause()
            return
        lane = self._udp.lane(Target(role, shard))
        lane.held = held
        if role == "relay" and self._tcp is not None:
            self._tcp.hold(shard, held)
        if not held:
            lane.pump()
            if self._tcp is not None:
                self._tcp.handle_credit(shard, now)

    def _quiet(self, name: tuple[str, int]) -> bool:
        """Tells whether nothing is on its way to a process, and nothing of it uncommitted."""
        role, shard = name
        tcp = self._tcp
        if role == self._start.role:
            lanes_quiet = all(lane.quiet for lane in self._udp.lanes.values())
            return lanes_quiet and (tcp is None or tcp.quiet())
        relay_quiet = role != "relay" or tcp is None or tcp.quiet(shard)
        return self._udp.lane(Target(role, shard)).quiet and relay_quiet

    def _hand_over(self, channel: Channel, now: float) -> None:
        """Gives all connections to the next broker; if that dies, they end as in any stop."""
        if self._tcp is None:
            return
        try:
            self._tcp.hand_over(channel)
        except (ChannelClosed, TimeoutError) as error:
            log.error("the connections of the relay could not be handed over: %s", error)
            self._tcp.handle_stop(now)
        channel.close()

    def _take_over(self, note: Note) -> None:
        """Waits for what the broker before this one hands over."""
        if not note.descriptors:
            self._begin_tcp()
            return
        channel = Channel(socket.socket(fileno=note.descriptors[0]))

        def on_handover(events: int, now: float) -> None:
            try:
                for row in channel.receive():
                    self._taken.add(row)
            except ChannelClosed:
                self._taken.discard()
            if self._taken.done:
                self.unwatch(channel.fileno())
                channel.close()
                self._begin_tcp()

        self.watch(channel.fileno(), select.EPOLLIN, on_handover)

    def _begin_tcp(self) -> None:
        self._tcp = self._make_tcp()
        if self._tcp is not None:
            count = self._tcp.take_over(self._taken)
            log.info("the relay goes on with %d connections", count)
        self._channel.send("taken", {})

    def _connect(self, topology: child.Topology, now: float) -> None:
        """Connects to new workers and lets go of those that are gone."""
        before, self._slots = self._slots, topology.slots
        if before != topology.slots:
            self._udp.route(topology.slots)
        peers = {Target(*name): peer for name, peer in topology.peers.items()}
        for target in {*self._udp.lanes, *peers}:
            if target.role == "broker":
                continue
            lane = self._udp.lane(target)
            peer = peers.get(target)
            known = None if lane.outlet is None else lane.outlet.generation
            if known == (None if peer is None else peer.generation):
                continue
            if known is not None:
                del self._lanes[known]
                self._handled.pop(known, None)
                if _is_relay(lane) and self._tcp is not None:
                    lane.connect(None)
                    self._tcp.handle_worker(target.shard, None, now)
            if peer is None:
                lane.connect(None)
                continue
            self._lanes[peer.generation] = lane
            lane.connect(Outlet(self._zmq, peer.path, self._start.generation, peer.generation))
            if _is_relay(lane) and self._tcp is not None:
                self._tcp.handle_worker(target.shard, peer.generation, now)
        if self._tcp is not None and before.get("relay") not in (None, self._slots.get("relay")):
            self._tcp.share_anew(now)
        self._newest = max(self._newest, *(peer.generation for peer in peers.values()), 0)
        early, self._early = self._early, []
        for frame in early:
            self._take(frame, now)
        if not self._reads_udp and self._stop_by is None:
            # Before the first topology no role has a lane: answers to dht.0's first requests would
            # be dropped. Until then the kernel keeps them.
            self._reads_udp = True
            for index, fd in enumerate(self._start.udp):
                self.watch(fd, select.EPOLLIN, self._reader(index))

    def _beat(self, now: float) -> None:
        """Tells the supervisor that the broker lives, and its counters."""
        self._next_beat = now + child.BEAT_INTERVAL
        logs.settle(now)
        if self._channel.blocked:
            self._channel.flush()
            return  # the supervisor does not read: what it missed is in the next beat
        self._channel.send("beat", self._counters())

    def _counters(self) -> dict[str, Any]:
        udp = self._udp
        return {
            "packets": udp.packets,
            "received": [[kind, count] for kind, count in enumerate(udp.kinds_received) if count],
            "sent": [[kind, count] for kind, count in enumerate(udp.kinds_sent) if count],
            "drops": dict(self.drops),
            "at": time.monotonic(),
            "busy": time.process_time(),
            "rss": child.rss(),
            "queues": {
                f"{lane.target.role}.{lane.target.shard}": len(lane.queue)
                for lane in udp.lanes.values()
            },
            "snapshot": {} if self._tcp is None else child.plain(self._tcp.snapshot()),
        }

    def _stop(self, now: float) -> None:
        """Says that the broker has stopped once nothing is on its way, or its time is over."""
        assert self._stop_by is not None
        if now < self._stop_by and not all(lane.idle for lane in self._udp.lanes.values()):
            return
        self._stopped = True
        with contextlib.suppress(ChannelClosed):
            self._channel.send("stopped", self._counters())


def _is_relay(lane: Lane) -> bool:
    return lane.target.role == "relay"


def main() -> int:
    """Runs the broker process."""
    try:
        channel, start, notes = child.begin()
    except ChannelClosed:
        return 0
    return Broker(channel, start).run(notes)
