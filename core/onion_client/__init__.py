"""The onion client: how friends find each other's DHT keys without anybody else learning them."""

from core.onion_client.interfaces import OnionListener, OnionStatus, OnionWays, SearchStatus
from core.onion_client.letters import MAX_LETTER_SIZE
from core.onion_client.module import OnionClient

__all__ = [
    "MAX_LETTER_SIZE",
    "OnionClient",
    "OnionListener",
    "OnionStatus",
    "OnionWays",
    "SearchStatus",
]
