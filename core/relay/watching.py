"""Frames of relay clients as an operator may see them: what each is and whose, not what it carries.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.capturing import Seen
from core.relay import packets
from core.relay.frames import GO_ON
from core.relay.session import Session

if TYPE_CHECKING:
    from core.relay.shard import RelayShard

Take = Callable[[Session, int, bytes, float], int | None]
"""take(session, kind, plain, now): what is done with a frame; GO_ON, a reason to wait, or None."""

_HEADS = {
    packets.ROUTING_REQUEST: 33, packets.ROUTING_RESPONSE: 34,
    packets.CONNECT_NOTICE: 2, packets.DISCONNECT_NOTICE: 2,
    packets.PING: 9, packets.PONG: 9,
    packets.OOB_SEND: 33, packets.OOB_RECEIVE: 33,
}  # fmt: skip
"""Bytes of a frame in front of what it carries from one client to another; of all others one."""


class Watch:
    """Stands between a shard and what it does with frames, and notes each of them."""

    def __init__(self, shard: "RelayShard", seen: list[Seen]) -> None:
        self._shard = shard
        self._seen = seen

    def seal(self, session: Session, plain: bytes) -> None:
        """Seals a frame for a client, as `Outgoing.seal`."""
        self._seen.append(_seen("out", session, plain))
        self._shard.outgoing.seal(session, plain)

    def partner(self, session: Session, link_id: int) -> tuple[Session | None, int]:
        """Keeps data off the short way, on which it is sealed where it lies."""
        return None, 0

    def data(self, session: Session, link_id: int, plain: bytes, now: float) -> int | None:
        """Takes data, as `RelayShard.data`."""
        place = len(self._seen)
        return self._came(
            session, plain, place, self._shard.data(session, link_id, plain, now)
        )

    def packet(self, session: Session, kind: int, plain: bytes, now: float) -> int | None:
        """Takes another packet, as `packets.handle`."""
        place = len(self._seen)
        return self._came(
            session, plain, place, packets.handle(self._shard, session, kind, plain, now)
        )

    def _came(
        self, session: Session, plain: bytes, place: int, verdict: int | None
    ) -> int | None:
        """Notes a frame in front of all that it has led to; one that has to wait comes again."""
        if verdict is None or verdict == GO_ON:
            self._seen.insert(place, _seen("in", session, plain))
        return verdict


def _seen(direction: str, session: Session, plain: bytes) -> Seen:
    head = bytes(plain[: _HEADS.get(plain[0], 1)])
    return Seen(direction, session.key, session.source, head, len(plain))
