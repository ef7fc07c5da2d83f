"""What the pool knows of one peer: the relays that lead to it, and which carries its data."""

from core.crypto import PublicKey
from core.relay_client.relays import Relay
from core.relay_client.trust import Trust

LINKS_WANTED = 3  # c-toxcore TCP_connection.h: RECOMMENDED_FRIEND_TCP_CONNECTIONS
MAX_TIES = 6  # c-toxcore TCP_connection.h: MAX_FRIEND_TCP_CONNECTIONS
DOUBTED_S = 120.0  # how long other relays are preferred to one whose data had no answer


class Tie:
    """That a peer is said to be reached by a relay."""

    __slots__ = ("doubted_until", "relay", "spent")

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.spent = False  # we waited there for the peer, and it did not come
        self.doubted_until = 0.0


class Peer:
    """Somebody we want to reach by relays, under its DHT key."""

    __slots__ = ("asleep", "carrier", "key", "linked", "ties", "trust")

    def __init__(self, key: PublicKey) -> None:
        self.key = key
        self.asleep = False
        self.ties: dict[PublicKey, Tie] = {}
        self.linked = False  # as the listener knows
        self.carrier: PublicKey | None = None  # the relay that carries the data
        self.trust = Trust()

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

    def leave_carrier(self, now: float) -> bool:
        """Puts the relay that carries the data on trial; False if none does."""
        tie = None if self.carrier is None else self.ties.get(self.carrier)
        self.carrier = None
        if tie is None:
            self.trust.forget()
            return False
        tie.doubted_until = now + DOUBTED_S
        self.trust.try_another(tie.relay.key, now)
        return True

    def lose(self, relay: Relay) -> None:
        """The link by this relay is gone: silence there had a reason."""
        if relay.key == self.carrier:
            self.carrier = None
            self.trust.forget()
        if relay.key == self.trust.trial:
            self.trust.trial = None

    def try_all(self) -> None:
        """Wants all its relays again: it may come there now."""
        for tie in self.ties.values():
            tie.spent = False


def _rank(relay: Relay) -> tuple[int, float]:
    return relay.doubt, 0.0 if relay.connection is None else relay.connection.rtt_s
