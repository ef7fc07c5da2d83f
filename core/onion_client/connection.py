"""Whether we are connected to the onion: announced well enough that others find us."""

from core.onion_client.announcing import TARGETS, OwnAnnounce
from core.onion_client.path_nodes import PathNodes

OFFLINE_S = 75.0  # c-toxcore onion_client.h: ONION_OFFLINE_TIMEOUT, without any answer
HOLD_S = 3.0  # c-toxcore onion_client.c: ONION_CONNECTION_SECONDS
RETURN_S = 10.0  # c-toxcore onion_client.c: ONION_CONNECTED_TIMEOUT; then friends are sought anew
_NEVER = float("-inf")


class Connection:
    """Judges the state, and turns only when the judgement has held for 3 s."""

    __slots__ = ("_good", "_since", "connected", "heard", "lost_at")

    def __init__(self) -> None:
        self.connected = False
        self.heard = _NEVER
        """When an answer came last."""
        self.lost_at = _NEVER
        """When the state was last judged good before now."""
        self._good = False
        self._since = _NEVER

    def judge(self, own: OwnAnnounce, path_nodes: PathNodes, now: float) -> bool:
        """Looks at the state; True if `connected` has turned."""
        good = self._is_good(own, path_nodes, now)
        if good != self._good:
            self._good = good
            self._since = now
        if good == self.connected or self._since + HOLD_S > now:
            return False
        self.connected = good
        if not good:
            self.lost_at = self._since
        return True

    def due(self) -> float:
        """Returns when it is to be judged again even if nothing happens."""
        if self._good != self.connected:
            return self._since + HOLD_S
        return self.heard + OFFLINE_S if self._good else float("inf")

    def was_away(self, now: float) -> bool:
        """Tells whether we were gone for so long that friends are to be sought anew."""
        return self.lost_at + RETURN_S <= now

    def _is_good(self, own: OwnAnnounce, path_nodes: PathNodes, now: float) -> bool:
        """At least half of the living nodes keep our announcement, and those are at least half of
        the nodes there should be."""
        if self.heard + OFFLINE_S <= now:
            return False
        live, announced = own.standing(now)
        if not announced or announced < live // 2:
            return False
        if live >= TARGETS // 2:
            return True  # no more are ever expected
        return live >= path_nodes.expected(TARGETS, own.nodes.of_prefix) // 2
