"""What the messenger tells: one class for each thing that happens.

Texts come as the bytes that the friend sent, `raw`; beside them stands the text that people read,
in which bytes that are no UTF-8 show as U+FFFD.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum

from core.crypto import PublicKey
from core.savedata.profile import UserStatus


def _read(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


class Connection(Enum):
    """How a friend is reached."""

    NONE = "none"
    RELAY = "relay"
    """TCP relays carry the session."""
    DIRECT = "direct"
    """UDP carries it."""


class MessageKind(IntEnum):
    """What a text is.  Spec: MESSAGE, ACTION."""

    NORMAL = 0
    ACTION = 1


class FileKind(IntEnum):
    """What a file is for.  c-toxcore tox.h: Tox_File_Kind; any other number may come as well."""

    DATA = 0
    AVATAR = 1


class Control(IntEnum):
    """What is done with a file transfer.  Spec: FILE_CONTROL."""

    RESUME = 0
    """Accepts an offer, too."""
    PAUSE = 1
    CANCEL = 2


class Outcome(Enum):
    """How a file transfer ended."""

    COMPLETE = "complete"
    """All has been received; of a file of ours: the friend's process has all of it."""
    SHORT = "short"
    """The sender ended it before the size that it had named."""
    CANCELLED = "cancelled"
    """The friend ended it."""
    WITHDRAWN = "withdrawn"
    """We ended it."""
    BROKEN = "broken"
    """The session went down. It may be offered again under its file id."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""


@dataclass(frozen=True, slots=True)
class FriendEvent(Event):
    """Something that happened with a friend."""

    friend: PublicKey


@dataclass(frozen=True, slots=True)
class FriendRequest(FriendEvent):
    """Somebody who is no friend wants to become one: `add_friend_by_key` says yes."""

    raw: bytes

    @property
    def text(self) -> str:
        """What was written with it."""
        return _read(self.raw)


@dataclass(frozen=True, slots=True)
class ConnectionChanged(FriendEvent):
    """The friend came online, went offline, or is reached another way."""

    connection: Connection

    @property
    def online(self) -> bool:
        """Whether the friend can be reached now."""
        return self.connection is not Connection.NONE


@dataclass(frozen=True, slots=True)
class NameChanged(FriendEvent):
    """The friend has another name."""

    raw: bytes

    @property
    def name(self) -> str:
        """The new name."""
        return _read(self.raw)


@dataclass(frozen=True, slots=True)
class StatusMessageChanged(FriendEvent):
    """The friend says something else of itself."""

    raw: bytes

    @property
    def text(self) -> str:
        """What it says."""
        return _read(self.raw)


@dataclass(frozen=True, slots=True)
class StatusChanged(FriendEvent):
    """The friend is there, away or busy."""

    status: UserStatus


@dataclass(frozen=True, slots=True)
class Typing(FriendEvent):
    """The friend began or stopped typing."""

    typing: bool


@dataclass(frozen=True, slots=True)
class Message(FriendEvent):
    """A text from the friend."""

    kind: MessageKind
    raw: bytes

    @property
    def text(self) -> str:
        """What was written."""
        return _read(self.raw)


@dataclass(frozen=True, slots=True)
class Receipt(FriendEvent):
    """A message has arrived in the friend's process; whether it was read, nobody knows."""

    message: int
    """What `send_message` returned."""


@dataclass(frozen=True, slots=True)
class Unconfirmed(FriendEvent):
    """The session went down before these messages had their receipts: they may have arrived."""

    messages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FileOffer(FriendEvent):
    """The friend wants to send a file."""

    number: int
    """256-511: by which the transfer is named until its FileEnded."""
    kind: int
    """FileKind, or a number of the friend's own."""
    size: int | None
    """In bytes; None: a stream that ends when it ends."""
    file_id: bytes
    """32 bytes: the same again when the same file is offered again; an avatar's SHA-256."""
    raw: bytes

    @property
    def name(self) -> str:
        """The file's name: a stranger's text, no path to write to as it is."""
        return _read(self.raw)

    @property
    def unsets_avatar(self) -> bool:
        """Whether the friend says that it has no avatar any more."""
        return self.kind == FileKind.AVATAR and self.size == 0


@dataclass(frozen=True, slots=True)
class FileControlled(FriendEvent):
    """The friend accepted or resumed (RESUME), or paused a transfer."""

    number: int
    control: Control


@dataclass(frozen=True, slots=True)
class FileChunkWanted(FriendEvent):
    """The next piece of a file that we send is wanted, by `file_chunk`."""

    number: int
    position: int
    size: int
    """How many bytes would be taken; fewer may be given. None at all end a stream."""


@dataclass(frozen=True, slots=True)
class FileChunk(FriendEvent):
    """A piece of a file that we receive."""

    number: int
    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnded(FriendEvent):
    """A transfer is over, and its number free: each one that began ends with this, once."""

    number: int
    outcome: Outcome
    transferred: int
    """Where it ended, in bytes from the file's beginning."""


@dataclass(frozen=True, slots=True)
class CustomPacket(FriendEvent):
    """A packet of the application's own: id byte first, 160-191, 192-254, or 69 (calls)."""

    data: bytes
    lossless: bool


@dataclass(frozen=True, slots=True)
class IdentityConnected(Event):
    """We ourselves can, or cannot, be found by others now."""

    connected: bool
