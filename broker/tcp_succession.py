"""What the relay's streams do while a process of the node is replaced, comes or goes."""

import select
from typing import TYPE_CHECKING, cast

from broker import tcp_handover, tcp_shares
from broker.hooks import BrokerHooks
from broker.tcp_shard import ShardWork
from core.link.descriptors import Channel

if TYPE_CHECKING:
    from broker.tcp import RelayTcp


class Succession:
    """The part of the relay's streams that lets work rest, and gives it to others."""

    hooks: BrokerHooks
    works: dict[int, ShardWork]
    poll: select.epoll
    paused: bool

    def pause(self) -> None:
        """Reads and accepts nothing more, and gives no work out: another broker goes on here."""
        self.paused = True
        self.hooks.unwatch(self.poll.fileno())

    def quiet(self, shard: int | None = None) -> bool:
        """Tells whether no worker (or not this one) has anything that it has not committed."""
        return not any(row.flying for row in self.works.values() if shard in (None, row.number))

    def hold(self, shard: int, held: bool) -> None:
        """Gives a worker nothing for now (or again), because it is being replaced."""
        work = self.works.get(shard)
        if work is not None:
            work.held = held

    def hand_over(self, channel: Channel) -> None:
        """Gives all connections to another broker; raises ChannelClosed or TimeoutError."""
        tcp_handover.hand_over(cast("RelayTcp", self), channel)

    def take_over(self, taken: tcp_handover.Taken) -> int:
        """Goes on with the connections of the broker before; returns how many these are."""
        tcp = cast("RelayTcp", self)
        count = taken.restore(tcp)
        tcp.sweep.begin_all()
        return count

    def share_anew(self, now: float) -> None:
        """Follows a new slot table of the relay."""
        tcp = cast("RelayTcp", self)
        tcp_shares.share_anew(tcp, now)
        tcp.pump(now)
