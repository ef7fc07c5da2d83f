"""Whether what is sent to a peer on links gets there: the evidence against the relay in use.

A relay may say that a peer is linked and let everything that is sent there vanish. What comes back
from the peer may take another relay's way, so silence of one relay proves nothing; but if nothing
comes back at all, the data moves to another relay, and if something comes then, the first is to
blame. Where the owner tells what was received (`RelayPool.relay_works`), that counts instead: a
peer that sends on and on, and gets nothing, is heard all the time.
"""

from core.crypto import PublicKey

SILENT_PACKETS = 16  # net_crypto alone sends one a second, each of which has an answer
SILENT_S = 10.0  # longer than a link's hiccup, shorter than a friend's time-out of 32 s
UNCONFIRMED_S = 20.0  # two of a friend's alive packets (8 s), which are lossless: one was received
TRIAL_S = 30.0  # how long after leaving a relay an answer speaks against it


class Trust:
    """What came back of what was sent to one peer, and the relay that is on trial for it."""

    __slots__ = (
        "_by_receipt",
        "_hinted",
        "_silent_since",
        "_tried",
        "_unanswered",
        "_unconfirmed",
        "_unconfirmed_since",
        "_until",
        "trial",
    )

    def __init__(self) -> None:
        self._hinted = False  # whether the owner tells what was received
        self._silent_since = 0.0  # when the first of the unanswered packets was sent
        self._unanswered = 0
        self._unconfirmed_since = 0.0
        self._unconfirmed = 0
        self.trial: PublicKey | None = None
        """The relay that carried the packets of which nothing was heard."""
        self._until = 0.0
        self._tried = False  # whether another relay has carried something since
        self._by_receipt = False  # whether only a receipt speaks against it

    def sent(self, relay: PublicKey, now: float) -> bool:
        """Counts a packet; True if by now something should have come back."""
        self._tried = self._tried or relay != self.trial
        if not self._unanswered:
            self._silent_since = now
        self._unanswered += 1
        if not self._unconfirmed:
            self._unconfirmed_since = now
        self._unconfirmed += 1
        silent = self._unanswered >= SILENT_PACKETS and now - self._silent_since >= SILENT_S
        return silent or (
            self._hinted
            and self._unconfirmed >= SILENT_PACKETS
            and now - self._unconfirmed_since >= UNCONFIRMED_S
        )

    def try_another(self, relay: PublicKey, now: float) -> None:
        """Puts a relay on trial: another one carries the packets from now on."""
        self.trial, self._until, self._tried = relay, now + TRIAL_S, False
        self._by_receipt = self._hinted
        self.forget()

    def heard(self, now: float) -> PublicKey | None:
        """Something came from the peer; returns the relay that is found guilty by that."""
        self._unanswered = 0
        return None if self._by_receipt or self.trial is None else self._judge(now)

    def received(self, now: float) -> PublicKey | None:
        """The peer has got something; returns the relay that is found guilty by that."""
        self._hinted = True
        self.forget()
        return None if self.trial is None else self._judge(now)

    def _judge(self, now: float) -> PublicKey | None:
        guilty = self.trial if self._tried and now <= self._until else None
        self.trial = None
        return guilty

    def forget(self) -> None:
        """What was sent before has an answer, or a reason to have none."""
        self._unanswered = 0
        self._unconfirmed = 0
