"""What the layer above says to sessions that outlive their process, and wants to know of them.

It keeps what comes from peers and says how far (`stored`); until then that is kept here. It gives
packets with tags and is told how far they are taken over and delivered. So neither loses or doubles
anything when the process of the other ends. A session that is over stays in `ended` until the layer
above has said that it knows: the peer may count on more than that has heard.
"""

from collections.abc import Callable

from core.crypto import PublicKey
from core.net_crypto.keeping import KeptReceiveStream
from core.net_crypto.lasting import SessionMemory
from core.net_crypto.session import Session
from core.net_crypto.states import State
from core.net_crypto.table import SessionTable
from core.net_crypto.tags import Ended, Progress, Tag


class LastingSessions:
    """The sessions of one identity, as far as they are kept; of a session that is not up, nothing
    is known and nothing is done."""

    def __init__(
        self,
        identity: PublicKey,
        memory: SessionMemory,
        table: SessionTable,
        plan: Callable[[Session], None],
    ) -> None:
        self._identity, self.memory = identity, memory
        self._sessions = table.by_real_key
        self._plan = plan

    def _up(self, real_key: PublicKey) -> Session | None:
        session = self._sessions.get(real_key)
        return session if session is not None and session.state is State.ESTABLISHED else None

    def serial(self, real_key: PublicKey) -> bytes | None:
        """Returns 8 bytes that no other session has."""
        session = self._up(real_key)
        return None if session is None or session.kept is None else session.kept.serial

    def handed(self, real_key: PublicKey) -> int:
        """Returns the number of the last packet that was handed upward, -1 before the first.

        While `Listener.lossless` is called that is the last one of the call.
        """
        session = self._sessions.get(real_key)
        return -1 if session is None else session.receiving.start - 1

    def stored(self, real_key: PublicKey, number: int, now: float) -> None:
        """All packets up to this number are safe above. An old or impossible one does nothing."""
        session = self._up(real_key)
        if session is None:
            return
        receiving = session.receiving
        assert isinstance(receiving, KeptReceiveStream)  # as all of these are
        if receiving.stored(number, now):
            self._plan(session)

    def hand_again(self, real_key: PublicKey, now: float) -> None:
        """Hands up at once all packets that came and are not stored, if there are any."""
        session = self._up(real_key)
        if session is not None and session.kept is not None:
            session.hand_again(session.kept.not_stored(session.receiving.start), now)

    def progress(self, real_key: PublicKey) -> Progress | None:
        """Returns how far it is with what it was given."""
        session = self._up(real_key)
        if session is None or session.kept is None:
            return None
        return Progress(session.kept.taken(), session.kept.acked())

    def flying(self, real_key: PublicKey) -> tuple[Tag, ...]:
        """Returns the tags with a letter of all that the peer may not have."""
        session = self._up(real_key)
        if session is None or session.kept is None:
            return ()
        acked = session.kept.acked().letter
        return tuple(tag for _, tag in session.kept.outgoing if tag.letter > acked)

    def ended(self) -> list[Ended]:
        """Returns the sessions that are over and not settled, in the order of their end."""
        return [kept.what_ended() for kept in self.memory.ended_of(self._identity)]

    def settled(self, serial: bytes) -> None:
        """The layer above knows all of a session that is over."""
        kept = self.memory.ended.get(int.from_bytes(serial, "little"))
        if kept is not None and kept.identity == self._identity:
            self.memory.settled(kept.number)
