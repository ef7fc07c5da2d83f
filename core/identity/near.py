"""The near halves of many identities: carriers in one process, messengers in another.

Messages of the far halves (`core.identity.far`) go in; carriers are made where they are wanted, and
messages to the far halves come out. Sessions stand in memory that outlives the process.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from core.crypto import PublicKey
from core.entropy import Entropy
from core.identity import messages
from core.identity.carrier_desk import CarrierDesk
from core.identity.link import Link
from core.identity.messages import FriendRow
from core.identity.place import MakePlace, Place, PlaceOrder, PlaceRefused
from core.identity.rows import nodes_of
from core.messages import Message
from core.net_crypto.lasting import SessionMemory

__all__ = ["CarrierDesk", "MakePlace", "NearDesk", "Place", "PlaceOrder", "PlaceRefused"]

ALONE_S = 300.0
"""How long a carrier waits for a far half (ours): its process may be away for some seconds, and an
identity that the settings have no longer is not asked for any more."""
REMIND_S = 5.0  # ours: until a far half that may not have heard that its link is over is told again


class _Arrival:
    """An attachment that is not complete yet."""

    __slots__ = ("attach", "friends", "link")

    def __init__(self, attach: messages.Attach, link: Link) -> None:
        self.attach, self.link = attach, link
        self.friends: list[FriendRow] = []


class NearDesk:
    """All carriers of one process."""

    def __init__(
        self,
        tell: Callable[[PublicKey, Message], None],
        make_place: MakePlace,
        entropy: Entropy,
        drops: Counter[str],
        kept: SessionMemory,
        now: float,
    ) -> None:
        """`tell` tells the process that has the messenger of an identity; `make_place` raises
        PlaceRefused."""
        self._tell, self._make_place = tell, make_place
        self._entropy, self._drops, self._kept = entropy, drops, kept
        self.carriers: dict[PublicKey, CarrierDesk] = {}
        """By identity."""
        self._arriving: dict[PublicKey, _Arrival] = {}
        self._alone: dict[PublicKey, float] = {}  # since when they have no far half
        for identity in kept.identities():
            self._alone[identity] = now
        self._lost: dict[PublicKey, bytes] = {}  # links that were ended here, of those alone
        self._remind_at: float | None = None

    # What the far halves tell

    def handle_message(self, message: Any, now: float) -> None:
        """Takes a message; where one before it was lost, the link is over."""
        identity = PublicKey(message.identity)
        if isinstance(message, messages.Attach):
            link = Link(identity, message.link, lambda said: self._tell(identity, said))
            link.follows(message.number)
            self._arriving[identity] = _Arrival(message, link)
            return
        arrival = self._arriving.get(identity)
        if arrival is not None and arrival.link.name == message.link:
            self._arrive(identity, arrival, message, now)
            return
        desk = self.carriers.get(identity)
        link_of = None if desk is None else desk.link
        if desk is None or link_of is None or link_of.name != message.link:
            self._drops["identity_old_link"] += 1
            self._lose(identity, message.link)
        elif not link_of.follows(message.number):
            self._drops["identity_link_gap"] += 1
            self._part(identity, desk, now)
        elif isinstance(message, messages.Detach):
            self._end(identity, now)
        else:
            desk.handle_message(message, now)
            desk.place.plan()

    def _arrive(self, identity: PublicKey, arrival: _Arrival, message: Any, now: float) -> None:
        if not isinstance(message, messages.FriendsTold) or not arrival.link.follows(
            message.number
        ):
            del self._arriving[identity]
            self._drops["identity_link_gap"] += 1
            self._lose(identity, message.link)
            return
        arrival.friends += [FriendRow(*row) for row in message.friends]
        if message.last:
            del self._arriving[identity]
            self._attach(identity, arrival, now)

    def _attach(self, identity: PublicKey, arrival: _Arrival, now: float) -> None:
        attach, friends = arrival.attach, arrival.friends
        desk = self.carriers.get(identity)
        if desk is not None and desk.attach_fields != attach[3:7]:
            self._end(identity, now)
            desk = None
        if desk is None:
            try:
                desk = CarrierDesk(
                    attach, friends, self._make_place, self._kept, self._entropy, self._drops, now
                )
            except PlaceRefused as error:
                self._tell(
                    identity, messages.AttachRefused(identity, attach.link, 0, str(error))
                )
                return
            self.carriers[identity] = desk
        else:  # nodes that were found meanwhile may have been told on a link that is over
            desk.carrier.bootstrap(nodes_of(attach.bootstrap), now)
        self._alone.pop(identity, None)
        self._lost.pop(identity, None)
        desk.attach(arrival.link, friends, now)
        desk.place.plan()

    def messenger_gone(self, now: float) -> None:
        """The process of the far halves is another one: they attach, or have attached already and
        do so again."""
        self._arriving.clear()
        for identity, desk in self.carriers.items():
            self._part(identity, desk, now)

    def _part(self, identity: PublicKey, desk: CarrierDesk, now: float) -> None:
        """Ends a link, and says so until the far half has attached anew."""
        if desk.link is not None:
            self._lost[identity] = desk.link.name
            self._lose(identity, desk.link.name)
            desk.unlink()
            self._remind_at = self._remind_at or now + REMIND_S
        self._alone.setdefault(identity, now)

    def _lose(self, identity: PublicKey, link: bytes) -> None:
        """Tells whoever believes in a link that it is over."""
        self._tell(identity, messages.LinkLost(identity, link, 0))

    # Time

    def next_timer(self) -> float | None:
        """Returns when `handle_timer` wants to be called."""
        alone_at = min(self._alone.values()) + ALONE_S if self._alone else None
        due = [when for when in (alone_at, self._remind_at) if when is not None]
        return min(due, default=None)

    def handle_timer(self, now: float) -> None:
        """Ends what nobody has asked for in five minutes, and reminds far halves of others."""
        if self._remind_at is not None and self._remind_at <= now:
            self._remind_at = now + REMIND_S if self._lost else None
            for identity, link in self._lost.items():
                self._lose(identity, link)
        for identity, since in tuple(self._alone.items()):
            if since + ALONE_S <= now:
                self._drops["identity_alone"] += 1
                self._end(identity, now)

    # End

    def _end(self, identity: PublicKey, now: float) -> None:
        self._alone.pop(identity, None)
        self._lost.pop(identity, None)
        desk = self.carriers.pop(identity, None)
        if desk is not None:
            desk.close(now, True)
        self._kept.forget_identity(identity)

    def stop(self, now: float, end_sessions: bool) -> None:
        """Ends all carriers: with their sessions, which friends see at once, or without, for a
        successor that takes them up."""
        for identity in tuple(self.carriers):
            if end_sessions:
                self._end(identity, now)
            else:
                self.carriers.pop(identity).close(now, False)
