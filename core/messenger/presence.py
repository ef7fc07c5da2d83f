"""What we say of ourselves, and whom of our friends we have still to tell."""

from collections.abc import Iterable

from core.crypto import PublicKey
from core.messenger.friend import Friend, Unsent
from core.messenger.parts import Connections
from core.packets.messenger import Name, Status, StatusMessage, Typing
from core.savedata.profile import Profile
from core.timers import Timers

AGAIN_S = 1.0  # ours: for what a friend's full queue had no room for


class Presence:
    """Tells friends that are online our name, status message and status, and whether we type."""

    def __init__(self, profile: Profile, connections: Connections) -> None:
        self.profile = profile
        """With what we are now."""
        self._connections = connections
        self.timers: Timers[PublicKey] = Timers()
        """When somebody is to be told again."""

    def change(
        self, profile: Profile, what: Unsent, friends: Iterable[Friend], now: float
    ) -> None:
        """Takes what we are from now on, and tells all friends what of it is new."""
        self.profile = profile
        for friend in friends:
            self.tell(friend, what, now)

    def tell(self, friend: Friend, what: Unsent, now: float) -> None:
        """Tells a friend as far as there is room, and the rest later; one that is offline hears
        everything when it comes."""
        if not friend.online:
            return
        friend.unsent |= what
        own = self.profile
        for flag, packet in (
            (Unsent.NAME, Name(own.name)),
            (Unsent.STATUS_MESSAGE, StatusMessage(own.status_message)),
            (Unsent.STATUS, Status(int(own.status))),
            (Unsent.TYPING, Typing(int(friend.our_typing))),
        ):
            if not friend.unsent & flag:
                continue
            if self._connections.send(friend.key, packet.encode(), now) is None:
                self.timers.set(friend.key, now + AGAIN_S)
                return
            friend.unsent &= ~flag
        self.timers.stop(friend.key)

    def forget(self, friend: Friend) -> None:
        """The friend has gone: nothing is to be told for now."""
        friend.unsent = Unsent(0)
        self.timers.stop(friend.key)

    def expired(self, now: float) -> list[PublicKey]:
        """Returns who is to be told now."""
        return self.timers.expired(now)
