"""Friend requests: which of those that come are shown, and when ours are sent again.

A request comes by the onion, or inside a session that conference peers have already.
"""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Protocol

from core.crypto import PublicKey
from core.packets.announce import MAX_FRIEND_MESSAGE_SIZE, FriendRequest
from core.packets.messenger import SessionFriendRequest
from core.timers import Timers
from core.tox_id import NOSPAM_SIZE
from core.wire import WireError

REMEMBERED = 32  # c-toxcore friend_requests.h: MAX_RECEIVED_STORED
FIRST_PAUSE_S = 5.0  # c-toxcore Messenger.h: FRIENDREQUEST_TIMEOUT
# Ours: c-toxcore doubles without end, and a friend that comes back after a week waits for another.
LONGEST_PAUSE_S = 3600.0
UNSENT_S = 2.0  # ours: the onion has not found the friend yet
MAX_NOSPAMS = 16  # ours
MAX_REQUEST_TEXT = MAX_FRIEND_MESSAGE_SIZE


class RequestWays(Protocol):
    """How requests leave."""

    def send_onion(self, real_key: PublicKey, data: bytes, now: float) -> int:
        """Sends data to route; through how many nodes it left, 0: the friend is not found yet."""
        ...

    def send_session(self, real_key: PublicKey, data: bytes, now: float) -> bool:
        """Sends it inside a session; False: there is none, or it has no room."""
        ...


class _Pending:
    """A request of ours that the friend has not answered by coming online."""

    __slots__ = ("nospam", "pause_s", "text")

    def __init__(self, nospam: bytes, text: bytes) -> None:
        self.nospam, self.text = nospam, text
        self.pause_s = FIRST_PAUSE_S


class FriendRequests:
    """Filters the requests of others and repeats ours."""

    def __init__(
        self,
        own_key: PublicKey,
        nospams: Collection[bytes],
        is_friend: Callable[[PublicKey], bool],
        requested: Callable[[PublicKey, bytes, float], None],
        ways: RequestWays,
        drops: Counter[str],
    ) -> None:
        """`is_friend` tells whose requests need no answer; `requested` takes key, text, time."""
        self._own_key = own_key
        self._nospams: tuple[bytes, ...] = ()
        self.set_nospams(nospams)
        self._is_friend, self._requested = is_friend, requested
        self._ways = ways
        self._drops = drops
        self._seen: list[PublicKey] = []  # oldest first
        self._pending: dict[PublicKey, _Pending] = {}
        self.timers: Timers[PublicKey] = Timers()
        """When a request is due."""

    # Others' requests

    def set_nospams(self, nospams: Collection[bytes]) -> None:
        """Takes requests with any of these, at most 16. ValueError if one has not 4 bytes."""
        if len(nospams) > MAX_NOSPAMS:
            raise ValueError(f"{len(nospams)} nospams, more than {MAX_NOSPAMS}")
        if any(len(one) != NOSPAM_SIZE for one in nospams):
            raise ValueError(f"a nospam has {NOSPAM_SIZE} bytes")
        self._nospams = tuple(nospams)

    def onion_data(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Takes what came through the onion with id 20."""
        try:
            request = FriendRequest.decode(data)
        except WireError:
            self._drops["friend_request_size"] += 1
            return
        self._take(real_key, request.nospam, request.message, now)

    def session_data(self, real_key: PublicKey, data: bytes, now: float) -> None:
        """Takes what came inside a session with id 12."""
        try:
            request = SessionFriendRequest.decode(data)
        except WireError:
            self._drops["friend_request_size"] += 1
            return
        self._take(real_key, request.nospam, request.message, now)

    def _take(self, real_key: PublicKey, nospam: bytes, text: bytes, now: float) -> None:
        if real_key in self._seen:
            self._drops["friend_request_again"] += 1
        elif nospam not in self._nospams:
            self._drops["friend_request_nospam"] += 1
        elif real_key == self._own_key or self._is_friend(real_key):
            self._drops["friend_request_known"] += 1
        else:
            del self._seen[: len(self._seen) + 1 - REMEMBERED]
            self._seen.append(real_key)
            self._requested(real_key, text, now)

    def forget(self, real_key: PublicKey) -> None:
        """Lets somebody ask again who asked already: one that is no friend any more."""
        if real_key in self._seen:
            self._seen.remove(real_key)

    # Ours

    def begin(self, real_key: PublicKey, nospam: bytes, text: bytes, now: float) -> None:
        """Sends a request of 1-921 bytes, again and again, until `end`."""
        self._pending[real_key] = _Pending(nospam, text)
        self.timers.set(real_key, now)

    def end(self, real_key: PublicKey) -> None:
        """Sends it no more: the friend has come online, or is not wanted."""
        self._pending.pop(real_key, None)
        self.timers.stop(real_key)

    def handle_timer(self, now: float) -> list[PublicKey]:
        """Sends the requests that are due; returns to whom one has left."""
        left = []
        for real_key in self.timers.expired(now):
            pending = self._pending[real_key]
            if not self._send(real_key, pending, now):
                self.timers.set(real_key, now + UNSENT_S)
                continue
            left.append(real_key)
            self.timers.set(real_key, now + pending.pause_s)
            pending.pause_s = min(2 * pending.pause_s, LONGEST_PAUSE_S)
        return left

    def _send(self, real_key: PublicKey, pending: _Pending, now: float) -> bool:
        inside = SessionFriendRequest(pending.nospam, pending.text).encode()
        if self._ways.send_session(real_key, inside, now):
            return True
        routed = FriendRequest(pending.nospam, pending.text).encode()
        return self._ways.send_onion(real_key, routed, now) > 0
