"""What the broker's loop offers to the relay's TCP side, and what it asks of it."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from broker.tcp_handover import Taken
from core.asking import Events
from core.bans import Bans, News
from core.link.descriptors import Channel
from core.messages import Message
from core.module import NodeOptions
from core.slots import SlotTable

Handler = Callable[[int, float], None]
"""handler(events, now): called with the `select.EPOLL*` bits that are ready."""


class BrokerHooks(Protocol):
    """The broker's loop as the TCP side sees it."""

    drops: Counter[str]
    """What was refused or given up, by reason."""
    events: Events
    """What operators may follow."""
    bans: Bans
    """Whom the operator has shut out."""

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Calls `handler` whenever one of `events` is ready (level-triggered)."""
        ...

    def rewatch(self, fd: int, events: int) -> None:
        """Changes the events of a watched descriptor; 0 pauses it (errors are still told)."""
        ...

    def unwatch(self, fd: int) -> None:
        """Forgets a descriptor; call it before closing."""
        ...

    def slots(self, role: str) -> SlotTable | None:
        """Returns the slot table of a role, or None where it has no workers."""
        ...

    def relay_shards(self) -> list[int]:
        """Returns the numbers of the relay shards that are up."""
        ...

    def credit(self, shard: int) -> int:
        """Returns how many frames may be sent to a relay shard now; 0 for one that is down."""
        ...

    def send_frame(self, shard: int, kind: int, items: Sequence[Any]) -> int:
        """Sends a frame (kinds 10-19) and returns its sequence; LocalError without credit."""
        ...


class TcpSide(Protocol):
    """The relay's TCP side as the broker's loop sees it."""

    def handle_frame(
        self, shard: int, generation: int, kind: int, items: Sequence[Any], now: float
    ) -> None:
        """Takes a frame (kinds 10-19) from a relay worker."""
        ...

    def handle_message(self, message: Message, now: float) -> None:
        """Takes a message that a module told the broker."""
        ...

    def handle_worker(self, shard: int, generation: int | None, now: float) -> None:
        """Learns that a relay worker is up (its generation) or gone (None)."""
        ...

    def handle_credit(self, shard: int, now: float) -> None:
        """Learns that a relay worker has acknowledged frames."""
        ...

    def handle_timer(self, now: float) -> None:
        """Does what is due."""
        ...

    def next_timer(self) -> float | None:
        """Returns when handle_timer wants to be called next."""
        ...

    def handle_stop(self, now: float) -> None:
        """Closes listeners and connections: the node stops."""
        ...

    def pause(self) -> None:
        """Reads and accepts nothing more, and gives no work out: another broker goes on here."""
        ...

    def quiet(self, shard: int | None = None) -> bool:
        """Tells whether no worker (or not this one) has anything that it has not committed."""
        ...

    def hold(self, shard: int, held: bool) -> None:
        """Gives a worker nothing for now (or again), because it is being replaced."""
        ...

    def hand_over(self, channel: Channel) -> None:
        """Gives all connections to another broker; raises ChannelClosed or TimeoutError."""
        ...

    def take_over(self, taken: Taken) -> int:
        """Goes on with the connections of the broker before; returns how many these are."""
        ...

    def share_anew(self, now: float) -> None:
        """Follows a new slot table of the relay; nothing is on its way to any of its workers."""
        ...

    def follow(self, options: NodeOptions, now: float) -> None:
        """Follows settings that were changed while the node runs."""
        ...

    def ask(self, what: str, args: dict[str, Any], now: float) -> Any:
        """Answers an operator's question with plain data; raises CannotAnswer."""
        ...

    def handle_bans(self, news: News, now: float) -> None:
        """Learns whom the operator has shut out just now."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """Returns its state as plain data; cheap, asked once a second."""
        ...
