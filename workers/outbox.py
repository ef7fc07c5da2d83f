"""Where a worker's modules put their effects: straight into send slots, and into mailboxes."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from core.link.frames import Mailbox
from core.link.mmsg import Sender, name_size, sender
from core.messages import (
    MESSAGE_NUMBERS,
    MESSAGE_TYPES,
    AnnounceAsked,
    DataAsked,
    Message,
)
from core.module import LocalError
from core.slots import SlotTable

BROKER = ("broker", 0)


class WorkerOutbox:
    """The outbox of one worker: datagrams leave by sendmmsg, messages in frames at a turn's end."""

    def __init__(
        self,
        role: str,
        shard: int,
        sockets: list[tuple[int, int]],
        slots: dict[str, SlotTable],
    ) -> None:
        """`sockets`: descriptor and address family of each; `slots` is kept up to date."""
        self.drops: Counter[str] = Counter()
        self.kinds_sent = [0] * 256
        self.own: deque[tuple[int, Message]] = deque()  # origin, message to this worker itself
        self.mailboxes: dict[tuple[str, int], Mailbox] = {}
        self.on_stir: Callable[[], None] | None = None  # of a host that does not only take turns
        self._own_name = (role, shard)
        self._slots = slots
        self.senders: list[Sender] = [sender(fd, family, self.drops) for fd, family in sockets]
        self._sizes = [name_size(family) for _, family in sockets]
        self._by_size: dict[int, Sender] = {}
        for size, row in zip(self._sizes, self.senders, strict=True):
            self._by_size.setdefault(size, row)  # the first socket of a family is its default
        self._origins = [
            -1 if row is self._by_size[size] else index
            for index, (size, row) in enumerate(zip(self._sizes, self.senders, strict=True))
        ]
        self._origin = -1
        self._current: Sender | None = None
        self._current_size = 0

    def begin(self, socket: int) -> None:
        """Makes answers leave through the socket with this index; -1: each family's default."""
        if 0 <= socket < len(self.senders):
            self._current = self.senders[socket]
            self._current_size = self._sizes[socket]
            self._origin = self._origins[socket]
        else:
            self._current = None
            self._current_size = 0
            self._origin = -1

    def send(self, endpoint: bytes, packet: bytes) -> None:
        """Puts a datagram into a send slot."""
        size = len(endpoint)
        row = self._current if size == self._current_size else self._by_size.get(size)
        if row is None:
            self.drops["no_socket_for_family"] += 1
            return
        self.kinds_sent[packet[0]] += 1
        row.send(endpoint, packet)

    def flush(self) -> None:
        """Lets all datagrams leave."""
        for row in self.senders:
            row.flush()

    def tell(self, role: str, key: bytes, message: Message) -> None:
        """Tells the shard of `role` that owns `key`."""
        if role == "broker":
            self._put(BROKER, message)
            return
        table = self._slots.get(role)
        if table is None:
            self.drops[f"told_nobody:{role}"] += 1
            return
        self._put((role, table.shard_of(key)), message)

    def tell_shard(self, role: str, shard: int, message: Message) -> None:
        """Tells one shard by number; one that is up but has no slots yet asks for things, too."""
        table = self._slots.get(role)
        box = self.mailboxes.get((role, shard))
        up = box is not None and box.outlet is not None
        if role != "broker" and not up and (table is None or shard not in table.shards):
            self.drops[f"told_nobody:{role}"] += 1
            return
        self._put((role, shard), message)

    def tell_all(self, role: str, message: Message) -> None:
        """Tells every shard of `role` but this worker itself."""
        for name in self._shards(role):
            if name != self._own_name:
                self._put(name, message)

    def _shards(self, role: str) -> Iterator[tuple[str, int]]:
        table = self._slots.get(role)
        if table is not None:
            for shard in sorted(set(table.shards)):
                yield role, shard

    def sort_again(self) -> None:
        """Gives what waits for a shard to the owner of its key, after the slot tables changed."""
        for name, box in list(self.mailboxes.items()):
            table = self._slots.get(name[0])
            if table is None:
                continue
            for origin, number, fields in box.withdraw():
                message = MESSAGE_TYPES[number](*fields)
                key = message.subject if isinstance(message, AnnounceAsked | DataAsked) else None
                owner = name if key is None else (name[0], table.shard_of(key))
                if owner[1] not in table.shards:
                    continue  # it concerns nobody but the one that leaves
                if owner == self._own_name:
                    self.own.append((origin, message))
                else:
                    self.mailbox(owner).put(number, message, origin)

    def mailbox(self, name: tuple[str, int]) -> Mailbox:
        """Returns the mailbox of a role and shard."""
        box = self.mailboxes.get(name)
        if box is None:
            box = self.mailboxes[name] = Mailbox(name[0], self.drops)
        return box

    def _put(self, name: tuple[str, int], message: Message) -> None:
        number = MESSAGE_NUMBERS.get(type(message))
        if number is None:
            raise LocalError(f"{type(message).__name__} is no registered message")
        if name == self._own_name:
            self.own.append((self._origin, message))
        else:
            self.mailbox(name).put(number, message, self._origin)

    def send_frame(self, kind: int, items: Sequence[Any]) -> None:
        """Sends a frame of kinds 10-19 to the broker."""
        self.mailbox(BROKER).put_frame(kind, items)

    def generation(self, role: str, shard: int) -> int | None:
        """Returns which incarnation of a shard is told what it is told now; None: nobody is up."""
        box = self.mailboxes.get((role, shard))
        return None if box is None or box.outlet is None else box.outlet.generation

    def stir(self) -> None:
        """Lets the host take a turn, for what was told or is due without one."""
        if self.on_stir is not None:
            self.on_stir()

    def pump(self, now: float) -> None:
        """Sends what was told, as far as the receivers keep up."""
        for box in self.mailboxes.values():
            if len(box):
                box.pump(now)

    @property
    def due(self) -> float | None:
        """When what was told should be sent, or None if nothing waits for its time."""
        times = [due for box in self.mailboxes.values() if (due := box.due) is not None]
        return min(times, default=None)

    @property
    def congested(self) -> bool:
        """Whether some receiver is behind so far that less should be taken in."""
        return any(box.congested for box in self.mailboxes.values() if box.outlet is not None)

    @property
    def idle(self) -> bool:
        """Whether everything that was told has arrived, or has nobody to arrive at."""
        return not self.own and all(
            box.idle for box in self.mailboxes.values() if box.outlet is not None
        )
