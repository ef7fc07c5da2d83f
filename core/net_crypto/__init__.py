"""net_crypto: the end-to-end encrypted sessions between two identities."""

from core.net_crypto.memory import HeldMemory
from core.net_crypto.module import NetCrypto
from core.net_crypto.session import Listener, SessionStatus, Ways
from core.net_crypto.states import State

__all__ = ["HeldMemory", "Listener", "NetCrypto", "SessionStatus", "State", "Ways"]
