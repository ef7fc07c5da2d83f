"""Every bound of the node that a stranger can fill: what it is for, and what it may be set to.

The processes know their bounds and how full these are (`core.bounds`); here stands what people need
to read and change them. Those that are fixed are here too, so that one list has them all.
"""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from core.asking import NOT_FOUND, REFUSED, USAGE, CannotAnswer
from toxmesh.bans import MOST as MOST_BANS

Number = int | float


class Limit(NamedTuple):
    """One bound, as operators see it."""

    name: str
    unit: str
    meaning: str
    reasons: tuple[str, ...] = ()  # under which that is counted which it refused or let go
    least: Number = 0
    most: Number = 0  # 0: it is fixed
    setting: str = ""  # that has it after a restart
    fixed: Number | None = None  # its value, where no process tells it


_CONNECTIONS = "connections"
_S = "seconds"

LIMITS = (
    Limit("relay.connections", _CONNECTIONS, "TCP connections, as far as descriptors allow",
          ("relay_accept_paused",), 1, 1_000_000, "relay_connections"),
    Limit("relay.per_address", _CONNECTIONS, "from one address; 0: any number",
          ("relay_per_address",), 0, 1_000_000, "relay_per_address"),
    Limit("relay.per_prefix", _CONNECTIONS, "from one /24 or /64; 0: any number",
          ("relay_per_prefix",), 0, 1_000_000, "relay_per_prefix"),
    Limit("relay.unconfirmed", _CONNECTIONS, "without a good frame yet; then the oldest goes",
          ("relay_unconfirmed_oldest",), 16, 1_000_000),
    Limit("relay.unconfirmed_per_address", _CONNECTIONS, "of them from one address; 0: any number",
          ("relay_unconfirmed_per_address",), 0, 1_000_000, "relay_per_address"),
    Limit("relay.hello_s", _S, "until the whole hello of a client must be there",
          ("relay_hello_late",), 1, 60),
    Limit("relay.confirm_s", _S, "from the hello to the first good frame",
          ("relay_confirm_late",), 1, 60),
    Limit("relay.stuck_s", _S, "that a full client may take no byte", ("relay_stuck",), 1, 600),
    Limit("relay.queue_bytes", "bytes", "data that waits for one client; more is dropped",
          ("relay_receiver_full", "relay_answer_full", "relay_oob_full"), 36 << 10, 16 << 20),
    Limit("relay.control_bytes", "bytes", "all that waits for one client; more closes it",
          ("relay_control_overflow",), 40 << 10, 32 << 20),
    Limit("relay.links", "links", "of one client: an id has one byte (the protocol)", fixed=240),
    Limit("keys.shared", "keys", "combined keys kept by a process; then those unused longest go",
          (), 1_000, 5_000_000),
    Limit("keys.waiting", "datagrams", "that wait in a worker for a new sender's key",
          ("new_key:all",), 64, 65_536),
    Limit("keys.waiting_per_prefix", "datagrams", "of them from one /24 or /64",
          ("new_key:prefix",), 1, 65_536),
    Limit("broker.queue", "datagrams", "that wait for one worker (broker dispatch)",
          ("queue_full:query", "queue_full:onion", "queue_full:announce", "queue_full:other"),
          256, 262_144),
    Limit("info.per_prefix", "a second", "answers to bootstrap info requests of one /24 or /64",
          ("budget:0xf0",), 1, 10_000),
    Limit("info.prefixes", "prefixes", "that get such answers in one second",
          ("budget:0xf0",), 16, 1_000_000),
    Limit("onion.announces", "entries", "clients announced in one worker; the farthest go",
          ("announce_store_full",), 16, 100_000),
    Limit("onion.group_chats", "chats", "in one worker; the one announced longest ago goes",
          ("group_chats_full",), 16, 100_000),
    Limit("onion.group_chats_per_prefix", "chats", "of them opened from one /24 or /64",
          ("group_budget",), 1, 1_000_000),
    Limit("onion.group_peers", "announces", "of one chat; the oldest goes", fixed=16),
    Limit("onion.data_entries", "entries", "of data in one worker; the farthest go",
          ("data_store_full",), 16, 100_000),
    Limit("dht.close_nodes", "nodes", "in the close list: 128 buckets of 8",
          ("dht_no_room", "dht_candidate_no_room"), fixed=1024),
    Limit("dht.candidates", "in 2 s", "new nodes that are considered, in each worker",
          ("dht_candidate_too_many",), fixed=32),
    Limit("dht.requests", "requests", "of ours that wait for answers; the oldest is forgotten",
          fixed=512),
    Limit("dht.lan_neighbours", "in 10 s", "senders of LAN discovery that are asked",
          ("dht_lan_too_many",), fixed=32),
    Limit("bans", "bans", "that are kept", fixed=MOST_BANS),
    Limit("control.connections", _CONNECTIONS, "at the control door", ("control_full",), fixed=128),
    Limit("http.connections", _CONNECTIONS, "at the door of metrics and page",
          ("http_full", "http_made_room"), fixed=64),
)  # fmt: skip

BY_NAME: Mapping[str, Limit] = {row.name: row for row in LIMITS}


class Laid(NamedTuple):
    """What an operator has laid down for one limit."""

    value: Number
    until: float | None  # unix seconds; None: as long as the node runs


def find(name: str) -> Limit:
    """Returns a limit; raises CannotAnswer with those that have a similar name."""
    found = BY_NAME.get(name)
    if found is None:
        near = [row.name for row in LIMITS if name.rpartition(".")[2][:6] in row.name]
        hint = ", ".join(near[:5]) if name and near else "see toxmesh ops limits show"
        raise CannotAnswer(NOT_FOUND, f"there is no limit {name[:60]!r}; {hint}")
    return found


def checked(limit: Limit, value: object) -> Number:
    """Returns a value that a limit may have; raises CannotAnswer with what it may be."""
    if not limit.most:
        raise CannotAnswer(REFUSED, f"{limit.name} is built in and cannot be changed")
    whole = not limit.name.endswith("_s")
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or value != value:
        word = "whole number" if whole else "number"
        raise CannotAnswer(USAGE, f"{limit.name} must be a {word}")
    number: Number = value
    if not limit.least <= number <= limit.most:
        raise CannotAnswer(
            USAGE, f"{limit.name} must be from {limit.least:,} to {limit.most:,} {limit.unit}"
        )
    return number


class Limits:
    """What is laid down now; it lasts over upgrades of the node, and ends with it."""

    def __init__(self, kept: dict[str, list[Any]]) -> None:
        """`kept`: by name value and end, changed as this changes: what the node's life keeps."""
        self._kept = kept
        self.next_end: float | None = None
        self._count_end()

    def values(self) -> dict[str, Number]:
        """Returns what processes are told."""
        return {name: row[0] for name, row in self._kept.items()}

    def of(self, name: str) -> Laid | None:
        """Returns what is laid down for one limit."""
        row = self._kept.get(name)
        return None if row is None else Laid(row[0], row[1])

    def lay(self, name: str, value: Number | None, until: float | None) -> None:
        """Lays something down, or (None) takes it back."""
        if value is None:
            self._kept.pop(name, None)
        else:
            self._kept[name] = [value, until]
        self._count_end()

    def over(self, now: float) -> list[str]:
        """Takes back what has lasted long enough; returns which."""
        if self.next_end is None or self.next_end > now:
            return []
        ended = [name for name, row in self._kept.items() if row[1] and row[1] <= now]
        for name in ended:
            del self._kept[name]
        self._count_end()
        return ended

    def _count_end(self) -> None:
        self.next_end = min((row[1] for row in self._kept.values() if row[1]), default=None)


def row_of(
    limit: Limit,
    told: Mapping[str, Mapping[str, Any]],
    laid: Laid | None,
    refused: int,
    use: Number | None,
) -> dict[str, Any]:
    """Returns one limit as operators see it; `told`: by process value, default and use."""
    value: Number | None = limit.fixed
    default: Number | None = limit.fixed
    fullest = ""
    for name, row in told.items():
        value, default = row["value"], row["default"]
        if row["use"] is not None and (use is None or row["use"] > use):
            use, fullest = row["use"], name
    return {
        "name": limit.name,
        "value": value,
        "default": default,
        "unit": limit.unit,
        "use": use,
        "fullest": fullest,
        "refused": refused,
        "reasons": list(limit.reasons),
        "changed": laid is not None,
        "left_s": (
            None
            if laid is None or laid.until is None
            else round(max(0.0, laid.until - time.time()), 1)
        ),
        "live": bool(limit.most),
        "least": limit.least if limit.most else None,
        "most": limit.most or None,
        "setting": limit.setting,
        "meaning": limit.meaning,
    }
