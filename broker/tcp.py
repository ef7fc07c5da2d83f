"""The TCP half of the broker: streams in and out, and the commits of relay workers.

It reads and writes, keeps what has to survive a worker (`Connection`), and knows who is linked to
whom (`Directory`). It has no key and opens nothing: what a frame means, a relay worker says in its
commit, and a commit is applied whole or not at all.
"""

import logging
import select
import socket
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from broker import tcp_asked, tcp_bans, tcp_shares
from broker.bounds import RelayBounds
from broker.hooks import BrokerHooks
from broker.tcp_admission import Admission
from broker.tcp_bugs import Bugs
from broker.tcp_bytes import EVENTS, EVENTS_BEHIND, Bytes
from broker.tcp_clocks import Clocks
from broker.tcp_commits import apply
from broker.tcp_connection import CLOSED, CONFIRMED, GREETED, GREETING, Connection, State
from broker.tcp_door import Door, is_shut
from broker.tcp_gather import Gatherer
from broker.tcp_rest import Rest
from broker.tcp_shard import ShardWork
from broker.tcp_succession import Succession
from core import services
from core.bans import News
from core.endpoint import Endpoint, ip_of, prefix_of
from core.entropy import Entropy, SystemEntropy
from core.link.memory import keep_large_buffers
from core.link.streams import Stream
from core.messages import Message, RelayDeliver
from core.module import NodeOptions
from core.relay.directory import Directory, Notice
from core.relay.frames import FORGET, RELAY_COMMIT, RELAY_INPUT, RELAY_RESET, ROOM
from core.relay.limits import HELLO_SIZE, RelayLimits

_GONE = select.EPOLLERR | select.EPOLLHUP
_EVENTS_A_TURN = 256

log = logging.getLogger("toxmesh.relay")


class RelayTcp(Bytes, Succession):
    """All TCP of one node; the broker's loop calls it (`broker.hooks.TcpSide`)."""

    def __init__(
        self,
        hooks: BrokerHooks,
        listeners: Sequence[socket.socket],
        options: NodeOptions,
        limits: RelayLimits | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        keep_large_buffers()
        self.hooks = hooks
        self.drops = hooks.drops
        self.entropy = entropy or SystemEntropy()
        self.limits = limits or RelayLimits.of(options)
        self.directory = Directory()
        self.connections: dict[int, Connection] = {}  # by serial
        self.works: dict[int, ShardWork] = {}  # by shard
        self.full: dict[int, Connection] = {}
        self.clocks = Clocks(services.RELAY in options.services_off)
        self.counts: Counter[str] = Counter()
        self.bugs = Bugs(self.drops)
        self.admission = Admission(self.limits)
        self._by_fd: dict[int, Connection] = {}
        self.doomed: deque[tuple[Connection, str]] = deque()
        # Serials are sealed into onion returns and must not come again after a restart.
        self.serial = self.entropy.below(1 << 62) + 1
        # Nor may an answer to the broker before this one pass for an answer to this one.
        self._epoch = self.entropy.below(1 << 48)
        self.paused = False
        self.turn_frames = 0  # in commits since the sockets were looked at
        self.poll = select.epoll()
        self.door = Door(self, listeners, is_shut(options))
        self._rest = Rest(self.limits)
        self.bounds = RelayBounds(self)
        self.gather = Gatherer(self)
        self._looks = tcp_asked.Looks(self)
        self.sweep = tcp_bans.Sweep(self)
        hooks.watch(self.poll.fileno(), select.EPOLLIN, self._on_ready)

    # What the broker's loop calls

    def handle_frame(
        self, shard: int, generation: int, kind: int, items: Sequence[Any], now: float
    ) -> None:
        """Takes a commit (or a reset) from a relay worker."""
        work = self.works.get(shard)
        if work is None or not items or items[0] != work.epoch or not work.up:
            self.drops["relay_late_commit"] += 1
            return
        if kind == RELAY_COMMIT:
            try:
                apply(self, work, items, now)
            except Exception:  # a bug that no one connection can be blamed for must not end all:
                # the shard begins anew from the records, as when its worker dies. It is counted
                # and logged (`Bugs`), and the tenth in ten seconds ends the broker.
                self.bugs.contain(now)
                self.worker_gone(work, now)
                self.worker_here(work, now)
            self._bury(now)
            if self.gather:
                self.gather.run()
        elif kind == RELAY_RESET:
            self.drops["relay_reset"] += 1
            self.worker_gone(work, now)
            self.worker_here(work, now)
        else:
            self.drops["relay_frame_kind"] += 1
        self.pump(now)

    def handle_message(self, message: Message, now: float) -> None:
        """Takes an onion or forward answer for one client; nothing else is told to the broker."""
        if not isinstance(message, RelayDeliver):
            self.drops["relay_message"] += 1
            return
        connection = self.connections.get(message.serial)
        if connection is None or connection.state != CONFIRMED:
            self.drops["relay_answer_for_nobody"] += 1
            return
        if message.frame[:1] not in (b"\x09", b"\x0b") or len(message.frame) > 2032:
            self.drops["relay_message"] += 1
            return
        self.post_data(connection, message.frame, "relay_answer_full", now)
        self.pump(now)

    def handle_worker(self, shard: int, generation: int | None, now: float) -> None:
        """Learns that a relay worker is up or gone."""
        self.door.count_room()
        work = self.works.get(shard)
        if work is None:
            work = self.works[shard] = ShardWork(shard, self.limits, self.directory)
        if work.up:
            self.worker_gone(work, now)
        if generation is not None:
            self.worker_here(work, now)
        else:
            tcp_shares.forget(self, work)
        self.pump(now)

    def handle_credit(self, shard: int, now: float) -> None:
        """Learns that a relay worker has acknowledged frames."""
        work = self.works.get(shard)
        if work is not None:
            self._pump_one(work, now)

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        if self.paused:
            return
        if self._rest.until is not None and self._rest.until <= now:
            self._on_ready(0, now)
        for work in self.works.values():
            if work.is_overdue(now):
                self.drops["relay_commit_late"] += 1
                self.worker_gone(work, now)
                self.worker_here(work, now)
        self.clocks.run(self, now)
        self.sweep.run(now)
        self._bury(now)
        self.pump(now)

    def next_timer(self) -> float | None:
        """Returns when handle_timer wants to be called next."""
        if self.paused:
            return None
        if self.sweep:
            return 0.0
        when = self.clocks.next(self)
        rest = self._rest.until
        if rest is not None and (when is None or rest < when):
            when = rest
        for work in self.works.values():
            tick = work.tick_at()
            if tick is None or (not work.flying and self.hooks.credit(work.number) <= 0):
                continue
            if when is None or tick < when:
                when = tick
        return when

    def handle_stop(self, now: float) -> None:
        """Closes listeners and connections: the node stops."""
        self.door.close()
        for connection in list(self.connections.values()):
            connection.state = CLOSED
            connection.socket.close()
        self.connections.clear()
        self._by_fd.clear()
        self.full.clear()
        self.works.clear()
        self.clocks = Clocks()
        self._rest.until = None
        self.hooks.unwatch(self.poll.fileno())
        self.poll.close()

    def snapshot(self) -> dict[str, Any]:
        """Returns counts for the operator."""
        return tcp_asked.snapshot(self)

    def follow(self, options: NodeOptions, now: float) -> None:
        """Follows settings that were changed; who is connected already stays."""
        self.bounds.follow(options)
        self.door.drain(is_shut(options), now)
        self.clocks.ending = services.RELAY in options.services_off

    def ask(self, what: str, args: dict[str, Any], now: float) -> Any:
        """Answers an operator's question."""
        return self._looks.answer(what, args, now)

    def handle_bans(self, news: News, now: float) -> None:
        """Closes the connections of those who were shut out just now."""
        self.sweep.begin(news, now)

    # Workers

    def worker_here(self, work: ShardWork, now: float) -> None:
        """Begins an epoch of a worker with the records of all that is its own."""
        self._epoch += 1
        work.begin(
            self._epoch,
            [row for row in self.connections.values() if row.shard == work.number],
            now,
        )
        for connection in self.full.values():
            work.tell(connection.serial, connection.note)

    def worker_gone(self, work: ShardWork, now: float) -> None:
        """Ends an epoch; what its worker had in hand is in doubt."""
        for connection in work.end():
            if connection.deaths >= 2:
                self.close(connection, "relay_poison", now)
        self._bury(now)

    def pump(self, now: float) -> None:
        """Gives each worker what there is for it, as far as it keeps up."""
        for work in self.works.values():
            self._pump_one(work, now)

    def _pump_one(self, work: ShardWork, now: float) -> None:
        while not (self.paused or work.held) and self.hooks.credit(work.number) > 0:
            items = work.next_input(self.read, now)
            self._bury(now)
            if items is None:
                return
            self.hooks.send_frame(work.number, RELAY_INPUT, items)

    # Sockets

    def _on_ready(self, events: int, now: float) -> None:
        """Takes what happened to the sockets, then lets the workers have it."""
        by_fd = self._by_fd
        listeners = self.door.listeners
        ready = self.poll.poll(0, _EVENTS_A_TURN)
        callers = []  # come last: a new stream may get a descriptor that has an event in `ready`
        later = 0
        for fd, mask in ready:
            connection = by_fd.get(fd)
            if connection is None:
                if fd in listeners:
                    callers.append(listeners[fd])
                continue
            try:
                later += self._on_event(connection, mask, now)
            except Exception:  # whatever a stranger's bytes bring about ends his stream, counted
                # and logged (`Bugs`), and not the streams of all others in this process
                self.broke(connection, now)
        for listener in callers:
            self.door.accept(listener, now)
        self._bury(now)
        self.pump(now)
        rested = self._rest.until is not None
        if self._rest.after(len(ready), later, self.turn_frames, now) != rested:
            self.hooks.rewatch(self.poll.fileno(), select.EPOLLIN if rested else 0)
        self.turn_frames = 0

    def _on_event(self, connection: Connection, mask: int, now: float) -> bool:
        """Takes what happened to one stream; tells whether it is nothing that anybody waits for."""
        if mask & _GONE:
            self.close(connection, "relay_gone", now)
            return False
        if mask & select.EPOLLOUT and connection.out is not None:
            self.flush(connection, now)
        if mask & select.EPOLLIN:
            connection.readable = True
            if mask & select.EPOLLRDHUP:
                connection.ended = True
            if connection.state > GREETED:
                work = self.works[connection.shard]
                if (
                    mask == select.EPOLLIN
                    and connection.ping_id is not None
                    and not self.directory.is_linked(connection.serial)
                ):  # a pong, as good as surely: nobody is linked who could wait for data
                    work.want_later(connection, now)
                    return True
                work.want(connection)
            elif connection.state == GREETING:
                self._greet(connection, now)
        return False

    def admit(self, stream: Stream, source: Endpoint, now: float) -> Connection | None:
        """Takes a new stream, which never waits, from `source`; a limit may close it at once."""
        address, prefix = ip_of(source), prefix_of(source)
        reason = self.admission.refusal(address, prefix) or self.sweep.refusal(source)
        if reason is not None:
            self.drops[reason] += 1
            stream.close()
            return None
        serial = self.serial = self.serial + 1
        connection = Connection(serial, stream, address, prefix, source, now)
        self.connections[serial] = connection
        self._by_fd[connection.fd] = connection
        self.counts["accepted"] += 1
        oldest = self.admission.add(connection)
        if oldest is not None:
            self.close(oldest, "relay_unconfirmed_oldest", now)
        self._greet(connection, now)  # the hello is mostly there, so it needs no event
        if connection.state != CLOSED:
            self.poll.register(connection.fd, EVENTS)
            self.clocks.hellos.append((now + self.limits.hello_s, serial))
        return connection

    def adopt(self, connection: Connection) -> None:
        """Goes on with a connection of the broker that was here before."""
        self.connections[connection.serial] = self._by_fd[connection.fd] = connection
        self.poll.register(connection.fd, EVENTS if connection.out is None else EVENTS_BEHIND)
        self.admission.add(connection)
        if connection.state == State.CONFIRMED:
            self.admission.confirmed(connection)
        if connection.full:
            self.full[connection.serial] = connection

    def _greet(self, connection: Connection, now: float) -> None:
        """Collects the client hello; when it is complete its key tells the shard."""
        missing = HELLO_SIZE - len(connection.rest)
        try:
            chunk = connection.socket.recv(missing)
        except BlockingIOError:
            connection.readable = False
            return
        except OSError:
            self.doomed.append((connection, "relay_gone"))
            connection.readable = False
            return
        if len(chunk) < missing:
            self._drained(connection, len(chunk))
        hello = connection.rest = bytes(connection.rest) + chunk
        if len(hello) < HELLO_SIZE:
            return
        key = hello[:32]
        table = self.hooks.slots("relay")
        shard = table.shard_of(key) if table is not None else -1
        if shard < 0:
            self.close(connection, "relay_no_shard", now)
            return
        connection.key = key
        if key in self.hooks.bans.keys:
            self.close(connection, tcp_bans.BY_KEY, now)
            return
        connection.shard = shard
        connection.state = GREETED
        connection.flying = True
        work = self.works.get(shard)
        if work is None:
            work = self.works[shard] = ShardWork(shard, self.limits, self.directory)
        work.population += 1
        work.hellos.append(connection)

    # The life of connections

    def confirm(self, connection: Connection, now: float) -> None:
        """The first good frame: the client is in the directory; an older one with its key goes."""
        older = self.directory.confirm(connection.serial, connection.key)
        if older is not None:
            self.close(self.connections[older], "relay_replaced", now)
            self.directory.confirm(connection.serial, connection.key)
        connection.state = CONFIRMED
        self.admission.confirmed(connection)
        self.clocks.pings.add(connection.serial, now + self.limits.ping_s)
        self.counts["confirmed"] += 1
        if "relay" in self.hooks.events.wanted:
            self._looks.tell("in", connection, "confirmed", now)

    def close(self, connection: Connection, reason: str, now: float) -> None:
        """Ends a connection and tells its peers; `reason` is counted."""
        if connection.state == CLOSED:
            return
        self.drops[reason] += 1
        confirmed = connection.state == CONFIRMED
        if confirmed and "relay" in self.hooks.events.wanted:
            self._looks.tell("out", connection, reason, now)
        connection.state = CLOSED
        del self.connections[connection.serial]
        del self._by_fd[connection.fd]
        self.admission.remove(connection)
        connection.socket.close()
        connection.rest = b""
        connection.inbox = connection.out = None
        connection.inbox_size = 0
        work = self.works.get(connection.shard)
        if work is not None:
            work.forget(connection)
            work.tell(connection.serial, FORGET)
        if connection.full:
            del self.full[connection.serial]
            for other in self.works.values():
                if other is not work:
                    other.tell(connection.serial, ROOM)
        if confirmed:
            self.relink(connection, self.directory.remove(connection.serial), reason, now)

    def relink(
        self, connection: Connection, notices: list[Notice], why: str, now: float
    ) -> None:
        """Tells clients what a connection changed in the directory, and operators which of its
        links have come up or gone by it."""
        if notices and "link" in self.hooks.events.wanted:
            self._looks.tell_links(connection, notices, why)
        self.post(notices, now)

    def broke(self, connection: Connection, now: float) -> None:
        """Ends the connection over which the exception came that is being handled."""
        self.bugs.contain(now)
        self.close(connection, "relay_bug_closed", now)

    def doom(self, connection: Connection, reason: str) -> None:
        """Closes a connection as soon as what is being done with it is done."""
        self.doomed.append((connection, reason))

    def _bury(self, now: float) -> None:
        while self.doomed:
            self.close(*self.doomed.popleft(), now)
