"""Packets between friends, inside a net_crypto session: the first byte is the session's data id.

Friend requests by onion, which have another first byte, are in `announce`.
"""

from typing import Annotated, ClassVar

from core.packets.announce import MAX_FRIEND_MESSAGE_SIZE
from core.packets.nodes import NodeInfo, Nodes
from core.wire import U8, U32, U64, Bytes32, Fixed, Number, Record, Rest, constant

MAX_DATA_SIZE = 1373  # c-toxcore net_crypto.h: MAX_CRYPTO_DATA_SIZE, of a whole packet
MAX_NAME_SIZE = 128  # c-toxcore Messenger.h: MAX_NAME_LENGTH
MAX_STATUS_MESSAGE_SIZE = 1007  # c-toxcore Messenger.h: MAX_STATUSMESSAGE_LENGTH
MAX_MESSAGE_SIZE = MAX_DATA_SIZE - 1  # c-toxcore Messenger.c: m_send_message_generic
MAX_FILE_NAME_SIZE = 255  # c-toxcore Messenger.c: MAX_FILENAME_LENGTH
FILE_DATA_SIZE = MAX_DATA_SIZE - 2  # c-toxcore Messenger.c: MAX_FILE_DATA_SIZE
MAX_SHARED_RELAYS = 3  # c-toxcore friend_connection.h: MAX_SHARED_RELAYS
UNKNOWN_SIZE = (1 << 64) - 1  # Spec: FILE_SENDREQUEST, a stream that ends when it ends

LOSSLESS_CUSTOM = range(160, 192)  # WIRE.md W27
LOSSY_CUSTOM = range(192, 255)  # WIRE.md W27; c-toxcore takes 192-199 for calls


class MessengerPacket(Record, abstract=True):
    """What friends send each other."""

    kind: ClassVar[int]


class Alive(MessengerPacket, kind=0x10):
    """Says that the sender is still there.  Spec: Friend connection."""


class ShareRelays(MessengerPacket, kind=0x11):
    """Names TCP relays by which the sender can be reached.  Spec: Friend connection."""

    relays: Annotated[tuple[NodeInfo, ...], Nodes(MAX_SHARED_RELAYS, tcp=True)]


class SessionFriendRequest(MessengerPacket, kind=0x12):
    """A friend request where there is a session already, for conference peers have them too."""

    nospam: Annotated[bytes, Fixed(4)]
    message: Annotated[bytes, Rest(1, MAX_FRIEND_MESSAGE_SIZE)]


class Online(MessengerPacket, kind=0x18):
    """Says that the receiver is in the sender's friend list.  Spec: ONLINE."""


class Offline(MessengerPacket, kind=0x19):
    """Says that it is not any more.  Spec: OFFLINE."""


class Name(MessengerPacket, kind=0x30):
    """The sender's name.  Spec: NICKNAME."""

    name: Annotated[bytes, Rest(0, MAX_NAME_SIZE)]


class StatusMessage(MessengerPacket, kind=0x31):
    """What the sender says of itself.  Spec: STATUSMESSAGE."""

    text: Annotated[bytes, Rest(0, MAX_STATUS_MESSAGE_SIZE)]


class Status(MessengerPacket, kind=0x32):
    """0 there, 1 away, 2 busy.  Spec: USERSTATUS."""

    status: Annotated[int, Number(1, high=2)]


class Typing(MessengerPacket, kind=0x33):
    """Whether the sender is typing; c-toxcore takes all but 0 for a yes.  Spec: TYPING."""

    typing: U8


class Message(MessengerPacket, kind=0x40):
    """A text.  Spec: MESSAGE."""

    text: Annotated[bytes, Rest(1, MAX_MESSAGE_SIZE)]


class Action(MessengerPacket, kind=0x41):
    """What the sender does: "/me waves".  Spec: ACTION."""

    text: Annotated[bytes, Rest(1, MAX_MESSAGE_SIZE)]


class CallSignals(MessengerPacket, kind=0x45):
    """Begins, changes and ends calls; passed on as it is.  Spec: MSI."""

    signals: Annotated[bytes, Rest(0, MAX_DATA_SIZE - 1)]


class FileRequest(MessengerPacket, kind=0x50):
    """Offers a file.  Spec: FILE_SENDREQUEST."""

    number: U8
    file_kind: U32
    """0 a file, 1 an avatar."""
    size: U64
    """All ones: not known, a stream."""
    file_id: Bytes32
    name: Annotated[bytes, Rest(0, MAX_FILE_NAME_SIZE)]


class FileControl(MessengerPacket, kind=0x51):
    """Accepts, resumes, pauses or ends a transfer.  Spec: FILE_CONTROL."""

    direction: Annotated[int, Number(1, high=1)]
    """0: of a file that this packet's sender is sending; 1: of one that it is receiving."""
    number: U8
    control: Annotated[int, Number(1, high=2)]
    """0 accept or resume, 1 pause, 2 cancel."""


class FileSeek(MessengerPacket, kind=0x51):
    """Asks to begin elsewhere than at 0.  Spec: FILE_CONTROL, whose size there is wrong."""

    direction: Annotated[int, Number(1, high=1)]
    number: U8
    control: U8 = constant(3)
    position: U64


class FileData(MessengerPacket, kind=0x52):
    """A piece of a file; one of fewer than 1,371 bytes is the last.  Spec: FILE_DATA."""

    number: U8
    data: Annotated[bytes, Rest(0, FILE_DATA_SIZE)]


class LosslessCustom(Record):
    """What applications agreed upon, in order and once."""

    id: Annotated[int, Number(1, LOSSLESS_CUSTOM[0], LOSSLESS_CUSTOM[-1])]
    data: Annotated[bytes, Rest(0, MAX_DATA_SIZE - 1)]


class LossyCustom(Record):
    """What applications agreed upon, and calls' sound and pictures (192-199): may be lost."""

    id: Annotated[int, Number(1, LOSSY_CUSTOM[0], LOSSY_CUSTOM[-1])]
    data: Annotated[bytes, Rest(0, MAX_DATA_SIZE - 1)]
