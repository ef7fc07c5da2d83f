"""What operators may ask any worker, whatever its role: its queues, its keys, its datagrams."""

import sys
from typing import Any

from core.asking import Ask
from core.link.taps import Framed, Taps
from core.module import Context, Module
from workers.datagrams import Datagrams
from workers.outbox import WorkerOutbox

_KEY_BYTES = 2 * 80  # a key and its combined key: bytes objects of 65 bytes, in steps of 16


def questions(
    context: Context, out: WorkerOutbox, datagrams: Datagrams, module: Module
) -> dict[str, Ask]:
    """Returns who answers what."""

    framed = module if isinstance(module, Framed) else None
    taps = Taps(datagrams, out.senders, context.events, framed=framed)

    def queues(what: str, args: dict[str, Any], now: float) -> list[dict[str, Any]]:
        """Returns what waits here: messages for each other process, and datagrams of new keys."""
        rows = [
            {
                "queue": "messages",
                "of": f"{role}.{shard}" if role != "broker" else "broker",
                "waiting": len(box),
                "limit": box.limit,
                "up": box.outlet is not None,
            }
            for (role, shard), box in sorted(out.mailboxes.items())
        ]
        misses = datagrams.misses
        row = {"queue": "new keys", "of": "", "waiting": len(misses), "limit": misses.capacity}
        return [*rows, {**row, "up": True}]

    def keys(what: str, args: dict[str, Any], now: float) -> dict[str, int]:
        """Returns the state of the cache of combined keys."""
        cache = context.key_cache()
        young, old = cache.generations()
        tables = sum(map(sys.getsizeof, (young, old)))
        return {
            "young": len(young),
            "old": len(old),
            "capacity": cache.capacity,
            "hits": cache.hits,
            "misses": cache.misses,
            "bytes": tables + len(cache) * _KEY_BYTES,
        }

    return {"queues": queues, "keys cache": keys, **taps.questions()}
