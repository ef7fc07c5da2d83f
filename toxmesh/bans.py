"""Whom the operator has shut out: kept in the state directory, told to every process.

The file is JSON that a person can read; it is written whole or not at all at each change, and one
that cannot be read is set aside, as that of the known nodes.
"""

import ipaddress
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from core.asking import REFUSED, USAGE, CannotAnswer
from core.crypto import KEY_SIZE
from toxmesh import storage

FILE = "bans.json"
MOST = 10_000
MOST_NOTE = 200  # characters
MOST_SECONDS = 10 * 365 * 86400.0
_MOST_BYTES = MOST * (200 + 6 * MOST_NOTE)
_FORM = 1
_WIDEST = {4: 8, 6: 16}  # bits: what is wider takes in a large part of the world

log = logging.getLogger("toxmesh.bans")


class What(NamedTuple):
    """What is banned: a prefix (its first address, and its length in bits), or a key (-1)."""

    data: bytes
    bits: int

    @property
    def kind(self) -> str:
        """`key` or `prefix`."""
        return "key" if self.bits < 0 else "prefix"

    def __str__(self) -> str:
        if self.bits < 0:
            return self.data.hex().upper()
        return f"{ipaddress.ip_address(self.data)}/{self.bits}"


class Ban(NamedTuple):
    """One ban; times are unix seconds."""

    what: What
    since: float
    until: float | None  # None: until it is removed
    note: str

    def row(self, now: float) -> dict[str, Any]:
        """Returns it as operators see it."""
        return {
            "ban": str(self.what),
            "kind": self.what.kind,
            "since": round(self.since, 3),
            "until": None if self.until is None else round(self.until, 3),
            "left_s": None if self.until is None else round(max(0.0, self.until - now), 1),
            "note": self.note,
        }


def parse(text: str) -> What:
    """Reads a prefix (`192.0.2.0/24`, an address) or a key; raises CannotAnswer."""
    text = text.strip()
    if len(text) in (64, 76):
        try:
            return What(bytes.fromhex(text)[:KEY_SIZE], -1)
        except ValueError:
            pass
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise CannotAnswer(
                USAGE,
                f"{text[:80]!r} is neither a prefix (192.0.2.0/24, 2001:db8::/32), an address, "
                "nor a key of 64 hex digits",
            ) from None
        raise CannotAnswer(
            USAGE, f"{text} names one address and a length; did you mean {meant}?"
        ) from None
    data, bits = network.network_address.packed, network.prefixlen
    if data[:12] == bytes(10) + b"\xff\xff" and bits >= 96:  # sources never come in this form
        data, bits = data[12:], bits - 96
    return What(data, bits)


def nonsense(what: What, own_key: bytes) -> str:
    """Returns why a ban would hurt the operator most of all, or nothing."""
    if what.bits < 0:
        return ""
    size = len(what.data)
    version = 4 if size == 4 else 6
    if what.bits < _WIDEST[version]:
        return f"{what} is a large part of all addresses"
    loopback = ipaddress.ip_address("127.0.0.1" if version == 4 else "::1").packed
    left_out = 8 * size - what.bits
    number = int.from_bytes(what.data, "big")
    if int.from_bytes(loopback, "big") >> left_out == number >> left_out or (
        version == 4 and what.data[0] == 127
    ):
        return f"{what} is this machine itself"
    return ""


class BanList:
    """All bans of the node, and the file that outlives it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._rows: dict[What, Ban] = {}
        self.next_end: float | None = None
        """When the next one is over, unix seconds."""
        self._load()

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> list[Ban]:
        """Returns all, in the order in which they were made."""
        return list(self._rows.values())

    def find(self, what: What) -> list[Ban]:
        """Returns the bans that take in a key, an address or a whole prefix."""
        if what.bits < 0:
            return [row for row in (self._rows.get(what),) if row is not None]
        found = []
        for bits in range(what.bits + 1):
            left_out = 8 * len(what.data) - bits
            number = int.from_bytes(what.data, "big") >> left_out << left_out
            row = self._rows.get(What(number.to_bytes(len(what.data), "big"), bits))
            if row is not None:
                found.append(row)
        return found

    def add(self, rows: Sequence[Ban]) -> list[What]:
        """Puts bans in, or changes their time and note; returns those that are new."""
        new = [row.what for row in rows if row.what not in self._rows]
        if len(self._rows) + len(set(new)) > MOST:
            raise CannotAnswer(
                REFUSED,
                f"{MOST:,} bans may be kept and {len(self._rows):,} are; remove some, or ban a "
                "prefix in place of many addresses",
            )
        for row in rows:
            self._rows[row.what] = row
        self._count_end()
        return new

    def remove(self, whats: Iterable[What]) -> list[Ban]:
        """Takes bans back; returns those that there were."""
        gone = [self._rows.pop(what) for what in whats if what in self._rows]
        self._count_end()
        return gone

    def over(self, now: float) -> list[Ban]:
        """Takes out those whose time is over."""
        if self.next_end is None or self.next_end > now:
            return []
        ended = [row.what for row in self._rows.values() if row.until and row.until <= now]
        return self.remove(ended)

    def _count_end(self) -> None:
        ends = [row.until for row in self._rows.values() if row.until is not None]
        self.next_end = min(ends, default=None)

    # The file

    def save(self) -> bool:
        """Writes the file; False (and logged) if that cannot be."""
        rows = [
            {"ban": str(row.what), "since": row.since, "until": row.until, "note": row.note}
            for row in self._rows.values()
        ]
        data = orjson.dumps({"form": _FORM, "bans": rows}, option=orjson.OPT_INDENT_2) + b"\n"
        try:
            storage.replace(self._path, data)
        except OSError as error:
            log.warning("the bans could not be kept in %s: %s", self._path, error.strerror or error)
            return False
        return True

    def _load(self) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(self._path, flags), "rb") as file:
                rows = _read(file.read(_MOST_BYTES + 1))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, CannotAnswer) as error:
            self._set_aside(error)
            return
        self._rows = {row.what: row for row in rows}
        self._count_end()

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(FILE + ".damaged")
        try:
            self._path.rename(aside)
        except OSError as failure:
            log.error("%s cannot be read (%s) nor set aside: %s", self._path, error, failure)
        else:
            log.error("%s cannot be read (%s): nobody is banned; see %s", FILE, error, aside)


def _read(data: bytes) -> list[Ban]:
    body = orjson.loads(data)
    if body["form"] != _FORM or len(body["bans"]) > MOST:
        raise ValueError("it has another form, or too many rows")
    return [
        Ban(
            parse(row["ban"]),
            float(row["since"]),
            None if row["until"] is None else float(row["until"]),
            str(row["note"])[:MOST_NOTE],
        )
        for row in body["bans"]
    ]
