"""The onion worker: hops, the announce store, data announcements and forwarding."""

from core.module import Context, Module
from core.onion import OnionModule
from workers.desk import Desk


def create(context: Context, desk: Desk) -> Module:
    """Makes the onion module; it needs nothing of the broker."""
    return OnionModule(context)
