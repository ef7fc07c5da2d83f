"""What the messenger keeps of one friend."""

from collections import deque
from enum import IntFlag
from typing import NamedTuple

from core.crypto import PublicKey
from core.messenger.events import Connection
from core.messenger.numbers import reached
from core.savedata.profile import FriendState, SavedFriend, UserStatus


class Unsent(IntFlag):
    """What of us the friend has to be told yet."""

    NAME = 1
    STATUS_MESSAGE = 2
    STATUS = 4
    TYPING = 8
    ALL = 15


class FriendView(NamedTuple):
    """A friend as callers see it."""

    saved: SavedFriend
    connection: Connection
    typing: bool


class Friend:
    """One friend. `Messenger` does everything with it."""

    __slots__ = (
        "_message",
        "_receipts",
        "direct",
        "key",
        "last_seen",
        "name",
        "nospam",
        "online",
        "our_typing",
        "request_text",
        "state",
        "status",
        "status_message",
        "typing",
        "unsent",
    )

    def __init__(self, saved: SavedFriend) -> None:
        self.key: PublicKey = saved.key
        self.state = saved.state
        self.name = saved.name
        self.status_message = saved.status_message
        self.status: UserStatus = saved.status
        self.nospam = saved.nospam
        self.request_text = saved.request_text
        self.last_seen = saved.last_seen
        self.online = False
        """Whether it has said that we are in its friend list, in the session that is up."""
        self.direct = False
        self.typing = False
        self.our_typing = False
        self.unsent = Unsent(0)
        self._message = 0
        self._receipts: deque[tuple[int, int]] | None = None  # where nothing was written

    def saved(self) -> SavedFriend:
        """Returns what outlives the process."""
        return SavedFriend(
            key=self.key,
            state=self.state,
            name=self.name,
            status_message=self.status_message,
            status=self.status,
            nospam=self.nospam,
            request_text=self.request_text,
            last_seen=self.last_seen,
        )

    def message_sent(self, packet: int) -> int:
        """Notes the packet number of a message; returns the message's own number."""
        self._message = (self._message + 1) & 0xFFFFFFFF
        if self._receipts is None:
            self._receipts = deque()
        self._receipts.append((packet, self._message))
        return self._message

    def received(self, number: int) -> list[int]:
        """Returns the messages that the friend has, now that it has all packets up to this one."""
        messages = []
        while self._receipts and reached(number, self._receipts[0][0]):
            messages.append(self._receipts.popleft()[1])
        return messages

    def drop_receipts(self) -> tuple[int, ...]:
        """Returns the messages whose receipts have not come, and waits for them no more."""
        messages = tuple(message for _, message in self._receipts or ())
        self._receipts = None
        return messages

    def confirm(self) -> None:
        """The friend has us in its list: there is nothing to request."""
        self.state = FriendState.CONFIRMED
        self.request_text = b""
