"""The part of libtoxcore's C interface that the tests use, for 0.2.18 and 0.2.20 alike.

Options are set through accessor functions, since the layout of the structure differs between
versions. Only one version can be loaded into a process: `tests.interop.client` is that process.
"""

import ctypes
from collections.abc import Callable
from ctypes import (
    CFUNCTYPE,
    POINTER,
    byref,
    c_bool,
    c_char_p,
    c_int,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    create_string_buffer,
)
from dataclasses import dataclass
from typing import Any

ADDRESS_SIZE = 38  # tox.h: TOX_ADDRESS_SIZE
KEY_SIZE = 32
HASH_SIZE = 32
NONE_U32 = 0xFFFFFFFF  # what calls that return a number return on failure
NONE_U64 = 0xFFFFFFFFFFFFFFFF

CONNECTION_NONE, CONNECTION_TCP, CONNECTION_UDP = 0, 1, 2  # tox.h: Tox_Connection
MESSAGE_NORMAL = 0  # tox.h: Tox_Message_Type
FILE_KIND_DATA = 0  # tox.h: Tox_File_Kind
FILE_RESUME = 0  # tox.h: Tox_File_Control
SAVEDATA_TOX = 1  # tox.h: Tox_Savedata_Type
GROUP_PUBLIC = 0  # tox.h: Tox_Group_Privacy_State
SEND_QUEUE_FULL = 4  # tox.h: Tox_Err_Friend_Send_Message
CHUNK_QUEUE_FULL = 7  # tox.h: Tox_Err_File_Send_Chunk

_ERROR = POINTER(c_int)

# name: result, then what stands between the Tox pointer and the error pointer
_CALLS: dict[str, tuple[Any, ...]] = {
    "bootstrap": (c_bool, c_char_p, c_uint16, c_char_p),
    "add_tcp_relay": (c_bool, c_char_p, c_uint16, c_char_p),
    "self_set_name": (c_bool, c_char_p, c_size_t),
    "self_set_status_message": (c_bool, c_char_p, c_size_t),
    "self_set_typing": (c_bool, c_uint32, c_bool),
    "friend_add": (c_uint32, c_char_p, c_char_p, c_size_t),
    "friend_add_norequest": (c_uint32, c_char_p),
    "friend_send_message": (c_uint32, c_uint32, c_int, c_char_p, c_size_t),
    "file_send": (c_uint32, c_uint32, c_uint32, c_uint64, c_char_p, c_char_p, c_size_t),
    "file_send_chunk": (c_bool, c_uint32, c_uint32, c_uint64, c_char_p, c_size_t),
    "file_control": (c_bool, c_uint32, c_uint32, c_int),
    "file_seek": (c_bool, c_uint32, c_uint32, c_uint64),
    "file_get_file_id": (c_bool, c_uint32, c_uint32, c_char_p),
    "friend_send_lossless_packet": (c_bool, c_uint32, c_char_p, c_size_t),
    "friend_send_lossy_packet": (c_bool, c_uint32, c_char_p, c_size_t),
    "friend_delete": (c_bool, c_uint32),
    "conference_new": (c_uint32,),
    "conference_invite": (c_bool, c_uint32, c_uint32),
    "conference_join": (c_uint32, c_uint32, c_char_p, c_size_t),
    "conference_send_message": (c_bool, c_uint32, c_int, c_char_p, c_size_t),
    "conference_peer_count": (c_uint32, c_uint32),
}
_GROUP_CALLS: dict[str, tuple[Any, ...]] = {
    "group_new": (c_uint32, c_int, c_char_p, c_size_t, c_char_p, c_size_t),
    "group_get_chat_id": (c_bool, c_uint32, c_char_p),
    "group_join": (c_uint32, c_char_p, c_char_p, c_size_t, c_char_p, c_size_t),
    "group_send_message": (c_uint32, c_uint32, c_int, c_char_p, c_size_t),
    "group_is_connected": (c_bool, c_uint32),
}

_BYTES = POINTER(c_uint8)

# name: what stands between the Tox pointer and the user data
_CALLBACKS: dict[str, tuple[Any, ...]] = {
    "self_connection_status": (c_int,),
    "friend_request": (_BYTES, _BYTES, c_size_t),
    "friend_connection_status": (c_uint32, c_int),
    "friend_message": (c_uint32, c_int, _BYTES, c_size_t),
    "friend_read_receipt": (c_uint32, c_uint32),
    "friend_name": (c_uint32, _BYTES, c_size_t),
    "friend_status_message": (c_uint32, _BYTES, c_size_t),
    "friend_status": (c_uint32, c_int),
    "friend_typing": (c_uint32, c_bool),
    "friend_lossless_packet": (c_uint32, _BYTES, c_size_t),
    "friend_lossy_packet": (c_uint32, _BYTES, c_size_t),
    "file_recv": (c_uint32, c_uint32, c_uint32, c_uint64, _BYTES, c_size_t),
    "file_recv_chunk": (c_uint32, c_uint32, c_uint64, _BYTES, c_size_t),
    "file_recv_control": (c_uint32, c_uint32, c_int),
    "file_chunk_request": (c_uint32, c_uint32, c_uint64, c_size_t),
    "conference_invite": (c_uint32, c_int, _BYTES, c_size_t),
    "conference_connected": (c_uint32,),
    "conference_message": (c_uint32, c_uint32, c_int, _BYTES, c_size_t),
    "conference_peer_list_changed": (c_uint32,),
}
_GROUP_CALLBACKS: dict[str, tuple[Any, ...]] = {
    "group_self_join": (c_uint32,),
    "group_join_fail": (c_uint32, c_int),
    "group_peer_join": (c_uint32, c_uint32),
    "group_message": (c_uint32, c_uint32, c_int, _BYTES, c_size_t, c_uint32),
}


class ToxError(Exception):
    """A call of libtoxcore failed; `code` is the error number of that call."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"tox_{call} failed with error {code}")
        self.code = code


@dataclass(frozen=True)
class Options:
    """What a client is started with.

    `port` 0 leaves the choice of a UDP port to the library; a `tcp_port` makes it a relay.
    """

    udp: bool = True
    port: int = 0
    tcp_port: int = 0
    ipv6: bool = False
    saved: bytes = b""
    """A profile to begin with; empty: a new identity."""


class Library:
    """One loaded libtoxcore."""

    def __init__(self, path: str) -> None:
        self.c = ctypes.CDLL(path)
        parts = [getattr(self.c, f"tox_version_{name}") for name in ("major", "minor", "patch")]
        for part in parts:
            part.restype = c_uint32
        self.version: tuple[int, ...] = tuple(int(part()) for part in parts)
        self.has_groups = self.version >= (0, 2, 19)
        for name, (result, *arguments) in self._calls().items():
            call = getattr(self.c, f"tox_{name}")
            call.restype = result
            call.argtypes = [c_void_p, *arguments, _ERROR]
        self._declare("options_new", c_void_p, _ERROR)
        self._declare("options_free", None, c_void_p)
        for switch in ("ipv6_enabled", "udp_enabled", "local_discovery_enabled"):
            self._declare(f"options_set_{switch}", None, c_void_p, c_bool)
        for port in ("start_port", "end_port", "tcp_port"):
            self._declare(f"options_set_{port}", None, c_void_p, c_uint16)
        self._declare("options_set_savedata_type", None, c_void_p, c_int)
        self._declare("options_set_savedata_data", None, c_void_p, c_char_p, c_size_t)
        self._declare("get_savedata_size", c_size_t, c_void_p)
        self._declare("get_savedata", None, c_void_p, c_char_p)
        self._declare("self_set_status", None, c_void_p, c_int)
        self._declare("new", c_void_p, c_void_p, _ERROR)
        self._declare("kill", None, c_void_p)
        self._declare("iterate", None, c_void_p, c_void_p)
        self._declare("iteration_interval", c_uint32, c_void_p)
        self._declare("self_get_address", None, c_void_p, c_char_p)
        self._declare("self_get_dht_id", None, c_void_p, c_char_p)
        self._declare("self_get_udp_port", c_uint16, c_void_p, _ERROR)

    def _calls(self) -> dict[str, tuple[Any, ...]]:
        return {**_CALLS, **_GROUP_CALLS} if self.has_groups else _CALLS

    def callbacks(self) -> dict[str, tuple[Any, ...]]:
        """Returns the argument types of every callback this version has."""
        return {**_CALLBACKS, **_GROUP_CALLBACKS} if self.has_groups else _CALLBACKS

    def _declare(self, name: str, result: Any, *arguments: Any) -> None:
        call = getattr(self.c, f"tox_{name}")
        call.restype = result
        call.argtypes = list(arguments)


class Tox:
    """One Tox instance. Calls take what the C function takes between instance and error."""

    def __init__(self, library: Library, options: Options) -> None:
        self._library = library
        c = library.c
        made = c.tox_options_new(None)
        c.tox_options_set_ipv6_enabled(made, options.ipv6)
        c.tox_options_set_udp_enabled(made, options.udp)
        c.tox_options_set_local_discovery_enabled(made, False)
        c.tox_options_set_start_port(made, options.port)
        c.tox_options_set_end_port(made, options.port)
        c.tox_options_set_tcp_port(made, options.tcp_port)
        if options.saved:
            c.tox_options_set_savedata_type(made, SAVEDATA_TOX)
            c.tox_options_set_savedata_data(made, options.saved, len(options.saved))
        error = c_int(0)
        self._tox = c.tox_new(made, byref(error))
        c.tox_options_free(made)
        if not self._tox:
            raise ToxError("new", error.value)
        self._kept: list[Any] = []

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls `tox_<name>`; raises ToxError when the library reports an error."""
        error = c_int(0)
        result = getattr(self._library.c, f"tox_{name}")(self._tox, *arguments, byref(error))
        if error.value:
            raise ToxError(name, error.value)
        return result

    def on(self, name: str, handler: Callable[..., None]) -> None:
        """Has `handler` called with the arguments between instance and user data."""

        def adapter(_tox: int, *rest: Any) -> None:
            handler(*rest[:-1])

        arguments = self._library.callbacks()[name]
        function = CFUNCTYPE(None, c_void_p, *arguments, c_void_p)(adapter)
        self._kept.append(function)  # the library keeps a bare pointer
        register = getattr(self._library.c, f"tox_callback_{name}")
        register.restype = None
        register.argtypes = [c_void_p, type(function)]
        register(self._tox, function)

    def iterate(self) -> None:
        """Does what is due, and calls the handlers."""
        self._library.c.tox_iterate(self._tox, None)

    def interval_s(self) -> float:
        """Returns after how many seconds `iterate` wants to be called again."""
        return int(self._library.c.tox_iteration_interval(self._tox)) / 1000

    def address(self) -> bytes:
        """Returns the 38 bytes of the Tox ID: real public key, nospam, checksum."""
        buffer = create_string_buffer(ADDRESS_SIZE)
        self._library.c.tox_self_get_address(self._tox, buffer)
        return buffer.raw

    def dht_id(self) -> bytes:
        """Returns the DHT public key."""
        buffer = create_string_buffer(KEY_SIZE)
        self._library.c.tox_self_get_dht_id(self._tox, buffer)
        return buffer.raw

    def saved(self) -> bytes:
        """Returns the profile as the library would write it to a file."""
        buffer = create_string_buffer(self._library.c.tox_get_savedata_size(self._tox))
        self._library.c.tox_get_savedata(self._tox, buffer)
        return buffer.raw

    def set_status(self, status: int) -> None:
        """Says whether its owner is there (0), away (1) or busy (2)."""
        self._library.c.tox_self_set_status(self._tox, status)

    def chat_id(self, group: int) -> bytes:
        """Returns the chat id of a group."""
        buffer = create_string_buffer(KEY_SIZE)
        self.call("group_get_chat_id", group, buffer)
        return buffer.raw

    def udp_port(self) -> int:
        """Returns the UDP port the instance is bound to."""
        error = c_int(0)
        return int(self._library.c.tox_self_get_udp_port(self._tox, byref(error)))

    def close(self) -> None:
        """Ends the instance."""
        self._library.c.tox_kill(self._tox)


def bytes_at(pointer: Any, size: int) -> bytes:
    """Copies `size` bytes from what a callback was given."""
    return ctypes.string_at(pointer, size) if size else b""
