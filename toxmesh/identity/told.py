"""Events as plain data and back, for programs that use an identity of another process.

Bytes are hexadecimal text, enumerations their values; the name of the class stands in `event`.
"""

import typing
from dataclasses import fields
from enum import Enum
from types import UnionType
from typing import Any

from core.crypto import PublicKey
from core.messenger.events import (
    ConnectionChanged,
    CustomPacket,
    FileOffer,
    FriendRequest,
    IdentityConnected,
    NameChanged,
    StatusChanged,
    StatusMessageChanged,
    Typing,
)
from toxmesh.identity.inbox import EventsLost, StoredMessage

Told = (
    ConnectionChanged
    | CustomPacket
    | EventsLost
    | FileOffer
    | FriendRequest
    | IdentityConnected
    | NameChanged
    | StatusChanged
    | StatusMessageChanged
    | StoredMessage
    | Typing
)
"""What programs of other processes hear of. Pieces of files are not among it: there, files come and
go by their paths."""

_CLASSES: dict[str, Any] = {each.__name__: each for each in typing.get_args(Told)}


def _types(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind)}


_TYPES = {name: _types(kind) for name, kind in _CLASSES.items()}


def is_told(event: object) -> bool:
    """Tells whether programs of other processes hear of such an event."""
    return isinstance(event, Told)


def row_of(event: Any) -> dict[str, Any]:
    """Returns an event as plain data."""
    name = type(event).__name__
    return {"event": name} | {field: _plain(getattr(event, field)) for field in _TYPES[name]}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return value.value if isinstance(value, Enum) else value


def event_of(row: dict[str, Any]) -> Any:
    """Reads what `row_of` made: one of Told. Raises ValueError, KeyError or TypeError for what is
    none; fields that are not known here are passed over."""
    types = _TYPES[row["event"]]
    return _CLASSES[row["event"]](**{name: _read(kind, row[name]) for name, kind in types.items()})


def _read(kind: Any, value: Any) -> Any:
    if kind is PublicKey or kind is bytes:
        return bytes.fromhex(value)
    if isinstance(kind, UnionType):  # of None and another
        return value
    return kind(value)
