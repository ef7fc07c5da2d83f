"""The save file of Tox clients, read and written byte for byte as the reference does.

A file is a head and sections. Numbers of the file's own are little endian, those inside a friend's
record big endian. What nobody here knows is kept and written again in its place.
"""

import struct
from collections.abc import Iterable

from core.crypto import KEY_SIZE, KeyPair, PublicKey
from core.packets.nodes import NodeInfo, pack_nodes, read_compact
from core.savedata.profile import FriendState, Profile, SavedFriend, Section, UserStatus
from core.wire import WireError

NOSPAM_KEYS, DHT, FRIENDS, NAME, STATUS_MESSAGE, STATUS = range(1, 7)  # c-toxcore state.h
GROUPS, RELAYS, PATH_NODES, CONFERENCES, END = 7, 10, 11, 20, 255
_ORDER = (
    *(NOSPAM_KEYS, DHT, FRIENDS, NAME, STATUS_MESSAGE, STATUS),
    *(GROUPS, RELAYS, PATH_NODES, CONFERENCES),
)
"""In which the reference writes them.  c-toxcore Messenger.c: m_register_default_plugins"""
_ALWAYS = frozenset((NOSPAM_KEYS, DHT, FRIENDS, NAME, STATUS_MESSAGE, STATUS))

_MAGIC = bytes(4) + (0x15ED1B1F).to_bytes(4, "little")  # c-toxcore state.h: STATE_COOKIE_GLOBAL
_COOKIE = 0x01CE  # STATE_COOKIE_TYPE
_DHT_MAGIC = (0x0159000D).to_bytes(4, "little")  # DHT.c: DHT_STATE_COOKIE_GLOBAL
_DHT_COOKIE = 0x11CE  # DHT_STATE_COOKIE_TYPE
_DHT_NODES = 4  # DHT_STATE_TYPE_NODES
_HEAD = struct.Struct("<IHH")  # bytes in the section, type, cookie
_FRIEND = struct.Struct(">B32s1024sxH128sH1007sxHB3x4sQ")  # WIRE.md W38
FRIEND_SIZE = _FRIEND.size
MAX_FILE_SIZE = 64 << 20
"""Beyond any file that a client writes: 20,000 friends have 44 MB."""


class SaveError(ValueError):
    """These bytes are no save file; the message says what is wrong."""


def read(data: bytes) -> Profile:
    """Returns the profile in a save file. Raises SaveError, and then nothing of it is of use."""
    if len(data) > MAX_FILE_SIZE:
        raise SaveError(f"{len(data)} bytes are more than any Tox profile has")
    if data[: len(_MAGIC)] != _MAGIC:
        raise SaveError("this does not begin like a Tox profile")
    found: dict[int, bytes] = {}
    nodes: list[NodeInfo] = []
    others: list[Section] = []
    order: list[int] = []
    for kind, body in _sections(data, len(_MAGIC), _COOKIE):
        if kind == END:
            break
        if kind == DHT:  # there may be several
            nodes += _read_dht(body)
        elif kind in _ORDER:
            found[kind] = body
        else:
            others.append(Section(kind, body))
        if kind not in order or kind not in _ORDER:
            order.append(kind)
    keys = found.get(NOSPAM_KEYS)
    if keys is None:
        raise SaveError("it has no section with keys")
    if len(keys) != 4 + 2 * KEY_SIZE:
        raise SaveError(f"its section of keys has {len(keys)} bytes, not 68")
    pair = KeyPair.from_secret(keys[-KEY_SIZE:])
    if pair.public != keys[4:-KEY_SIZE]:
        raise SaveError("its public key does not belong to its secret key")
    return Profile(
        keys=pair,
        nospam=keys[:4],
        name=found.get(NAME, b""),
        status_message=found.get(STATUS_MESSAGE, b""),
        status=_status(found.get(STATUS, b"\x00")[:1]),
        friends=tuple(_read_friends(found.get(FRIENDS, b""))),
        dht_nodes=tuple(nodes),
        relays=tuple(_read_nodes(found.get(RELAYS, b""))),
        path_nodes=tuple(_read_nodes(found.get(PATH_NODES, b""))),
        groups=found.get(GROUPS, b""),
        conferences=found.get(CONFERENCES, b""),
        others=tuple(others),
        order=tuple(order),
    )


def write(profile: Profile) -> bytes:
    """Returns the save file of a profile: sections in the order it came with, new ones behind."""
    others = list(profile.others)
    order = [kind for kind in profile.order if kind in _ORDER or others]
    order += [kind for kind in _ORDER if kind not in order]
    parts = [_MAGIC]
    for kind in order:
        if kind in _ORDER:
            body = _body(kind, profile)
            if body or kind in _ALWAYS or kind in profile.order:
                parts += (_HEAD.pack(len(body), kind, _COOKIE), body)
        elif others and others[0].kind == kind:
            other = others.pop(0)
            parts += (_HEAD.pack(len(other.data), kind, _COOKIE), other.data)
    for other in others:
        parts += (_HEAD.pack(len(other.data), other.kind, _COOKIE), other.data)
    return b"".join((*parts, _HEAD.pack(0, END, _COOKIE)))


def _body(kind: int, profile: Profile) -> bytes:
    match kind:
        case 1:
            return profile.nospam + profile.keys.public + profile.keys.secret.reveal()
        case 2:
            nodes = pack_nodes(profile.dht_nodes)
            return _DHT_MAGIC + _HEAD.pack(len(nodes), _DHT_NODES, _DHT_COOKIE) + nodes
        case 3:
            return b"".join(map(_pack_friend, profile.friends))
        case 4:
            return profile.name
        case 5:
            return profile.status_message
        case 6:
            return bytes((profile.status,))
        case 7:
            return profile.groups
        case 10:
            return pack_nodes(profile.relays)
        case 11:
            return pack_nodes(profile.path_nodes)
        case _:
            return profile.conferences


def _sections(data: bytes, offset: int, cookie: int) -> Iterable[tuple[int, bytes]]:
    """Yields type and body of all sections; raises SaveError where the next one is none."""
    while offset < len(data):
        if len(data) - offset < _HEAD.size:
            raise SaveError(f"it ends within the head of a section, at byte {offset}")
        size, kind, given = _HEAD.unpack_from(data, offset)
        if given != cookie:
            raise SaveError(f"at byte {offset} no section begins: the file is damaged")
        offset += _HEAD.size
        if size > len(data) - offset:
            raise SaveError(f"section {kind} has {size} bytes, and {len(data) - offset} are left")
        yield kind, data[offset : offset + size]
        offset += size


def _read_dht(body: bytes) -> list[NodeInfo]:
    if not body:
        return []
    if body[:4] != _DHT_MAGIC:
        raise SaveError("its section of DHT nodes does not begin like one")
    nodes: list[NodeInfo] = []
    for kind, part in _sections(body, 4, _DHT_COOKIE):
        if kind == _DHT_NODES:
            nodes += _read_nodes(part)
    return nodes


def _read_nodes(data: bytes) -> list[NodeInfo]:
    """Reads packed nodes as far as they can be read: without them all else is still of use."""
    nodes: list[NodeInfo] = []
    offset = 0
    while offset < len(data):
        try:
            endpoint, tcp, offset = read_compact(data, offset, len(data))
        except WireError:
            break
        key = data[offset : offset + KEY_SIZE]
        offset += KEY_SIZE
        if len(key) == KEY_SIZE:
            nodes.append(NodeInfo(PublicKey(key), endpoint, tcp))
    return nodes


def _status(text: bytes) -> UserStatus:
    return UserStatus(text[0]) if text and text[0] <= UserStatus.BUSY else UserStatus.ONLINE


def _read_friends(data: bytes) -> Iterable[SavedFriend]:
    if len(data) % FRIEND_SIZE:
        raise SaveError(f"its friends have {len(data)} bytes, no multiple of {FRIEND_SIZE}")
    for row in _FRIEND.iter_unpack(data):
        state, key, text, text_size, name, name_size, message, message_size = row[:8]
        status, nospam, seen = row[8:]
        if not state:
            continue  # an empty place
        for what, size, most in (
            ("request", text_size, 1024),
            ("name", name_size, 128),
            ("status message", message_size, 1007),
        ):
            if size > most:
                raise SaveError(f"a friend's {what} has {size} bytes, more than {most}")
        yield SavedFriend(
            key=PublicKey(key),
            state=FriendState(min(state, FriendState.CONFIRMED)),  # 4: it was online
            name=name[:name_size],
            status_message=message[:message_size],
            status=_status(bytes((status,))),
            nospam=nospam,
            request_text=text[:text_size],
            last_seen=seen,
        )


def _pack_friend(friend: SavedFriend) -> bytes:
    """Returns 2,216 bytes. As in the reference, before the friend was online there is the request
    alone, and after that all but the request."""
    if friend.state < FriendState.CONFIRMED:
        friend = SavedFriend(
            friend.key, friend.state, nospam=friend.nospam, request_text=friend.request_text
        )
    else:
        friend = SavedFriend(
            friend.key,
            friend.state,
            friend.name,
            friend.status_message,
            friend.status,
            last_seen=friend.last_seen,
        )
    return _FRIEND.pack(
        friend.state,
        friend.key,
        friend.request_text,
        len(friend.request_text),
        friend.name,
        len(friend.name),
        friend.status_message,
        len(friend.status_message),
        friend.status,
        friend.nospam,
        friend.last_seen,
    )
