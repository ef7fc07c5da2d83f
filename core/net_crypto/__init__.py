"""net_crypto: the end-to-end encrypted sessions between two identities."""

from core.net_crypto.lasting import SavedIdentity, SessionMemory
from core.net_crypto.memory import HeldMemory
from core.net_crypto.module import NetCrypto
from core.net_crypto.outliving import LastingSessions
from core.net_crypto.parts import Listener, Ways
from core.net_crypto.session import SessionStatus
from core.net_crypto.states import State
from core.net_crypto.tags import NO_TAG, Ended, Progress, Tag

__all__ = [
    "NO_TAG",
    "Ended",
    "HeldMemory",
    "LastingSessions",
    "Listener",
    "NetCrypto",
    "Progress",
    "SavedIdentity",
    "SessionMemory",
    "SessionStatus",
    "State",
    "Tag",
    "Ways",
]
