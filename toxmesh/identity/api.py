"""What a Python program gets by `from toxmesh import ...`: identities, their events and errors."""

from core.messenger.errors import (
    AlreadyFriend,
    BadValue,
    MessengerError,
    NotConnected,
    QueueFull,
    TransferRefused,
    UnknownFriend,
    UnknownTransfer,
)
from core.messenger.events import (
    Connection,
    ConnectionChanged,
    Control,
    CustomPacket,
    FileChunk,
    FileChunkWanted,
    FileControlled,
    FileEnded,
    FileKind,
    FileOffer,
    FriendRequest,
    IdentityConnected,
    Message,
    MessageKind,
    NameChanged,
    Outcome,
    StatusChanged,
    StatusMessageChanged,
    Typing,
)
from core.savedata.profile import Profile, UserStatus
from core.tox_id import ToxId, ToxIdError
from toxmesh.identity.files import TransferFailed
from toxmesh.identity.hosted import HostedIdentity, HostGone
from toxmesh.identity.identity import Identity, IdentityError
from toxmesh.identity.inbox import EventsLost, StoredMessage
from toxmesh.identity.mailbox import MailboxError, MailboxFull
from toxmesh.identity.post import Sent
from toxmesh.identity.profiles import ProfileError
from toxmesh.identity.udp import PortError

__all__ = [
    "AlreadyFriend",
    "BadValue",
    "Connection",
    "ConnectionChanged",
    "Control",
    "CustomPacket",
    "EventsLost",
    "FileChunk",
    "FileChunkWanted",
    "FileControlled",
    "FileEnded",
    "FileKind",
    "FileOffer",
    "FriendRequest",
    "HostGone",
    "HostedIdentity",
    "Identity",
    "IdentityConnected",
    "IdentityError",
    "MailboxError",
    "MailboxFull",
    "Message",
    "MessageKind",
    "MessengerError",
    "NameChanged",
    "NotConnected",
    "Outcome",
    "PortError",
    "Profile",
    "ProfileError",
    "QueueFull",
    "Sent",
    "StatusChanged",
    "StatusMessageChanged",
    "StoredMessage",
    "ToxId",
    "ToxIdError",
    "TransferFailed",
    "TransferRefused",
    "Typing",
    "UnknownFriend",
    "UnknownTransfer",
    "UserStatus",
]
