"""File transfers: 256 each way with each friend, as fast as their sessions have room."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Protocol

from core.crypto import PublicKey
from core.messenger.errors import BadValue, QueueFull, TransferRefused, UnknownTransfer
from core.messenger.events import (
    Control,
    Event,
    FileChunk,
    FileChunkWanted,
    FileControlled,
    FileEnded,
    FileOffer,
    Outcome,
)
from core.messenger.numbers import reached
from core.messenger.transfer import (
    FLOWING,
    INCOMING,
    PIECE_PACKETS,
    Incoming,
    Outgoing,
    State,
    Transfer,
    Who,
)
from core.packets.messenger import (
    MAX_FILE_NAME_SIZE,
    UNKNOWN_SIZE,
    FileControl,
    FileData,
    FileRequest,
    FileSeek,
)
from core.timers import Timers

AGAIN_S = 0.02  # ours: when the session has no room, and acknowledgements do not tell of any
MOST_TRANSFERS = 256  # c-toxcore Messenger.h: MAX_CONCURRENT_FILE_PIPES, each way
_NUMBER_BYTE = itemgetter(slice(1, 2))  # of a packet of file data; empty where it has none
_SENDING, _RECEIVING = 0, 1  # the direction in a control packet, as its sender sees it


class FileLink(Protocol):
    """The sessions with friends."""

    def send(self, real_key: PublicKey, data: bytes, now: float) -> int | None:
        """Sends lossless data; its packet number, or None: the queue is full."""
        ...

    def room(self, real_key: PublicKey) -> int:
        """How many packets of bulk data would be taken now."""
        ...


class TransferStatus(NamedTuple):
    """A file transfer as an operator sees it."""

    number: int
    kind: int
    size: int | None
    position: int
    state: State


class _Files:
    """The transfers with one friend."""

    __slots__ = ("finishing", "friend", "incoming", "next_number", "outgoing", "pumping", "served")

    def __init__(self, friend: PublicKey) -> None:
        self.friend = friend
        self.outgoing: dict[int, Outgoing] = {}
        self.incoming: dict[int, Incoming] = {}
        self.finishing: list[Outgoing] = []
        self.next_number = 0
        self.pumping = False
        self.served = 0
        """The number of the file that was sent of last: the next one is first."""

    def all(self) -> list[Transfer]:
        """Returns the transfers of both directions."""
        return [*self.outgoing.values(), *self.incoming.values()]


class Files:
    """All file transfers of an identity."""

    def __init__(
        self, link: FileLink, tell: Callable[[Event, float], None], drops: Counter[str]
    ) -> None:
        self._link, self._tell, self._drops = link, tell, drops
        self._friends: dict[PublicKey, _Files] = {}
        self.timers: Timers[PublicKey] = Timers()
        """When it is to be looked for room again."""

    # Commands: the caller has seen to it that the friend is online

    def offer(
        self,
        friend: PublicKey,
        kind: int,
        size: int | None,
        file_id: bytes,
        name: bytes,
        now: float,
        source: bytes | None = None,
    ) -> int:
        """Offers a file; returns the transfer's number. With `source`, the whole file, nobody is
        asked for its pieces. Raises BadValue, QueueFull, TransferRefused."""
        if len(name) > MAX_FILE_NAME_SIZE:
            raise BadValue(f"a file name of {len(name)} bytes, more than {MAX_FILE_NAME_SIZE}")
        if size is not None and not 0 <= size < UNKNOWN_SIZE:
            raise BadValue(f"a file of {size} bytes")
        if len(file_id) != 32 or not 0 <= kind < 1 << 32:
            raise BadValue("a file id has 32 bytes, and a kind is a number of 32 bits")
        files = self._friends.get(friend) or _Files(friend)
        if len(files.outgoing) == MOST_TRANSFERS:
            raise TransferRefused(f"{MOST_TRANSFERS} files are being sent to this friend")
        number = files.next_number
        while number in files.outgoing:
            number = (number + 1) % MOST_TRANSFERS
        wire_size = UNKNOWN_SIZE if size is None else size
        self._send(friend, FileRequest(number, kind, wire_size, file_id, name).encode(), now)
        # not the lowest free one: the friend's last word on the transfer before may be on its way
        files.next_number = (number + 1) % MOST_TRANSFERS
        files.outgoing[number] = Outgoing(number, kind, size, file_id, source)
        self._friends[friend] = files
        return number

    def control(self, friend: PublicKey, number: int, control: Control, now: float) -> None:
        """Accepts, resumes, pauses or ends a transfer. Raises TransferRefused, QueueFull."""
        files, transfer = self._find(friend, number)
        state = transfer.moved(Who.WE, control)
        if state is None and control is not Control.CANCEL:
            raise TransferRefused(transfer.why_not(control))
        direction = _SENDING if number < INCOMING else _RECEIVING
        packet = FileControl(direction, transfer.wire_number, int(control)).encode()
        self._send(friend, packet, now)
        if state is None:
            self._end(files, transfer, Outcome.WITHDRAWN, now)
            return
        transfer.state = state
        self._pump(files, now)

    def seek(self, friend: PublicKey, number: int, position: int, now: float) -> None:
        """Has a file that is offered to us begin at `position`. Raises TransferRefused, BadValue,
        QueueFull."""
        _, transfer = self._find(friend, number)
        if not 0 <= position < transfer.end:
            raise BadValue(f"position {position} of a file of {transfer.size} bytes")
        if not transfer.may_seek(Who.WE, position):
            raise TransferRefused("only who receives may seek, and only before accepting")
        packet = FileSeek(_RECEIVING, transfer.wire_number, position).encode()
        self._send(friend, packet, now)
        transfer.position = position

    def chunk(self, friend: PublicKey, number: int, position: int, data: bytes, now: float) -> None:
        """Takes a piece that FileChunkWanted asked for. Raises TransferRefused, BadValue."""
        files, transfer = self._find(friend, number)
        if not isinstance(transfer, Outgoing) or transfer.state not in FLOWING:
            raise TransferRefused("it takes no data")
        if not transfer.asked:
            raise TransferRefused("no data is wanted now")
        if position != transfer.given:
            raise BadValue(f"data for position {position}, and {transfer.given} is wanted")
        if len(data) > transfer.asked:
            raise BadValue(f"{len(data)} bytes, and {transfer.asked} are wanted")
        if not data and transfer.size is not None:
            raise BadValue("no data end only a stream")
        transfer.give(data)
        self._pump(files, now)

    def transfers(self, friend: PublicKey) -> list[TransferStatus]:
        """Returns what goes on with a friend."""
        files = self._friends.get(friend)
        return [
            TransferStatus(one.number, one.kind, one.size, one.position, one.state)
            for one in (files.all() if files is not None else ())
        ]

    def break_all(self, friend: PublicKey, now: float) -> None:
        """Ends all transfers with a friend whose session is down."""
        files = self._friends.pop(friend, None)
        if files is None:
            return
        self.timers.stop(friend)
        everything = files.all()
        files.outgoing.clear()
        files.incoming.clear()
        files.finishing.clear()
        for one in everything:
            self._tell(FileEnded(friend, one.number, Outcome.BROKEN, one.position), now)

    # What the friend sends

    def handle_request(self, friend: PublicKey, data: bytes, now: float) -> None:
        """Takes a file request."""
        request = FileRequest.decode(data)
        files = self._friends.get(friend)
        if files is None:
            files = self._friends[friend] = _Files(friend)
        number = request.number + INCOMING
        if number in files.incoming:
            self._drops["messenger_file_number"] += 1
            return
        size = None if request.size == UNKNOWN_SIZE else request.size
        kind, file_id = request.file_kind, request.file_id
        files.incoming[number] = Incoming(number, kind, size, file_id)
        self._tell(FileOffer(friend, number, kind, size, file_id, request.name), now)

    def handle_control(self, friend: PublicKey, data: bytes, now: float) -> None:
        """Takes a file control or seek packet."""
        packet: FileControl | FileSeek
        packet = FileControl.decode(data) if len(data) == FileControl.MAX_SIZE else (
            FileSeek.decode(data)
        )  # fmt: skip
        files = self._friends.get(friend)
        transfer: Transfer | None = None
        if files is not None:
            transfer = (
                files.incoming.get(packet.number + INCOMING)
                if packet.direction == _SENDING
                else files.outgoing.get(packet.number)
            )
        if files is None or transfer is None:
            self._drops["messenger_file_unknown"] += 1
            # c-toxcore answers a cancel by a cancel too, and two of them go on for ever
            if packet.control != Control.CANCEL:
                answer = FileControl(1 - packet.direction, packet.number, int(Control.CANCEL))
                self._link.send(friend, answer.encode(), now)
        elif isinstance(packet, FileSeek):
            if isinstance(transfer, Outgoing) and transfer.may_seek(Who.THEY, packet.position):
                transfer.seek(packet.position)
            else:
                self._drops["messenger_file_seek"] += 1
        else:
            self._controlled(files, transfer, Control(packet.control), now)

    def _controlled(self, files: _Files, transfer: Transfer, control: Control, now: float) -> None:
        if control is Control.CANCEL:
            self._end(files, transfer, Outcome.CANCELLED, now)
            return
        state = transfer.moved(Who.THEY, control)
        if state is None:
            self._drops["messenger_file_control"] += 1
            return
        transfer.state = state
        self._tell(FileControlled(files.friend, transfer.number, control), now)
        self._pump(files, now)

    def handle_data(self, friend: PublicKey, packets: Sequence[bytes], now: float) -> None:
        """Takes packets of file data that came together: what they bring of one file is one event,
        of at most 64,437 bytes."""
        for first in range(0, len(packets), PIECE_PACKETS):
            some = packets[first : first + PIECE_PACKETS]
            for number, together in groupby(some, _NUMBER_BYTE):
                self._take_data(friend, number, list(together), now)

    def _take_data(
        self, friend: PublicKey, number_byte: bytes, packets: list[bytes], now: float
    ) -> None:
        files = self._friends.get(friend)
        number = number_byte[0] + INCOMING if number_byte else -1
        transfer = files.incoming.get(number) if files is not None else None
        if files is None or transfer is None or transfer.state is State.OFFERED:
            # Not answered, as by c-toxcore: after a cancel of ours much more is on its way.
            self._drops["messenger_file_data"] += len(packets)
            return
        position = transfer.position
        part, left = transfer.take([data[2:] for data in packets])
        if left is None:
            self._tell(FileChunk(friend, number, position, part), now)
            return
        if left:
            self._drops["messenger_file_data"] += left
        self._forget(files, transfer)
        if part:
            self._tell(FileChunk(friend, number, position, part), now)
        whole = transfer.size is None or transfer.position >= transfer.size
        outcome = Outcome.COMPLETE if whole else Outcome.SHORT
        self._tell(FileEnded(friend, number, outcome, transfer.position), now)

    def acknowledged(self, friend: PublicKey, number: int, now: float) -> None:
        """The friend has all packets up to this number: files may have arrived, and there may be
        room for more."""
        files = self._friends.get(friend)
        if files is None:
            return
        for transfer in [one for one in files.finishing if reached(number, one.last_packet)]:
            if files.outgoing.get(transfer.number) is transfer:
                self._end(files, transfer, Outcome.COMPLETE, now)
        if files.outgoing:
            self._pump(files, now)

    # Time

    def handle_timer(self, now: float) -> None:
        """Sends what there is room for."""
        for friend in self.timers.expired(now):
            files = self._friends.get(friend)
            if files is not None:
                self._pump(files, now)

    # Sending

    def _pump(self, files: _Files, now: float) -> None:
        """Asks for pieces, and sends as many packets as there is room for, fairly to all files."""
        if files.pumping:
            return  # a piece that was given at once when it was asked for
        files.pumping = True
        try:
            budget = self._link.room(files.friend)
            while True:
                given = self._ask(files, now)
                ready = [
                    one
                    for one in files.outgoing.values()
                    if one.state is State.RUNNING and one.has_packet()
                ]
                if budget <= 0 or not (ready or given):
                    break
                budget = self._send_round(files, ready, budget, now)
        finally:
            files.pumping = False
        if ready and files.friend not in self.timers:
            self.timers.set(files.friend, now + AGAIN_S)

    def _ask(self, files: _Files, now: float) -> bool:
        """Asks for what is wanted; tells whether some of it was given at once."""
        given = False
        running = [one for one in files.outgoing.values() if one.state is State.RUNNING]
        packets = max(1, PIECE_PACKETS // len(running)) if running else 0
        for one in running:
            size = one.want(packets)
            if not size or files.outgoing.get(one.number) is not one:
                continue
            position = one.given
            if one.source is not None:
                one.give(one.source[position : position + size])
            else:
                one.asked = size
                self._tell(FileChunkWanted(files.friend, one.number, position, size), now)
            given |= not one.asked
        return given

    def _send_round(self, files: _Files, ready: list[Outgoing], budget: int, now: float) -> int:
        """Sends an equal share of each file's packets; returns what is left of the budget."""
        share = max(1, budget // max(1, len(ready)))
        ready.sort(key=lambda one: (one.number <= files.served, one.number))
        for transfer in ready:
            if budget <= 0:
                break
            files.served = transfer.number
            head = bytes((FileData.kind, transfer.number))
            for _ in range(min(share, budget)):
                if not transfer.has_packet():
                    break
                data = transfer.next_packet()
                number = self._link.send(files.friend, head + data, now)
                if number is None:
                    return 0  # no room after all
                budget -= 1
                if transfer.sent(len(data)):
                    transfer.state = State.FINISHING
                    transfer.last_packet = number
                    files.finishing.append(transfer)
                    break
        return budget

    def _send(self, friend: PublicKey, packet: bytes, now: float) -> None:
        if self._link.send(friend, packet, now) is None:
            raise QueueFull("too much waits to be sent to this friend")

    # Transfers

    def _find(self, friend: PublicKey, number: int) -> tuple[_Files, Transfer]:
        files = self._friends.get(friend)
        transfer: Transfer | None = None
        if files is not None:
            transfer = files.outgoing.get(number) or files.incoming.get(number)
        if files is None or transfer is None:
            raise UnknownTransfer(f"no transfer {number} with this friend")
        return files, transfer

    def _end(self, files: _Files, transfer: Transfer, outcome: Outcome, now: float) -> None:
        self._forget(files, transfer)
        self._tell(FileEnded(files.friend, transfer.number, outcome, transfer.position), now)

    def _forget(self, files: _Files, transfer: Transfer) -> None:
        if isinstance(transfer, Outgoing):
            files.outgoing.pop(transfer.number, None)
            files.finishing = [one for one in files.finishing if one is not transfer]
        else:
            files.incoming.pop(transfer.number, None)
