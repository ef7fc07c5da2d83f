"""The dht worker: answers pings and nodes requests; shard 0 keeps the table."""

from core.dht import DhtModule
from core.module import Context, Module
from workers.desk import Desk


def create(context: Context, desk: Desk) -> Module:
    """Makes the DHT module; it needs nothing of the broker."""
    return DhtModule(context)
