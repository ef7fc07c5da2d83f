"""Requests that look into every process: queues, keys at hand, who sends how much."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from core.asking import listing
from core.sampling import prefix_text
from toxmesh.control import Later, Request

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {
        "queues": Request(lambda args: queues(node, args)),
        "keys cache": Request(lambda args: keys_cache(node, args)),
        "prefixes": Request(lambda args: prefixes(node, args)),
    }


def queues(node: "Supervisor", args: dict[str, Any]) -> Later:
    """Lists all that can wait: in the kernel, in brokers, in workers; what waits most first."""
    kernel = [
        {
            "where": "kernel",
            "owner": reader,
            "queue": name or "all",
            "of": reader,
            "waiting": None,
            "bytes": queue.size,
            "limit": None,
            "drops": queue.drops,
            "up": True,
        }
        for reader, name, queue in node.bound.kernel_queues()
    ]

    def put_together(answers: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
        rows = kernel + [
            {"where": "process", "owner": owner, "bytes": None, "drops": None, **row}
            for owner, found in answers.items()
            for row in found
        ]
        rows.sort(key=lambda row: (-(row["waiting"] or 0), -(row["bytes"] or 0), row["owner"]))
        return listing(rows, args)

    return node.asker.ask("*", "queues").map(put_together)


def keys_cache(node: "Supervisor", args: dict[str, Any]) -> Later:
    """Lists how many combined keys each worker has at hand."""

    def put_together(answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
        rows = []
        for name, row in sorted(answers.items()):
            asked = row["hits"] + row["misses"]
            ratio = round(row["hits"] / asked, 4) if asked else None
            rows.append({"worker": name, **row, "hit_ratio": ratio})
        return listing(rows, args)

    return node.asker.ask("*", "keys cache").map(put_together)  # brokers have none, and say so


def prefixes(node: "Supervisor", args: dict[str, Any]) -> Later:
    """Lists who sends most datagrams, by /24 and /64; the first look begins to count."""

    def put_together(answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
        packets: Counter[str] = Counter()  # by prefix as hex
        sizes: Counter[str] = Counter()
        for answer in answers.values():
            for prefix, count, size in answer["rows"]:
                packets[prefix] += count
                sizes[prefix] += size
        rows = [
            {
                "prefix": prefix_text(bytes.fromhex(prefix)),
                "packets_per_s": round(count, 1),
                "bytes_per_s": round(sizes[prefix], 1),
            }
            for prefix, count in packets.most_common()
        ]
        seconds = max((row["seconds"] for row in answers.values()), default=0.0)
        return {"seconds": seconds, **listing(rows, args)}

    return node.asker.ask("*", "prefixes").map(put_together)
