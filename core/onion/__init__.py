"""The onion part of a node: hops, the announce store, group and data announcements, forwarding."""

from core.onion.forwarding import Forwarding
from core.onion.hops import OnionHops
from core.onion.module import OnionModule

__all__ = ["Forwarding", "OnionHops", "OnionModule"]
