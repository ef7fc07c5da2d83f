"""The TCP relay: handshake, frames, links and directory, without sockets.

`Directory` (who is linked to whom) lives in the broker and survives workers. `RelayShard` (ciphers
and packets) lives in a relay worker. Between them go the frames of `core.relay.frames`.
"""

from core.relay.directory import Client, Directory, Notice
from core.relay.limits import RelayLimits
from core.relay.shard import RelayShard

__all__ = ["Client", "Directory", "Notice", "RelayLimits", "RelayShard"]
