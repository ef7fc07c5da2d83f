"""Starts the processes of a node, watches them, and stops them in order.

One loop, no asyncio. It owns what must outlive a worker: the bound sockets, the keys, the counters
of the dead, and the control door. A child that dies comes back at once (later with back-off), one
that is silent for three seconds is killed first; every change of who is up is announced to all.
"""

import logging
import os
import selectors
import shutil
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from core.crypto import KeyPair
from core.endpoint import Endpoint
from core.link.child import Start, Topology
from core.link.descriptors import ChannelClosed, Note
from core.module import NodeOptions
from core.services import LAN
from core.wire import WireError
from toxmesh import __version__, children, requests, sockets, surroundings, web
from toxmesh.asker import Asker
from toxmesh.children import Child, State
from toxmesh.control import ControlDoor
from toxmesh.drain import Drain
from toxmesh.first_nodes import FirstNodes
from toxmesh.followers import Followers
from toxmesh.life import Life, Nodes, take_signals
from toxmesh.logbook import LogBook
from toxmesh.motd import Motd
from toxmesh.notify import Notify
from toxmesh.reload import Reloads, Reread
from toxmesh.remote.door import RemoteDoor
from toxmesh.rules import Rules
from toxmesh.settings import Settings
from toxmesh.swap import Swaps
from toxmesh.upgrade import Upgrade

OnReady = Callable[[Sequence[str], int, Sequence[int]], None]
"""on_ready(addresses, UDP port, TCP ports): called when the node listens."""

EXIT_GOOD, EXIT_FAILED = 0, 2

_TICK_S = 0.25
_FAILED_STARTS = 4  # deaths of one child before the node listens: it will not get better
_STOP_S = 1.4  # for the broker, and then for the workers, to finish what they have in hand
_EXIT_S = 1.0
_VERSION_LEAD = 2_000_000_000  # 1 is c-toxcore's (global.h), 3 is tox-node's leading digit

log = logging.getLogger("toxmesh.supervisor")


def version_number(version: str) -> int:
    """Returns `major.minor.patch` as bootstrap info says it."""
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    return _VERSION_LEAD + major * 1_000_000 + minor * 1_000 + patch


class Supervisor:
    """One running node."""

    def __init__(
        self,
        settings: Settings,
        keys: KeyPair,
        bound: sockets.NodeSockets,
        life: Life,
        save_nodes: Callable[[Nodes], object] | None = None,
        command: Callable[[str], children.Command] = children.command,
        reread: Reread | None = None,
    ) -> None:
        """`life`: new, or what the version before has left in this process."""
        self.settings = settings
        self.keys = keys
        self.bound = bound
        self.life = life
        self.started = life.started
        self.started_wall = life.started_wall
        self.totals = life.totals
        self.slots = life.slots
        self.lasting = life.lasting
        self.stopping = False
        self._command = command
        self._save_nodes = save_nodes
        self.dispatch = life.dispatch = life.dispatch or self._choose_dispatch()
        self.children = list(life.children) or self._make_children()
        self.selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        for end in (self._wake, self._waker):
            end.setblocking(False)
        self.selector.register(self._wake, selectors.EVENT_READ, self._on_wake)
        self.first_nodes = FirstNodes(self._waker)
        self.swaps = Swaps(self)
        self.motd = Motd(self)
        self.followers = Followers(self)
        self.event = self.followers.event
        self.reloads = Reloads(self, reread)
        self.drain = Drain(self)
        self.asker = Asker(self.children, self.tell, time.monotonic)
        self.asker.number = life.asked
        self.door = ControlDoor(
            settings.state_dir / "control.sock",
            self.selector,
            requests.all_of(self),
            settings.control_group,
            self.totals.drops,
            life.door,
        )
        self.door.on_wanted = self.followers.follow
        self.log_book = LogBook(self)
        self.rules = Rules(self)
        self.web = web.open_door(self, self.selector, life.web)
        self.upgrade = Upgrade(self)
        self.remote = RemoteDoor(self, self.selector)
        self._stop_asked = False
        self._failed = ""
        self.listening = False
        self._last_turn = time.monotonic()
        self._watch = children.Watch()
        self.notify = Notify.from_environment()

    def _choose_dispatch(self) -> str:
        """Makes the sockets that are shared: those of workers, or else of several brokers."""
        bound, settings = self.bound, self.settings
        if not bound.udp:
            return "broker"
        if settings.dispatch == "kernel":
            reason = bound.dispatch_by_kernel(self.slots)
            if not reason:
                return "kernel"
            log.warning("the kernel cannot dispatch UDP (%s), so the broker does", reason)
        bound.share_among_brokers(settings.brokers)
        return "broker"

    def _make_children(self) -> list[Child]:
        """Makes the places of the node, each with a core of its own where there are enough."""
        places = [("broker", shard) for shard in range(1 + len(self.bound.readers))]
        workers = self.settings.workers.items()
        places += [(role, shard) for role, count in workers for shard in range(count)]
        cores = sorted(os.sched_getaffinity(0))
        pinned = not self.settings.dev and len(cores) >= len(places)
        return [
            Child(role, shard, cores[i] if pinned else None)
            for i, (role, shard) in enumerate(places)
        ]

    # The whole life

    def run(self, on_ready: OnReady | None = None) -> int:
        """Runs the node until a signal asks it to stop, and returns the exit code."""
        self._take_signals()
        if self.life.version_before:
            self._go_on()
        try:
            self.first_nodes.look_up(self.settings.bootstrap)
            while not self._stop_asked and not self._failed:
                self._turn()
                if not self.listening and all(row.state is State.UP for row in self.children):
                    self.listening = True
                    self._say_ready(on_ready)
            self._stop()
        finally:
            self._clean_up()
        if self._failed:
            log.critical("%s", self._failed)
            return EXIT_FAILED
        return EXIT_GOOD

    def _take_signals(self) -> None:
        """SIGTERM and SIGINT ask for the stop, SIGHUP for the settings to be read again."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, lambda number, frame: self.reloads.ask())
        take_signals()

    def _go_on(self) -> None:
        """Goes on where the version before has stopped."""
        self.listening = True
        for row in self.children:
            self._attend(row)
            self.tell(row, "follow", {"names": []})  # who followed was shown out
        self.upgrade.go_on(time.monotonic())

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop_asked = True

    def _on_wake(self, now: float) -> None:
        with suppress(BlockingIOError):
            self._wake.recv(4096)

    def _say_ready(self, on_ready: OnReady | None) -> None:
        """Prints the one line on standard output."""
        bound = self.bound
        if on_ready is not None:
            on_ready(bound.addresses(), bound.udp_port, bound.tcp_ports)
        tcp = ",".join(str(port) for port in bound.tcp_ports) or "0"
        key = self.keys.public.hex().upper()
        self.notify.ready()
        with suppress(OSError):  # nobody reads: that is no reason to end
            print(f"ready udp={bound.udp_port} tcp={tcp} key={key}", flush=True)

    def _clean_up(self) -> None:
        signal.set_wakeup_fd(-1)
        for row in self.children + self.swaps.extra:
            if row.alive:
                row.kill()
                row.reap(time.monotonic())
        self.door.close()
        self.web.close()
        self.remote.close()
        self.selector.close()
        self._wake.close()
        self._waker.close()
        self.bound.close()
        self.lasting.close()
        self.notify.close()
        shutil.rmtree(self.life.run_dir, ignore_errors=True)

    # One turn

    def _turn(self) -> None:
        """Waits for something to happen and does it."""
        now = time.monotonic()
        for row in self.children:
            if row.state is State.DOWN and row.start_at <= now and not self.stopping:
                self.spawn(row, now)
        until = now + _TICK_S
        for row in self.children:
            if row.state is State.DOWN and not self.stopping:
                until = min(until, row.start_at)
        for key, _ in self.selector.select(max(0.0, until - now)):
            key.data(time.monotonic())
        now = time.monotonic()
        if now - self._last_turn > 2.0:  # this process was halted, so nobody could be heard
            for row in self.children:
                row.heard = now
        self._last_turn = now
        for row in self._watch.hung(self.children, now):
            log.warning("%s (pid %d) does not answer and is killed", row.name, row.pid)
            row.kill()
            row.heard = now
        if self.first_nodes.turn(now):
            for row in self.children:
                if row.name == "dht.0" and row.state is State.UP:
                    self.tell(row, "bootstrap", self.first_nodes.body())
        self.notify.turn(now, self.children)
        self.log_book.turn(now)
        self.reloads.turn()
        self.drain.turn(now)
        self.rules.turn(now)
        self.swaps.turn(now)
        self.motd.turn(now)
        self.followers.turn(now)
        self.upgrade.turn(now)
        self.asker.expire(now)
        self.door.expire(now)
        self.web.expire(now)
        self.remote.turn(now)

    def spawn(self, row: Child, now: float, successor: bool = False) -> None:
        """Starts the process of a place."""
        life, bound = self.life, self.bound
        life.generation += 1
        udp, inputs, lanes = self._udp_of(row)
        start = Start(
            name=row.name,
            role=row.role,
            shard=row.shard,
            generation=life.generation,
            path=str(life.run_dir / f"{row.name}.{life.generation}"),
            started=life.started,
            secret=self.keys.secret.reveal(),
            master=life.master,
            options=self.options(row),
            families=bound.families(),
            version_number=version_number(__version__),
            unix_offset=life.started_wall - life.started,
            log_level=self.log_book.level_of(row.name),
            log_passing=self.log_book.passing(row.name, now),
            log_format=self.settings.log_format,
            log_redact=self.settings.log_redact,
            dispatch=self.dispatch,
            lanes=lanes,
            udp=udp,
            inputs=inputs,
            in_hand=row.new_in_hand() if inputs else (),
            lasting=self.lasting.of(row),
            successor=successor,
            tcp=tuple(one.fileno() for one in bound.tcp) if row.name == "broker" else (),
        )
        try:
            row.spawn(start, self._command(row.role), now)
        except OSError as error:
            row.restarts += 1
            if self.listening:  # no memory, no process, no descriptor: that passes
                log.error("%s cannot be started now: %s", row.name, error)
            else:
                self._failed = f"{row.name} cannot be started: {error}"
            return
        self.rules.greet(row)
        self._attend(row)

    def _attend(self, row: Child) -> None:
        """Listens to a child, and looks at whether it lives."""
        assert row.channel is not None
        self.selector.register(row.channel.fileno(), selectors.EVENT_READ, self._hears(row))
        self.selector.register(row.pidfd, selectors.EVENT_READ, self._sees_end(row))

    def _udp_of(
        self, row: Child
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, str], ...]]:
        """Returns what a child sends on, what it reads, and the lane of each that it reads.

        Whoever has sockets of its own sends on these: they have the port that was asked, and no
        other process waits for them.
        """
        bound = self.bound
        if row.role == "broker" and row.shard:
            return tuple(one.fileno() for one in bound.readers[row.shard - 1]), (), ()
        own = {
            lane.name: group
            for lane, group in bound.lanes.items()
            if (lane.role, lane.shard) == (row.role, row.shard)
        }
        inputs = [
            (one.fileno(), (index, name))
            for name, group in own.items()
            for index, one in enumerate(group)
        ]
        send = next(iter(own.values()), bound.udp)
        return (
            tuple(one.fileno() for one in send),
            tuple(fd for fd, _ in inputs),
            tuple(lane for _, lane in inputs),
        )

    def options(self, row: Child) -> NodeOptions:
        """Returns what the modules of a child are told; nodes are for dht.0 alone."""
        families = self.bound.families()
        table = row.role == "dht" and row.shard == 0
        options = NodeOptions(
            udp_port=self.bound.udp_port,
            tcp_ports=self.bound.tcp_ports,
            has_ipv4=socket.AF_INET in families,
            has_ipv6=socket.AF_INET6 in families,
            loopback_ipv4=self.bound.on_loopback(socket.AF_INET),
            loopback_ipv6=self.bound.on_loopback(socket.AF_INET6),
            lan_discovery=self.settings.lan_discovery and LAN not in self.settings.services_off,
            lan_targets=surroundings.lan_targets() if table and self.settings.lan_discovery else (),
            motd=self.motd.current(),
            services_off=self.settings.services_off,
            relay_connections=self.settings.relay_connections,
            relay_per_address=self.settings.relay_per_address,
            relay_per_prefix=self.settings.relay_per_prefix,
            relay_unconfirmed_per_address=(self.settings.relay_per_address + 1) // 2,
            bootstrap=self.first_nodes.found if table else (),
            saved_nodes=self.life.nodes if table else (),
            draining=self.drain.active,
        )
        if row.role != "messenger":
            return options
        from toxmesh.hosting.chosen import options_for  # a node without identities needs none

        return options_for(options, self.settings, self.bound, self.keys.public)

    # What children say

    def _hears(self, row: Child) -> Callable[[float], None]:
        def on_channel(now: float) -> None:
            if row.channel is None:
                return  # its end was seen in this very turn
            try:
                for note in row.channel.receive():
                    self._note(row, note, now)
            except ChannelClosed:
                self.selector.unregister(row.channel.fileno())
                if row.state is not State.STOPPED:  # that one is on its way out
                    row.kill()  # it cannot be told anything any more
            except WireError as error:
                log.error("%s says what is no message: %s", row.name, error)
                row.kill()

        return on_channel

    def _note(self, row: Child, note: Note, now: float) -> None:
        """Takes note of what a child says."""
        row.heard = now
        if self.swaps.note(row, note, now):
            return
        if note.name == "ready" and row.state is State.STARTING:
            row.move("ready")
            self.announce()
            self.event("worker", {"name": row.name, "pid": row.pid, "what": "up"})
            if self.first_nodes.found and row.name == "dht.0":
                self.tell(row, "bootstrap", self.first_nodes.body())
        elif note.name == "beat":
            row.take_beat(note.body, now)
        elif note.name == "nodes":
            self.keep_nodes(note.body)
        elif note.name == "answer":
            self.asker.answered(row, note.body)
        elif note.name == "events":
            self.log_book.hear(row.name, note.body)
            self.followers.told(row, note.body)
        elif note.name == "stopped":
            row.take_beat(note.body, now)
            self.keep_nodes(note.body)
            if row.state is State.STOPPING:
                row.move("stopped")

    def _sees_end(self, row: Child) -> Callable[[float], None]:
        def on_end(now: float) -> None:
            if row.channel is not None:
                with suppress(ChannelClosed, WireError):  # its last words
                    for note in row.channel.receive():
                        self._note(row, note, now)
                with suppress(KeyError, ValueError):
                    self.selector.unregister(row.channel.fileno())
            self.selector.unregister(row.pidfd)
            self.totals.add(row.beat)
            lost = row.lost()
            if lost:
                self.totals.drops[f"lost_in_worker:{row.role}"] += lost
            row.beat = {}
            code = row.reap(now)
            if self.swaps.ended(row, now) or self.stopping:
                return
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            log.warning("%s (pid %d) %s and is started again", row.name, row.pid, how)
            self.asker.gone(row)
            self.event("worker", {"name": row.name, "what": "down", "how": how})
            row.restarts += 1
            if not self.listening and row.restarts >= _FAILED_STARTS:
                self._failed = f"{row.name} does not start: it {how} {row.restarts} times"
            self.announce()

        return on_end

    def tell(
        self, row: Child, name: str, body: dict[str, Any], descriptors: tuple[int, ...] = ()
    ) -> None:
        """Tells a child something; one that cannot be told is ended."""
        if row.channel is None:
            return
        try:
            row.channel.send(name, body, descriptors)
        except ChannelClosed:
            row.kill()

    def announce(self) -> None:
        """Tells all who is up."""
        up = [row for row in self.children if row.state is State.UP]
        peers = {(row.role, row.shard): row.peer() for row in up}
        body = Topology(self.slots, peers).to_body()
        for row in up:
            self.tell(row, "topology", body)
            self.followers.greet(row)

    def keep_nodes(self, body: dict[str, Any]) -> None:
        """Keeps the nodes that dht.0 knows, for its successor and for the next start."""
        rows = tuple((Endpoint(bytes(row[0])), bytes(row[1])) for row in body.get("nodes", ()))
        if rows:
            self.life.nodes = rows
            if self._save_nodes is not None:
                self._save_nodes(rows)

    # Stopping

    def _stop(self) -> None:
        """Stops all in order: first what brings work in, then those who do it."""
        self.stopping = True
        self.swaps.abandon()
        self.notify.stopping()
        self._stop_some([row for row in self.children if row.role == "broker"])
        self._stop_some([row for row in self.children if row.role != "broker"])
        for row in self.children:
            self.tell(row, "exit", {})
        self._turns_until(lambda: not any(row.alive for row in self.children), _EXIT_S)
        for row in self.children:
            if row.alive:
                log.warning("%s (pid %d) did not stop in time and is killed", row.name, row.pid)

    def _stop_some(self, rows: list[Child]) -> None:
        """Asks some to stop and waits until they have said their last word."""
        for row in rows:
            row.move("stop")
            self.tell(row, "stop", {})
        self._turns_until(lambda: all(row.state is State.STOPPED for row in rows), _STOP_S)

    def _turns_until(self, done: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            self._turn()
