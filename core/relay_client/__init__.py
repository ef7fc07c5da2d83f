"""Connections to TCP relays: one relay, a pool of them with the ways to peers, and proxies."""

from core.relay_client.interfaces import Dialer, RelayListener
from core.relay_client.pool import RelayPool
from core.relay_client.proxy import Proxy, Target
from core.relay_client.relays import RelayStatus

__all__ = ["Dialer", "Proxy", "RelayListener", "RelayPool", "RelayStatus", "Target"]
