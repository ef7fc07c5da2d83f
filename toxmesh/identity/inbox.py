"""What has happened and was not taken yet: events in order, messages among them on disk."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from core.crypto import PublicKey
from core.messenger.events import FriendRequest, Message, MessageKind
from toxmesh.identity.host import AnyEvent
from toxmesh.identity.mailbox import Mailbox, MailboxFull

MOST_EVENTS = 10_000
"""Events beside messages that wait to be taken; what comes beyond them is lost and counted."""
MOST_REQUESTS = 256
"""Friend requests among them, one of each who asks: strangers crowd out nothing that friends do."""


@dataclass(frozen=True, slots=True)
class EventsLost:
    """So many events were dropped, because nobody took them."""

    count: int


@dataclass(frozen=True, slots=True)
class StoredMessage(Message):
    """A message, and when it came; it is kept until the next event is taken."""

    received: float
    """Unix seconds."""
    number: int
    """By which `Identity.send` knows what it `answers`."""


class Inbox:
    """The events of one identity."""

    def __init__(self) -> None:
        self._mailbox: Mailbox | None = None
        # Lists and dicts: an empty deque has 760 bytes and an empty set 230, in each identity.
        self._events: list[AnyEvent] = []
        self._plain = 0  # events that are no messages
        self._asking: dict[PublicKey, None] = {}  # whose requests wait
        self._lost = 0
        self._at = 0  # the number of the message that was taken last
        self._answered: dict[int, None] = {}  # that one, or messages behind it
        self._came: asyncio.Event | None = None  # of who waits for the next one
        self._open = False

    def open(self, mailbox: Mailbox) -> None:
        """Begins with the messages that nobody took the last time. Raises MailboxError."""
        self._mailbox = mailbox
        self._open = True
        for row in mailbox.received():
            kind, friend = MessageKind(row.kind), PublicKey(row.friend)
            self._events.append(StoredMessage(friend, kind, row.text, row.received, row.id))

    def close(self) -> None:
        """Nothing comes any more: `take` ends when all is taken."""
        self._open = False
        self._mailbox = None
        self._wake()

    def _wake(self) -> None:
        if self._came is not None:
            self._came.set()
            self._came = None

    def put(self, event: AnyEvent) -> None:
        """Keeps an event; of too many the oldest stay."""
        full = self._plain >= MOST_EVENTS
        if isinstance(event, FriendRequest):
            if event.friend in self._asking:
                return
            full = full or len(self._asking) >= MOST_REQUESTS
        if full:
            self._lost += 1
            return
        self._note(event)
        self._events.append(event)
        self._wake()

    def _note(self, event: AnyEvent) -> None:
        self._plain += 1
        if isinstance(event, FriendRequest):
            self._asking[event.friend] = None

    def put_message(self, friend: PublicKey, kind: MessageKind, raw: bytes, at: float) -> None:
        """Keeps a message, on disk first; `at` is in Unix seconds. Raises MailboxError where the
        disk does not take it."""
        if self._mailbox is None:
            return
        try:
            number = self._mailbox.receive(friend, kind, raw, at)
        except MailboxFull:
            self._lost += 1
            return
        self._mailbox.then(partial(self._kept, StoredMessage(friend, kind, raw, at, number)))

    def _kept(self, message: StoredMessage) -> None:
        self._events.append(message)
        self._wake()

    def give_back(self, event: AnyEvent) -> None:
        """Takes back what was taken and not done with: it is the next one again."""
        if isinstance(event, StoredMessage):
            if self.is_answered(event.number):
                self._answered.pop(event.number, None)
                return
        else:
            self._note(event)
        self._events.insert(0, event)
        self._wake()

    def answer(self, number: int) -> None:
        """Forgets a message that is done with, if what is kept together with that stands on disk:
        it is not given to anybody who takes events later."""
        if self._mailbox is not None:
            self._mailbox.taken(number)
            if number >= self._at:
                self._mailbox.then(partial(self._done_with, number))

    def _done_with(self, number: int) -> None:
        self._answered[number] = None

    def is_answered(self, number: int) -> bool:
        """Tells whether a message that was taken last is done with."""
        return number in self._answered

    async def take(self) -> AsyncIterator[AnyEvent | EventsLost]:
        """Yields what happens, until it is closed; see `Identity.events`."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if not isinstance(event, StoredMessage):
                    self._plain -= 1
                    if isinstance(event, FriendRequest):
                        self._asking.pop(event.friend, None)
                    yield event
                    continue
                self._at = event.number
                if not self.is_answered(event.number):
                    yield event
                if not self.is_answered(event.number) and self._mailbox is not None:
                    self._mailbox.taken(event.number)
                self._answered.pop(event.number, None)
            if self._lost:
                lost, self._lost = self._lost, 0
                yield EventsLost(lost)
                continue
            if not self._open:
                return
            self._came = self._came or asyncio.Event()
            await self._came.wait()
