"""What the pool knows of one peer: the relays that lead to it, and which of them can be trusted.

A relay may say that a peer is linked and let everything that is sent there vanish. What comes back
from the peer may take another relay's way, so silence of one relay proves nothing; but if nothing
comes back at all, the data moves to another relay, and if something comes then, the first is to
blame. The owner, who knows what was acknowledged, may say so earlier (`RelayPool.complain`).
"""

from core.crypto import PublicKey
from core.relay_client.relays import Relay

LINKS_WANTED = 3  # c-toxcore TCP_connection.h: RECOMMENDED_FRIEND_TCP_CONNECTIONS
MAX_TIES = 6  # c-toxcore TCP_connection.h: MAX_FRIEND_TCP_CONNECTIONS
DOUBTED_S = 120.0  # how long other relays are preferred to one whose data had no answer
SILENT_PACKETS = 16  # net_crypto alone sends one a second, each of which has an answer
SILENT_S = 10.0  # longer than a link's hiccup, shorter than a friend's time-out of 32 s
TRIAL_S = 30.0  # how long after leaving a relay an answer speaks against it


class Tie:
    """That a peer is said to be reached by a relay."""

    __slots__ = ("doubted_until", "relay", "spent")

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.spent = False  # we waited there for the peer, and it did not come
        self.doubted_until = 0.0


class Peer:
    """Somebody we want to reach by relays, under its DHT key."""

    __slots__ = (
        "asleep",
        "carrier",
        "key",
        "linked",
        "silent_since",
        "ties",
        "trial",
        "trial_until",
        "tried",
        "unanswered",
    )

    def __init__(self, key: PublicKey) -> None:
        self.key = key
        self.asleep = False
        self.ties: dict[PublicKey, Tie] = {}
        self.linked = False  # as the listener knows
        self.carrier: PublicKey | None = None  # the relay that carries the data
        # whether anything comes back
        self.silent_since: float | None = None
        self.unanswered = 0  # packets sent on links since then
        self.trial: PublicKey | None = None  # the relay that carried them when nothing came
        self.trial_until = 0.0
        self.tried = False  # whether another relay has carried something since

    def links(self) -> int:
        """Counts the relays that link us."""
        return sum(tie.relay.is_linked(self.key) for tie in self.ties.values())

    def wants(self, relay: Relay) -> bool:
        """Tells whether a connection to this relay is wanted for this peer."""
        if self.asleep:
            return False
        return relay.is_linked(self.key) or (
            not self.ties[relay.key].spent and self.links() < LINKS_WANTED
        )

    def room(self) -> "Tie | bool":
        """Tells whether one more relay may be tied to it; a tie that has to give way if so."""
        if len(self.ties) < MAX_TIES:
            return True
        return next(
            (tie for tie in self.ties.values() if tie.spent and not tie.relay.is_linked(self.key)),
            False,
        )

    def trusted_carrier(self, now: float) -> Relay | None:
        """Returns the relay that carries the data, as long as it links us and is not doubted."""
        tie = None if self.carrier is None else self.ties.get(self.carrier)
        if tie is None or tie.doubted_until > now or not tie.relay.is_linked(self.key):
            self.carrier = None
            return None
        return tie.relay

    def carriers(self, now: float) -> tuple[list[Relay], bool]:
        """Returns the linked relays that may carry data, best first, and whether they are trusted.

        If all are doubted it is one alone: that which was doubted longest ago.
        """
        linked = [tie for tie in self.ties.values() if tie.relay.is_linked(self.key)]
        trusted = [tie.relay for tie in linked if tie.doubted_until <= now]
        if trusted:
            return sorted(trusted, key=_rank), True
        return [tie.relay for tie in sorted(linked, key=lambda tie: tie.doubted_until)[:1]], False

    # Whether the carrier can be trusted

    def note_sent(self, relay: Relay, now: float) -> bool:
        """Counts a packet sent on a link; True if by now something should have come back."""
        self.tried = self.tried or relay.key != self.trial
        if self.silent_since is None:
            self.silent_since = now
        self.unanswered += 1
        return self.unanswered >= SILENT_PACKETS and now - self.silent_since >= SILENT_S

    def put_on_trial(self, now: float) -> Relay | None:
        """Leaves the carrier for another relay, to see whether that one does better.

        Returns the relay that is doubted now, or None if nothing carried data.
        """
        tie = None if self.carrier is None else self.ties.get(self.carrier)
        self.carrier = None
        self.silent_since = None
        self.unanswered = 0
        if tie is None:
            return None
        tie.doubted_until = now + DOUBTED_S
        self.trial, self.trial_until, self.tried = tie.relay.key, now + TRIAL_S, False
        return tie.relay

    def heard(self, now: float) -> PublicKey | None:
        """Something came back; returns the relay on trial if another one did better."""
        self.silent_since = None
        self.unanswered = 0
        if self.trial is None:
            return None
        guilty = self.trial if self.tried and now <= self.trial_until else None
        self.trial = None
        return guilty

    def lose(self, relay: Relay) -> None:
        """The link by this relay is gone: silence there had a reason."""
        if relay.key == self.carrier:
            self.carrier = None
            self.silent_since = None
            self.unanswered = 0
        if relay.key == self.trial:
            self.trial = None

    def try_all(self) -> None:
        """Wants all its relays again: it may come there now."""
        for tie in self.ties.values():
            tie.spent = False


def _rank(relay: Relay) -> tuple[int, float]:
    return relay.doubt, 0.0 if relay.connection is None else relay.connection.rtt_s
