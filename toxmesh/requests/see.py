"""Requests that look at the node as a whole: its processes, rates, drops and routes."""

import time
from typing import TYPE_CHECKING, Any

from core.asking import USAGE, CannotAnswer, key_of, listing, text_of
from core.packets import ROUTES
from core.slots import SLOT_BYTE, SlotTable, slot_of
from ops.kinds import NAMES
from toxmesh import rates, status
from toxmesh.control import Follow, Request
from toxmesh.reasons import explain

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

EVENTS = ("worker", "node", "log", "relay", "link", "dht", "ban", "drops")
"""What may be followed: workers that come and go, changes of the node's state, log records,
relay clients that come and go, their links, close nodes that change, bans, drops of each second."""


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {
        "status": Request(lambda args: status.report(node)),
        "watch": Request(watch),
        "workers": Request(lambda args: workers(node, args)),
        "rates": Request(lambda args: current_rates(node)),
        "drops": Request(lambda args: drops(node, args)),
        "routes": Request(lambda args: routes(node, args)),
        "capture": Request(node.followers.captures.begin, full=True),
    }


def watch(args: dict[str, Any]) -> Follow:
    """Follows events; args: names, a list of some of EVENTS."""
    names = args.get("names")
    if not isinstance(names, list) or not names or not set(map(str, names)) <= set(EVENTS):
        raise CannotAnswer(USAGE, f"names must be a list of some of: {', '.join(EVENTS)}")
    return Follow({"following": names}, frozenset(names))


def workers(node: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Lists the node's processes but the supervisor."""
    return listing(status.processes(node, status.totals(node)[1]), args)


def current_rates(node: "Supervisor") -> dict[str, Any]:
    """Returns what is going on in this second."""
    now = time.monotonic()
    counted, waiting = status.totals(node)
    found = rates.of_all([(row.before, row.beat) for row in node.children], now)

    def per_s(group: str, name: str) -> float:
        return round(found.get((group, name), 0.0), 1)

    def sum_of(group: str) -> float:
        return round(sum(rate for (of, _), rate in found.items() if of == group), 1)

    rows = status.processes(node, waiting)
    tcp = node.children[0].beat.get("snapshot", {})
    return {
        "state": status.node_state(node),
        "uptime_s": round(now - node.started, 1),
        "received_per_s": sum_of("received"),
        "sent_per_s": sum_of("sent"),
        "drops_per_s": round(sum(node.followers.drop_rates.values()), 1),
        "new_keys_per_s": per_s("keys", "misses"),
        "cpu_percent": round(sum(row["cpu_percent"] for row in rows), 1),
        "rss": sum(row["rss"] for row in rows),
        "queue": sum(row["queue"] for row in rows),
        "queue_bytes": sum(row["queue_bytes"] for row in rows),
        "relay": {
            "connections": sum(tcp.get("connections", {}).values()),
            "bytes_in_per_s": per_s("relay", "bytes_in"),
            "bytes_out_per_s": per_s("relay", "bytes_out"),
        },
        "kinds": {
            kind: {
                "received": counted.received[int(kind, 16)],
                "sent": counted.sent[int(kind, 16)],
                "received_per_s": per_s("received", kind),
                "sent_per_s": per_s("sent", kind),
            }
            for kind in (f"0x{kind:02x}" for kind in sorted({*counted.received, *counted.sent}))
            if int(kind, 16) in NAMES
        },
        "other_per_s": per_s("received", "other"),
    }


def drops(node: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Lists reasons that begin with `prefix`, those that count now first."""
    prefix = text_of(args, "prefix", "")
    now_per_s = node.followers.drop_rates
    found = [
        (now_per_s.get(reason, 0.0), count, reason)
        for reason, count in status.totals(node)[0].drops.items()
        if reason.startswith(prefix)
    ]
    found.sort(key=lambda row: (-row[0], -row[1], row[2]))
    answer = listing(found, args)
    answer["rows"] = [_drop(*row) for row in answer["rows"]]
    return answer


def _drop(per_s: float, count: int, reason: str) -> dict[str, Any]:
    said = explain(reason)
    return {
        "reason": reason,
        "count": count,
        "per_s": per_s,
        "meaning": said.meaning,
        "todo": said.todo,
    }


def routes(node: "Supervisor", args: dict[str, Any]) -> dict[str, Any]:
    """Lists which role takes which kind, how shards share the slots, and who has a key."""
    tables = node.slots
    rows = [
        {
            "kind": f"0x{kind:02x}",
            "name": NAMES.get(kind, ""),
            "role": row.role,
            "slot_byte": row.slot_byte,
            "min_size": row.min_size,
            "max_size": row.max_size,
            "served": row.role == "broker" or row.role in tables,
        }
        for kind, row in sorted(ROUTES.items())
    ]
    answer: dict[str, Any] = {
        **listing(rows, args),
        "dispatch": node.dispatch,
        "slots": {role: _shares(table) for role, table in tables.items()},
    }
    if "key" in args:
        key = key_of(args)
        answer["key"] = {
            "public_key": key.hex().upper(),
            "slot_byte": SLOT_BYTE,
            "slot": slot_of(key),
            "owners": {role: f"{role}.{table.shard_of(key)}" for role, table in tables.items()},
        }
    return answer


def _shares(table: SlotTable) -> dict[str, Any]:
    """Returns which slots each shard has, as ranges from first to last."""
    ranges: dict[str, list[list[int]]] = {str(shard): [] for shard in sorted(set(table.shards))}
    for slot, shard in enumerate(table.shards):
        row = ranges[str(shard)]
        if row and row[-1][1] == slot - 1:
            row[-1][1] = slot
        else:
            row.append([slot, slot])
    count = len(ranges)
    return {
        "generation": table.generation,
        "shards": count,
        "even": table.shards == SlotTable.even(count).shards,
        "ranges": ranges,
    }
