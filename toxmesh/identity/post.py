"""Messages on their way out: on disk until their receipts, and a few of them in flight."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from core.crypto import PublicKey
from core.messenger.errors import MessengerError, UnknownFriend
from core.messenger.events import MessageKind
from core.packets.messenger import MAX_MESSAGE_SIZE
from toxmesh.identity.mailbox import Mailbox, MailboxError

log = logging.getLogger("toxmesh.identity")

_IN_FLIGHT = 64  # messages to a friend without a receipt, at most: the others wait on disk

Deliver = Callable[[PublicKey, MessageKind, bytes, int], int]
"""Hands a text and its letter, our own number of it, to the messenger; returns the messenger's
number. Raises MessengerError."""


class Sent:
    """A message on its way. It is kept until its receipt, over restarts too."""

    __slots__ = ("_delivered", "id")

    def __init__(self, number: int) -> None:
        self.id = number
        self._delivered = asyncio.get_running_loop().create_future()

    async def delivered(self) -> None:
        """Waits until the friend's process has the message. Raises UnknownFriend where that was
        removed before."""
        await asyncio.shield(self._delivered)

    @property
    def done(self) -> bool:
        """Whether it has arrived."""
        return self._delivered.done() and self._delivered.exception() is None

    def gave_up(self) -> None:
        """It is sent no more."""
        if not self._delivered.done():
            self._delivered.set_exception(UnknownFriend("the friend was removed before"))
            self._delivered.exception()  # it need not be that anybody waits

    def arrived(self) -> None:
        """Its receipt has come."""
        if not self._delivered.done():
            self._delivered.set_result(None)


class _Way:
    """What is on its way to one friend, in this session. Numbers of ours grow in the order in which
    messages leave, so that a receipt for one is a receipt for all before it."""

    __slots__ = ("acked", "flying", "last", "letters", "settles")

    def __init__(self) -> None:
        self.acked = 0  # the friend has all of ours up to this one
        self.settles = False  # what that means is done at the end of the turn
        self.flying: list[int] = []  # ours, in order: at most as many as may be in flight
        self.letters: dict[int, int] = {}  # by the messenger's number: ours
        self.last = 0  # the greatest number of ours that was handed over


class Post:
    """All messages of one identity that have no receipt yet."""

    def __init__(self, mailbox: Mailbox, deliver: Deliver) -> None:
        self._mailbox = mailbox
        self._deliver = deliver
        self._ways: dict[PublicKey, _Way] = {}  # of friends that are online
        self._sent: dict[int, Sent] = {}

    def send(self, friend: PublicKey, kind: MessageKind, raw: bytes) -> Sent:
        """Keeps a text, in parts if it is long, all or none of them, and sends it when it can be;
        returns the last part.

        Raises MailboxError."""
        if len(raw) <= MAX_MESSAGE_SIZE:
            return self._keep(friend, kind, (raw,))
        with self._mailbox.together():
            return self._keep(friend, kind, cut(raw))

    def _keep(self, friend: PublicKey, kind: MessageKind, parts: Iterable[bytes]) -> Sent:
        number = 0
        for part in parts:
            number = self._mailbox.put(friend, kind, part)
        sent = Sent(number)
        self._mailbox.then(partial(self._kept, friend, sent))
        return sent

    def _kept(self, friend: PublicKey, sent: Sent) -> None:
        self._sent[sent.id] = sent
        self.pump(friend)

    def sent(self, number: int) -> Sent:
        """Returns a message that was sent by this process or by one before, by its number."""
        found = self._sent.get(number)
        if found is None:
            found = Sent(number)
            if self._mailbox.has(number):
                self._sent[number] = found
            else:
                found.arrived()
        return found

    def forget(self, friend: PublicKey) -> None:
        """Gives up what was to be sent to somebody who is no friend any more."""
        self._settle(friend)
        self._ways.pop(friend, None)
        for number in self._mailbox.forget(friend):
            sent = self._sent.pop(number, None)
            if sent is not None:
                sent.gave_up()

    def online(self, friend: PublicKey, online: bool) -> None:
        """A friend has come or gone. Whatever has no receipt by then is sent again next time."""
        if not online:
            self._settle(friend)
            self._ways.pop(friend, None)
            return
        self._settle_soon(friend, self._ways.setdefault(friend, _Way()))

    def resume(
        self, friend: PublicKey, taken: int, acked: int, flying: Sequence[tuple[int, int]]
    ) -> None:
        """Goes on in a session of an earlier process, which had handed over all up to `taken`; the
        friend has all up to `acked`, and `flying` are those between: the messenger's number of
        each, and ours. To be told before the friend is online here."""
        way = self._ways[friend] = _Way()
        way.last = taken
        way.letters.update(flying)
        way.flying.extend(letter for _, letter in flying)
        self.arrived(friend, acked)

    def receipt(self, friend: PublicKey, number: int) -> None:
        """A message has arrived; `number` is the messenger's."""
        way = self._ways.get(friend)
        letter = None if way is None else way.letters.pop(number, None)
        if letter is not None:
            self.arrived(friend, letter)

    def arrived(self, friend: PublicKey, upto: int) -> None:
        """The friend has all messages up to this one of ours that were handed over."""
        way = self._ways.get(friend)
        if way is not None:
            way.acked = max(way.acked, min(upto, way.last))
            self._settle_soon(friend, way)

    def _settle_soon(self, friend: PublicKey, way: _Way) -> None:
        """Receipts come many at once: what they mean is done once, at the end of the turn."""
        if not way.settles:
            way.settles = True
            asyncio.get_running_loop().call_soon(self._settle_and_pump, friend)

    def _settle_and_pump(self, friend: PublicKey) -> None:
        self._settle(friend)
        self.pump(friend)

    def _settle(self, friend: PublicKey) -> None:
        """Forgets what has arrived, and tells who waits for that."""
        way = self._ways.get(friend)
        if way is None:
            return
        way.settles = False
        if way.acked:
            try:
                self._mailbox.delivered(friend, way.acked)
            except MailboxError as error:
                log.error("messages will come twice: %s", error)
                return
        while way.flying and way.flying[0] <= way.acked:
            sent = self._sent.pop(way.flying.pop(0), None)
            if sent is not None:
                sent.arrived()
        way.acked = 0

    def pump(self, friend: PublicKey) -> None:
        """Hands over what waits for a friend that is online, as much as may be in flight."""
        way = self._ways.get(friend)
        room = 0 if way is None else _IN_FLIGHT - len(way.flying)
        if way is None or room <= 0:
            return
        try:
            rows = self._mailbox.waiting(friend, way.last, room)
        except MailboxError as error:
            log.error("%s", error)
            return
        for row in rows:
            try:
                number = self._deliver(friend, MessageKind(row.kind), row.text, row.id)
            except MessengerError:
                return  # no room now, or gone: the next receipt or the next coming tries again
            way.letters[number] = row.id
            way.flying.append(row.id)
            way.last = row.id

    def close(self) -> None:
        """Hands over nothing more."""
        for friend in tuple(self._ways):
            self._settle(friend)
        self._ways.clear()


def cut(raw: bytes) -> Iterator[bytes]:
    """Yields parts that fit into a message, cut behind white space or at least between letters."""
    while len(raw) > MAX_MESSAGE_SIZE:
        end = MAX_MESSAGE_SIZE
        while end > 0 and raw[end] & 0xC0 == 0x80:  # within a letter
            end -= 1
        end = end or MAX_MESSAGE_SIZE
        space = max(raw.rfind(b" ", 0, end), raw.rfind(b"\n", 0, end)) + 1
        if space > end // 2:
            end = space
        yield raw[:end]
        raw = raw[end:]
    if raw:
        yield raw
