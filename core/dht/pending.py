"""Requests that wait for their one answer."""

from collections import OrderedDict

from core.endpoint import Endpoint
from core.entropy import Entropy

MAX_PENDING = 512  # c-toxcore DHT.h: DHT_PING_ARRAY_SIZE
PENDING_S = 5.0  # c-toxcore DHT.h: PING_TIMEOUT
ID_SIZE = 8
_NO_ID = bytes(ID_SIZE)
_Waiting = OrderedDict[bytes, tuple[bytes, Endpoint, float]]
_NOTHING: _Waiting = OrderedDict()


class PendingRequests:
    """Random ids of requests: each good once, for 5 s, for the key and the address that were asked.

    When 512 are waiting, the oldest is forgotten.
    """

    __slots__ = ("_asked", "_capacity", "_entropy", "_waiting", "lost")

    def __init__(self, entropy: Entropy, capacity: int = MAX_PENDING) -> None:
        self._entropy = entropy
        self._capacity = capacity
        # oldest first; an OrderedDict finds its first row without a walk over deleted ones
        self._waiting: _Waiting | None = None  # where nothing waits: identities have many of these
        self._asked: dict[tuple[bytes, Endpoint], int] = {}
        self.lost = 0
        """How many were forgotten because there were too many, before their time."""

    def __len__(self) -> int:
        return 0 if self._waiting is None else len(self._waiting)

    def add(self, key: bytes, endpoint: Endpoint, now: float) -> bytes:
        """Returns the 8-byte id for a request to `key` at `endpoint`."""
        self._expire(now)
        if len(self) >= self._capacity:
            self.lost += 1
            self._forget(next(iter(self._waiting or ())))
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = OrderedDict()
        request_id = self._entropy.bytes(ID_SIZE)
        while request_id == _NO_ID or request_id in waiting:
            request_id = self._entropy.bytes(ID_SIZE)
        waiting[request_id] = (key, endpoint, now)
        self._asked[key, endpoint] = self._asked.get((key, endpoint), 0) + 1
        return request_id

    def expects(self, key: bytes, endpoint: Endpoint, now: float) -> bool:
        """Tells, before any cryptography, whether anything was asked of a key at an address."""
        self._expire(now)
        return (key, endpoint) in self._asked

    def asked_at(self, request_id: bytes) -> float | None:
        """Returns when the request with this id was sent, if it still waits."""
        entry = (self._waiting or _NOTHING).get(request_id)
        return None if entry is None else entry[2]

    def take(self, request_id: bytes, key: bytes, endpoint: Endpoint, now: float) -> bool:
        """Uses up an id; True if it was given for this key and address less than 5 s ago."""
        self._expire(now)
        entry = (self._waiting or _NOTHING).get(request_id)
        if entry is None or entry[0] != key or entry[1] != endpoint:
            return False
        self._forget(request_id)
        return True

    def _expire(self, now: float) -> None:
        while self._waiting:
            oldest = next(iter(self._waiting))
            if self._waiting[oldest][2] + PENDING_S > now:
                break
            self._forget(oldest)

    def _forget(self, request_id: bytes) -> None:
        waiting = self._waiting
        assert waiting is not None  # it has this id
        key, endpoint, _ = waiting.pop(request_id)
        if not waiting:
            self._waiting = None
            self._asked = {}
        elif self._asked[key, endpoint] > 1:
            self._asked[key, endpoint] -= 1
        else:
            del self._asked[key, endpoint]
