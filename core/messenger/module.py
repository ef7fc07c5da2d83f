"""The messenger: what friends say to each other, as commands and events.

It keeps nothing for friends that are not online: who wants a message to wait for its friend keeps
it (the host does, on disk) and sends it at ConnectionChanged.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter, itemgetter

from core.crypto import PublicKey, sha256
from core.entropy import Entropy
from core.friend.requests import MAX_REQUEST_TEXT, FriendRequests
from core.messenger import events
from core.messenger.errors import AlreadyFriend, BadValue, NotConnected, QueueFull, UnknownFriend
from core.messenger.events import Connection, Control, FileKind, MessageKind
from core.messenger.files import Files, TransferStatus
from core.messenger.friend import Friend, FriendView, Unsent
from core.messenger.parts import Connections, Listener, OnionData, RequestPaths
from core.messenger.presence import Presence
from core.messenger.texts import bytes_of
from core.packets.messenger import (
    LOSSLESS_CUSTOM,
    LOSSY_CUSTOM,
    MAX_DATA_SIZE,
    MAX_MESSAGE_SIZE,
    MAX_NAME_SIZE,
    MAX_STATUS_MESSAGE_SIZE,
    Action,
    CallSignals,
    FileControl,
    FileData,
    FileRequest,
    Message,
    Name,
    Offline,
    Online,
    SessionFriendRequest,
    Status,
    StatusMessage,
    Typing,
)
from core.savedata.profile import FriendState, Profile, SavedFriend, UserStatus
from core.timers import Timers
from core.tox_id import ToxId, is_key
from core.wire import WireError

MAX_AVATAR_SIZE = 65_536  # Tox Client Standard: avatars
_ONLINE, _OFFLINE = Online().encode(), Offline().encode()


class Messenger:
    """One identity's friends, and all that is said with them. Friends are named by real keys."""

    def __init__(
        self,
        profile: Profile,
        connections: Connections,
        onion: OnionData,
        listener: Listener,
        entropy: Entropy,
        drops: Counter[str],
        now: float,
        unix_offset: float,
    ) -> None:
        """`unix_offset` is what has to be added to `now` for Unix seconds."""
        self._presence = Presence(profile, connections)
        self._connections = connections
        self._listener = listener
        self._entropy = entropy
        self._drops = drops
        self._unix_offset = unix_offset
        self._friends: dict[PublicKey, Friend] = {}
        self._files = Files(connections, listener.event, drops)
        self._requests = FriendRequests(
            profile.keys.public,
            (profile.nospam,),
            self._friends.__contains__,
            lambda key, text, at: listener.event(events.FriendRequest(key, text), at),
            RequestPaths(connections, onion),
            drops,
        )
        for saved in profile.friends:
            self._add(saved, now)

    # Ourselves

    @property
    def tox_id(self) -> ToxId:
        """By which others find us."""
        return self._presence.profile.tox_id

    def profile(self, now: float) -> Profile:
        """Returns the identity as it is to be saved; its nodes and relays are as they came."""
        for friend in self._friends.values():
            if friend.online:
                friend.last_seen = self._unix(now)
        friends = tuple(friend.saved() for friend in self._friends.values())
        return replace(self._presence.profile, friends=friends)

    def set_name(self, name: str | bytes, now: float) -> None:
        """Changes our name, and tells all friends. Raises BadValue above 128 bytes."""
        raw = bytes_of(name, "name", MAX_NAME_SIZE)
        changed = replace(self._presence.profile, name=raw)
        self._presence.change(changed, Unsent.NAME, self._friends.values(), now)

    def set_status_message(self, text: str | bytes, now: float) -> None:
        """Changes what we say of ourselves. Raises BadValue above 1,007 bytes."""
        raw = bytes_of(text, "status message", MAX_STATUS_MESSAGE_SIZE)
        changed = replace(self._presence.profile, status_message=raw)
        self._presence.change(changed, Unsent.STATUS_MESSAGE, self._friends.values(), now)

    def set_status(self, status: UserStatus, now: float) -> None:
        """Says whether we are there, away or busy."""
        changed = replace(self._presence.profile, status=UserStatus(status))
        self._presence.change(changed, Unsent.STATUS, self._friends.values(), now)

    def set_nospam(self, nospam: bytes, others: Sequence[bytes] = ()) -> None:
        """Changes our Tox ID. Requests to it and to those with the `others` are taken, at most 16
        in all; BadValue for more, or for one that has not 4 bytes."""
        try:
            self._requests.set_nospams((nospam, *others))
        except ValueError as error:
            raise BadValue(str(error)) from None
        self._presence.profile = replace(self._presence.profile, nospam=nospam)

    # Friends

    def friends(self) -> list[PublicKey]:
        """Returns all friends, in the order in which they were added."""
        return list(self._friends)

    def friend(self, key: PublicKey) -> FriendView:
        """Returns what is known of a friend. Raises UnknownFriend."""
        friend = self._find(key)
        return FriendView(friend.saved(), self._connection_of(friend), friend.typing)

    def add_friend(self, tox_id: ToxId, message: str | bytes, now: float) -> None:
        """Asks somebody to become a friend, until it comes online. With a changed nospam the
        request goes out anew. Raises AlreadyFriend, BadValue (1-921 bytes)."""
        text = bytes_of(message, "friend request", MAX_REQUEST_TEXT)
        if not text:
            raise BadValue("a friend request needs a text")
        friend = self._friends.get(tox_id.key)
        if friend is None:
            key, state = self._not_we(tox_id.key), FriendState.ADDED
            self._add(SavedFriend(key, state, nospam=tox_id.nospam, request_text=text), now)
            return
        if friend.state is FriendState.CONFIRMED or friend.nospam == tox_id.nospam:
            raise AlreadyFriend("this is a friend, or was asked to become one")
        friend.nospam, friend.request_text = tox_id.nospam, text
        self._requests.begin(friend.key, friend.nospam, text, now)

    def add_friend_by_key(self, key: PublicKey, now: float) -> None:
        """Adds somebody without asking: who asked us, or does the same. Raises AlreadyFriend."""
        if key in self._friends:
            raise AlreadyFriend("this is a friend already")
        self._add(SavedFriend(self._not_we(key)), now)

    def remove_friend(self, key: PublicKey, now: float) -> None:
        """Ends a friendship; a friend that is online is told. Raises UnknownFriend."""
        friend = self._find(key)
        del self._friends[key]
        self._presence.forget(friend)
        self._requests.end(key)
        self._requests.forget(key)
        if self._connections.is_online(key):
            self._connections.send(key, _OFFLINE, now)
        friend.online = False
        self._connections.remove(key, now)
        self._files.break_all(key, now)

    def _not_we(self, key: PublicKey) -> PublicKey:
        if not is_key(key):
            raise BadValue("this is no public key that anybody can have")
        if key == self._presence.profile.keys.public:
            raise AlreadyFriend("this is our own key")
        return key

    def _add(self, saved: SavedFriend, now: float) -> None:
        friend = self._friends[saved.key] = Friend(saved)
        if friend.state is not FriendState.CONFIRMED:
            if friend.request_text:
                self._requests.begin(friend.key, friend.nospam, friend.request_text, now)
            else:
                friend.confirm()
        self._connections.add(friend.key, now)
        if self._connections.is_online(friend.key):  # for a conference
            self._connections.send(friend.key, _ONLINE, now)

    def _find(self, key: PublicKey) -> Friend:
        friend = self._friends.get(key)
        if friend is None:
            raise UnknownFriend("nobody with this key is a friend")
        return friend

    def _find_online(self, key: PublicKey) -> Friend:
        friend = self._find(key)
        if not friend.online:
            raise NotConnected("the friend is not online")
        return friend

    # Saying

    def send_message(
        self, key: PublicKey, kind: MessageKind, text: str | bytes, now: float, letter: int = 0
    ) -> int:
        """Sends a text of 1-1,372 bytes; returns its number, which its Receipt names. `letter` is
        the caller's own number for it, see `Connections.send`.

        Raises UnknownFriend, NotConnected, QueueFull, BadValue.
        """
        raw = bytes_of(text, "message", MAX_MESSAGE_SIZE)
        if not raw:
            raise BadValue("a message needs a text")
        friend = self._find_online(key)
        packet = Message(raw) if kind is MessageKind.NORMAL else Action(raw)
        return friend.message_sent(self._send(friend, packet.encode(), now, letter))

    def sent_before(self, key: PublicKey, packet: int) -> int:
        """Takes up a message that a messenger before this one sent as that packet of the session
        that is up; returns its number. Raises UnknownFriend."""
        return self._find(key).message_sent(packet)

    def set_typing(self, key: PublicKey, typing: bool, now: float) -> None:
        """Tells a friend whether we are typing; one that is offline, when it comes."""
        friend = self._find(key)
        if friend.our_typing != typing:
            friend.our_typing = typing
            self._presence.tell(friend, Unsent.TYPING, now)

    def send_custom(self, key: PublicKey, data: bytes, now: float) -> None:
        """Sends a packet of the application's own: its first byte tells whether it is lossless
        (160-191, 69) or may be lost (192-254). At most 1,373 bytes.

        Raises UnknownFriend, NotConnected, QueueFull, BadValue.
        """
        if not 1 <= len(data) <= MAX_DATA_SIZE:
            raise BadValue(f"a custom packet of {len(data)} bytes, not 1-{MAX_DATA_SIZE}")
        kind = data[0]
        lossless = kind in LOSSLESS_CUSTOM or kind == CallSignals.kind
        if not lossless and kind not in LOSSY_CUSTOM:
            raise BadValue(f"first byte {kind} is none of 160-254 or {CallSignals.kind}")
        friend = self._find_online(key)
        if not lossless:
            self._connections.send_lossy(key, data, now)
        elif self._connections.room(key) <= 0:
            raise QueueFull("too much waits to be sent to this friend")
        else:
            self._send(friend, data, now)

    def _send(self, friend: Friend, packet: bytes, now: float, letter: int = 0) -> int:
        number = self._connections.send(friend.key, packet, now, letter)
        if number is None:
            raise QueueFull("too much waits to be sent to this friend")
        return number

    # Files

    def send_file(
        self,
        key: PublicKey,
        kind: int,
        size: int | None,
        file_id: bytes | None,
        name: str | bytes,
        now: float,
    ) -> int:
        """Offers a file, or without a size a stream; returns the transfer's number, 0-255.

        Without an id a new one is made. FileChunkWanted asks for the data, and FileEnded comes in
        any case. Raises UnknownFriend, NotConnected, QueueFull, BadValue, TransferRefused.
        """
        self._find_online(key)
        raw = name.encode() if isinstance(name, str) else name
        given = self._entropy.bytes(32) if file_id is None else file_id
        return self._files.offer(key, kind, size, given, raw, now)

    def send_avatar(self, key: PublicKey, avatar: bytes | None, now: float) -> int:
        """Offers our picture of at most 64 KiB, or says that we have none; nobody is asked for its
        data. Raises as `send_file`."""
        self._find_online(key)
        picture = avatar or b""
        if len(picture) > MAX_AVATAR_SIZE:
            raise BadValue(f"an avatar of {len(picture)} bytes, more than {MAX_AVATAR_SIZE}")
        file_id = sha256(picture) if picture else bytes(32)
        return self._files.offer(
            key, FileKind.AVATAR, len(picture), file_id, b"", now, source=picture
        )

    def file_control(self, key: PublicKey, number: int, control: Control, now: float) -> None:
        """Accepts (RESUME), resumes, pauses or ends a transfer.

        Raises UnknownFriend, NotConnected, UnknownTransfer, TransferRefused, QueueFull.
        """
        self._find_online(key)
        self._files.control(key, number, Control(control), now)

    def file_seek(self, key: PublicKey, number: int, position: int, now: float) -> None:
        """Has a file that was offered begin at `position`, before it is accepted.

        So a transfer that broke goes on: the offer's file id tells which it was. Raises as
        `file_control`, and BadValue for a position that is not in the file.
        """
        self._find_online(key)
        self._files.seek(key, number, position, now)

    def file_chunk(
        self, key: PublicKey, number: int, position: int, data: bytes, now: float
    ) -> None:
        """Gives the data that FileChunkWanted asked for; no bytes end a stream.

        Raises as `file_control`, and BadValue for other data than was asked for.
        """
        self._find_online(key)
        self._files.chunk(key, number, position, data, now)

    def transfers(self, key: PublicKey) -> list[TransferStatus]:
        """Returns the file transfers with a friend. Raises UnknownFriend."""
        self._find(key)
        return self._files.transfers(key)

    # What friend connections and the onion tell

    def friend_online(self, real_key: PublicKey, now: float) -> None:
        """A session is up: says that the friend is one."""
        if real_key in self._friends:
            self._connections.send(real_key, _ONLINE, now)

    def friend_offline(self, real_key: PublicKey, now: float) -> None:
        """The session is down."""
        friend = self._friends.get(real_key)
        if friend is not None:
            friend.direct = False
            self._go_offline(friend, now)

    def friend_direct(self, real_key: PublicKey, direct: bool, now: float) -> None:
        """UDP carries the session, or only relays do."""
        friend = self._friends.get(real_key)
        if friend is None or friend.direct == direct:
            return
        friend.direct = direct
        if friend.online:
            self._tell_connection(friend, now)

    def friend_packets(self, real_key: PublicKey, packets: Sequence[bytes], now: float) -> None:
        """Takes lossless packets that came together; pieces of files go on together too."""
        for kind, together in groupby(packets, itemgetter(0)):
            friend = self._friends.get(real_key)
            if kind == FileData.kind and friend is not None and friend.online:
                self._files.handle_data(real_key, list(together), now)
                continue
            for data in together:
                self._take_packet(real_key, data, now)

    def _take_packet(self, real_key: PublicKey, data: bytes, now: float) -> None:
        kind = data[0]
        friend = self._friends.get(real_key)
        if friend is not None and friend.online:
            handler = _HANDLERS.get(kind)
            if handler is not None:
                try:
                    handler(self, friend, data, now)
                except WireError:
                    self._drops["messenger_size"] += 1
                return
        if kind == SessionFriendRequest.kind:
            self._requests.session_data(real_key, data, now)
        elif friend is None:
            self._drops["messenger_unknown_friend"] += 1
        elif data == _ONLINE:
            self._take_online(friend, now)
        elif not friend.online:
            self._drops["messenger_not_online"] += 1
        elif kind in LOSSLESS_CUSTOM or kind == CallSignals.kind:
            self._listener.event(events.CustomPacket(real_key, data, True), now)
        else:
            self._drops["messenger_unknown_kind"] += 1

    def friend_lossy(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Takes a lossy packet."""
        friend = self._friends.get(real_key)
        if friend is None:
            self._drops["messenger_unknown_friend"] += 1
        elif not friend.online:
            self._drops["messenger_not_online"] += 1
        else:
            self._listener.event(events.CustomPacket(real_key, data, False), now)

    def friend_acknowledged(self, real_key: PublicKey, number: int, now: float) -> None:
        """The friend has all lossless packets up to this one."""
        friend = self._friends.get(real_key)
        if friend is None:
            return
        if friend.unsent:
            self._presence.tell(friend, Unsent(0), now)
        for message in friend.received(number):
            self._listener.event(events.Receipt(real_key, message), now)
        self._files.acknowledged(real_key, number, now)

    def onion_data(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Takes a friend request that came through the onion."""
        self._requests.onion_data(real_key, data, now)

    # Packets of a friend

    def _take_online(self, friend: Friend, now: float) -> None:
        if friend.online:
            return
        friend.online = True
        friend.confirm()
        self._requests.end(friend.key)
        # c-toxcore says it again here: it may have come up, and told us, before it had us
        self._connections.send(friend.key, _ONLINE, now)
        self._presence.tell(friend, Unsent.ALL, now)
        self._tell_connection(friend, now)

    def _take_offline(self, friend: Friend, data: bytes, now: float) -> None:
        Offline.decode(data)
        self._go_offline(friend, now)

    def _take_name(self, friend: Friend, data: bytes, now: float) -> None:
        name = Name.decode(data).name
        if friend.name != name:
            friend.name = name
            self._listener.event(events.NameChanged(friend.key, name), now)

    def _take_status_message(self, friend: Friend, data: bytes, now: float) -> None:
        text = StatusMessage.decode(data).text
        if friend.status_message != text:
            friend.status_message = text
            self._listener.event(events.StatusMessageChanged(friend.key, text), now)

    def _take_status(self, friend: Friend, data: bytes, now: float) -> None:
        status = UserStatus(Status.decode(data).status)
        if friend.status != status:
            friend.status = status
            self._listener.event(events.StatusChanged(friend.key, status), now)

    def _take_typing(self, friend: Friend, data: bytes, now: float) -> None:
        self._set_typing(friend, bool(Typing.decode(data).typing), now)

    def _take_text(self, friend: Friend, data: bytes, now: float) -> None:
        if data[0] == Action.kind:
            kind, text = MessageKind.ACTION, Action.decode(data).text
        else:
            kind, text = MessageKind.NORMAL, Message.decode(data).text
        self._listener.event(events.Message(friend.key, kind, text), now)

    def _set_typing(self, friend: Friend, typing: bool, now: float) -> None:
        if friend.typing != typing:
            friend.typing = typing
            self._listener.event(events.Typing(friend.key, typing), now)

    # Presence

    def _go_offline(self, friend: Friend, now: float) -> None:
        if not friend.online:
            return
        friend.online = False
        self._presence.forget(friend)
        friend.last_seen = self._unix(now)
        lost = friend.drop_receipts()
        self._set_typing(friend, False, now)
        self._files.break_all(friend.key, now)
        if lost:
            self._listener.event(events.Unconfirmed(friend.key, lost), now)
        self._tell_connection(friend, now)

    def _connection_of(self, friend: Friend) -> Connection:
        if not friend.online:
            return Connection.NONE
        return Connection.DIRECT if friend.direct else Connection.RELAY

    def _tell_connection(self, friend: Friend, now: float) -> None:
        self._listener.event(events.ConnectionChanged(friend.key, self._connection_of(friend)), now)

    def _unix(self, now: float) -> int:
        return int(now + self._unix_offset)

    def clocks(self) -> tuple[Timers[PublicKey], ...]:
        """Returns what always says when `handle_timer` wants to be called."""
        return self._presence.timers, self._requests.timers, self._files.timers

    def next_timer(self) -> float | None:
        """Returns when `handle_timer` wants to be called; None: not before something happens."""
        return min(self.clocks(), key=attrgetter("first")).next()

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        for key in self._requests.handle_timer(now):
            friend = self._friends.get(key)
            if friend is not None and friend.state is FriendState.ADDED:
                friend.state = FriendState.REQUESTED
        for key in self._presence.expired(now):
            friend = self._friends.get(key)
            if friend is not None:
                self._presence.tell(friend, Unsent(0), now)
        self._files.handle_timer(now)


_HANDLERS: dict[int, Callable[[Messenger, Friend, bytes, float], None]] = {
    Offline.kind: Messenger._take_offline,
    Name.kind: Messenger._take_name,
    StatusMessage.kind: Messenger._take_status_message,
    Status.kind: Messenger._take_status,
    Typing.kind: Messenger._take_typing,
    Message.kind: Messenger._take_text,
    Action.kind: Messenger._take_text,
    FileRequest.kind: lambda own, one, data, at: own._files.handle_request(one.key, data, at),
    FileControl.kind: lambda own, one, data, at: own._files.handle_control(one.key, data, at),
}
