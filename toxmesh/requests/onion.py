"""Requests that look into what onion shards keep and do: announces, groups, data, hops."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from core.asking import MOST_ROWS, key_of, whole_number
from ops.kinds import NAMES
from toxmesh import rates, status
from toxmesh.control import Later, Request

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

ROLE = "onion"
_TOP = 10  # prefixes shown if nobody says how many

ANNOUNCE_REASONS = (
    "announce_size",
    "announce_not_opened",
    "ping_id",
    "announce_store_full",
    "group_announce",
    "group_budget",
    "group_chats_full",
    "service_off:announce",
)
ROUTE_REASONS = ("data_request_size", "not_announced")
DATA_REASONS = (
    "data_announce_size",
    "data_announce_not_opened",
    "data_search_size",
    "data_retrieve_size",
    "data_store_size",
    "data_store_not_opened",
    "data_store_type",
    "data_store_full",
    "data_token",
    "data_not_stored",
    "data_other_hash",
    "service_off:data",
)
HOP_REASONS = (
    "onion_size",
    "onion_not_opened",
    "onion_payload",
    "onion_return",
    "target_family",
    "target_forbidden",
    "target_port_zero",
    "target_private",
    "service_off:onion",
)
FORWARD_REASONS = (
    "forward_size",
    "forward_chain",
    "forward_unknown_node",
    "forward_not_asked",
    "forward_kind",
    "forward_sendback",
    "service_off:forward",
)
ANNOUNCE_KINDS = (0x83, 0x84, 0x87, 0x88)
ROUTE_KINDS = (0x85, 0x86)
DATA_KINDS = (0x93, 0x94, 0x95, 0x96, 0x97, 0x98)
HOP_KINDS = (0x80, 0x81, 0x82, 0x8C, 0x8D, 0x8E)
FORWARD_KINDS = (0x90, 0x91, 0x92)

Answers = Mapping[str, dict[str, Any]]
"""By the name of the shard."""


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""

    def asks(
        what: str, merge: Callable[["Supervisor", dict[str, Any], Answers], dict[str, Any]]
    ) -> Request:
        def handle(args: dict[str, Any]) -> Later:
            merged = node.asker.ask(ROLE, what, args)
            return merged.map(lambda answers: merge(node, args, answers))

        return Request(handle)

    return {
        "announces find": asks("announces find", _find),
        "announces stats": asks("announces stats", _stats),
        "announces groups": asks("announces groups", _groups),
        "data": asks("data", _data),
        "onion": asks("onion", _onion),
    }


class Counts:
    """What the whole node has counted, and counts in a second."""

    def __init__(self, node: "Supervisor") -> None:
        self._totals = status.totals(node)[0]
        beats = [(row.before, row.beat) for row in node.children]
        self._rates = rates.of_all(beats, time.monotonic())

    def kinds(self, kinds: Iterable[int]) -> list[dict[str, Any]]:
        """Returns a row for each kind of datagram."""
        return [
            {
                "kind": f"0x{kind:02x}",
                "name": NAMES[kind],
                "received": self._totals.received[kind],
                "received_per_s": round(self._rates.get(("received", f"0x{kind:02x}"), 0.0), 1),
                "sent": self._totals.sent[kind],
                "sent_per_s": round(self._rates.get(("sent", f"0x{kind:02x}"), 0.0), 1),
            }
            for kind in kinds
        ]

    def refusals(self, reasons: Iterable[str]) -> list[dict[str, Any]]:
        """Returns a row for each reason that was counted, the most first."""
        rows = [
            {
                "reason": reason,
                "count": self._totals.drops[reason],
                "per_s": round(self._rates.get(("drops", reason), 0.0), 1),
            }
            for reason in reasons
            if self._totals.drops[reason]
        ]
        return sorted(rows, key=lambda row: -row["count"])


def _shards(answers: Answers) -> list[tuple[str, dict[str, Any]]]:
    return sorted(answers.items(), key=lambda row: (len(row[0]), row[0]))


def _find(node: "Supervisor", args: dict[str, Any], answers: Answers) -> dict[str, Any]:
    """Puts together what each shard has under a key; it may be with one that is not the owner."""
    shards = _shards(answers)
    first = shards[0][1]
    found: dict[str, Any] = {
        "key": key_of(args).hex().upper(),
        "slot": first["slot"],
        "owner": f"{ROLE}.{first['owner']}",
        "entry": None,
        "data": None,
        "chat": None,
    }
    for name, answer in shards:
        for what in ("entry", "data", "chat"):
            if answer[what] is not None and (found[what] is None or name == found["owner"]):
                found[what] = {"shard": name, **answer[what]}
    found["others"] = [
        {"shard": name, "believes": answer["believes"]}
        for name, answer in shards
        if name != found["owner"]
    ]
    return found


def _stats(node: "Supervisor", args: dict[str, Any], answers: Answers) -> dict[str, Any]:
    """Adds up the shards; what each tells of some entries counts for as many as it has."""
    most = whole_number(args, "limit", _TOP, 1, 100)
    counts = Counts(node)
    rows = [answer for _, answer in _shards(answers)]
    weighted: Counter[str] = Counter()
    ages = [0.0] * len(rows[0]["ages"])
    sums: Counter[str] = Counter()
    for row in rows:
        weight = row["entries"] / max(1, row["sampled"])
        for prefix, count in row["top"].items():
            weighted[prefix] += count * weight
        for index, count in enumerate(row["ages"]):
            ages[index] += count * weight
        for name in ("ipv4", "ipv6", "local"):
            sums[name] += row[name] * weight
        for name in ("entries", "capacity", "chats", "chats_capacity", "sampled"):
            sums[name] += row[name]
        sums.update(row["filters"])
    entries = max(1, sums["entries"])
    filled = [row for row in rows if row["entries"]]
    nearest = [row["nearest_bits"] for row in filled]
    return {
        "entries": sums["entries"],
        "capacity": sums["capacity"],
        "sampled": sums["sampled"],
        "oldest_s": max((row["oldest_s"] for row in filled), default=None),
        "newest_s": min((row["newest_s"] for row in filled), default=None),
        "nearest_bits": max(nearest, default=None),
        "ages": [
            {"from_s": 60 * index, "to_s": 60 * index + 60, "entries": round(count)}
            for index, count in enumerate(ages)
        ],
        "ipv4": round(sums["ipv4"]),
        "ipv6": round(sums["ipv6"]),
        "local": round(sums["local"]),
        "prefixes": [
            {"prefix": prefix, "entries": round(count), "share": round(count / entries, 4)}
            for prefix, count in weighted.most_common(most)
        ],
        "chats": sums["chats"],
        "chats_capacity": sums["chats_capacity"],
        "searches": {
            "answered_at_once": sums["spared"],
            "told_to_owner": sums["crossed"] + sums["blind"],
            "without_filter": sums["blind"],
            "in_vain": sums["in_vain"],
            "filters_known": sums["known"],
            "filters_wanted": len(rows) * (len(rows) - 1),
        },
        "kinds": counts.kinds(ANNOUNCE_KINDS),
        "refusals": counts.refusals(ANNOUNCE_REASONS),
        "shards": [
            {
                "name": name,
                "entries": row["entries"],
                "capacity": row["capacity"],
                "chats": row["chats"],
                "oldest_s": row["oldest_s"],
            }
            for name, row in _shards(answers)
        ],
    }


def _groups(node: "Supervisor", args: dict[str, Any], answers: Answers) -> dict[str, Any]:
    """Lists chats of all shards, the one announced last first; or the peers of one."""
    most = whole_number(args, "limit", 100, 1, MOST_ROWS)  # a shard gives 500 at most
    one = "key" in args
    rows = [
        row if one else {**row, "shard": name}
        for name, answer in _shards(answers)
        for row in answer["rows"]
    ]
    if not one:
        rows.sort(key=lambda row: row["age_s"])
    shown = rows[:most]
    return {
        "chat_id": key_of(args).hex().upper() if one else None,
        "chats": [] if one else shown,
        "peers": shown if one else [],
        "total": sum(answer["total"] for answer in answers.values()),
        "shown": len(shown),
    }


def _data(node: "Supervisor", args: dict[str, Any], answers: Answers) -> dict[str, Any]:
    """Tells what becomes of data for announced clients, and of data announcements."""
    counts = Counts(node)
    rows = _shards(answers)
    (asked, _) = counts.kinds(ROUTE_KINDS)
    refusals = counts.refusals(ROUTE_REASONS)
    refused = sum(row["count"] for row in refusals)
    refused_per_s = sum(row["per_s"] for row in refusals)
    return {
        "routes": sum(row["routes"] for _, row in rows),
        "requests": asked["received"],
        "requests_per_s": asked["received_per_s"],
        "passed_on": max(0, asked["received"] - refused),
        "passed_on_per_s": round(max(0.0, asked["received_per_s"] - refused_per_s), 1),
        "refusals": refusals,
        "entries": sum(row["entries"] for _, row in rows),
        "capacity": sum(row["capacity"] for _, row in rows),
        "kinds": counts.kinds(DATA_KINDS),
        "entry_refusals": counts.refusals(DATA_REASONS),
        "shards": [{"name": name, **row} for name, row in rows],
    }


def _onion(node: "Supervisor", args: dict[str, Any], answers: Answers) -> dict[str, Any]:
    """Tells what passes through the hops, and how old the secrets are that seal the way back."""
    counts = Counts(node)
    frames: Counter[str] = Counter()
    for row in node.children:
        frames.update(row.beat.get("snapshot", {}).get("frames", {}))
    return {
        **next(iter(answers.values())),
        "shards": len(answers),
        "hops": counts.kinds(HOP_KINDS),
        "relay_requests": frames["08"],
        "relay_forwards": frames["0a"],
        "refusals": counts.refusals(HOP_REASONS),
        "forward": counts.kinds(FORWARD_KINDS),
        "forward_refusals": counts.refusals(FORWARD_REASONS),
    }
