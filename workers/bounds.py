"""Which bounds a worker has: those of its datagrams, and those of its module."""

from collections.abc import Callable, Sequence
from typing import Any

from core.bounds import Bound, Bounds, of_attribute
from core.crypto import SharedKeys
from workers.datagrams import Datagrams


def of_worker(datagrams: Datagrams, keys: SharedKeys, module: Any) -> Bounds:
    """Returns all of them; a module may have a method `bounds`."""
    misses = datagrams.misses
    rows = [
        of_attribute("keys.shared", keys, "capacity", lambda: len(keys)),
        of_attribute("keys.waiting", misses, "capacity", lambda: len(misses)),
        of_attribute("keys.waiting_per_prefix", misses, "share", misses.fullest),
    ]
    own: Callable[[], Sequence[Bound]] | None = getattr(module, "bounds", None)
    return Bounds([*rows, *(own() if own is not None else ())])
