"""Which bounds the broker has: those of bootstrap info, of waiting datagrams and of the relay."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from broker.info import BootstrapInfo
from broker.tcp_admission import most_connections
from broker.udp import UdpSide
from core.bounds import Bound, Bounds, Number, of_attribute
from core.module import NodeOptions

if TYPE_CHECKING:
    from broker.tcp import RelayTcp

_CONTROL_ROOM = 4 << 10  # bytes for control frames behind the last data


def of_broker(info: BootstrapInfo, udp: UdpSide) -> Bounds:
    """Returns the bounds of a broker without a relay; those of its relay come later."""

    def follow_queue() -> None:
        for lane in udp.lanes.values():
            lane.queue.resize(udp.queue_limit)

    def longest_queue() -> int:
        return max((len(lane.queue) for lane in udp.lanes.values()), default=0)

    return Bounds(
        [
            of_attribute("info.per_prefix", info, "per_prefix", info.fullest),
            of_attribute("info.prefixes", info, "prefixes", info.count),
            of_attribute("broker.queue", udp, "queue_limit", longest_queue, follow_queue),
        ]
    )


class RelayBounds:
    """The bounds of the relay's streams: as they are set, and as they were changed meanwhile."""

    def __init__(self, tcp: "RelayTcp") -> None:
        self._tcp = tcp
        self._settled = tcp.limits  # as the settings have it
        self._changed: dict[str, Any] = {}

    def follow(self, options: NodeOptions) -> None:
        """Follows settings that were changed; what an operator laid down since stays."""
        self._settled = self._settled.following(options)
        self._apply()

    def _apply(self) -> None:
        tcp = self._tcp
        limits = replace(self._settled, **self._changed)
        least = limits.queue_limit + _CONTROL_ROOM
        if limits.control_limit < least:  # or a full queue of data would close its receiver
            limits = replace(limits, control_limit=least)
        tcp.limits = tcp.admission.limits = limits
        tcp.door.count_room()

    def _bound(self, name: str, field: str, use: Callable[[], Number] | None = None) -> Bound:
        def change(value: Number | None) -> None:
            if value is None:
                self._changed.pop(field, None)
            else:
                self._changed[field] = value
            self._apply()

        return Bound(
            f"relay.{name}",
            lambda: getattr(self._tcp.limits, field),
            lambda: getattr(self._settled, field),
            use,
            change,
        )

    def rows(self) -> list[Bound]:
        """Returns all of them."""
        tcp, bound = self._tcp, self._bound
        admission = tcp.admission

        def most_bytes() -> int:
            return max((row.level for row in tcp.full.values()), default=0)

        connections = bound("connections", "connections", lambda: len(tcp.connections))
        return [
            connections._replace(  # descriptors may be fewer
                read=lambda: tcp.door.room,
                default=lambda: most_connections(self._settled, tcp.hooks),
            ),
            bound("per_address", "per_address", admission.most_of_an_address),
            bound("per_prefix", "per_prefix", admission.most_of_a_prefix),
            bound("unconfirmed", "unconfirmed", lambda: len(admission.unconfirmed)),
            bound(
                "unconfirmed_per_address",
                "unconfirmed_per_address",
                admission.most_unconfirmed_of_an_address,
            ),
            bound("hello_s", "hello_s"),
            bound("confirm_s", "confirm_s"),
            bound("stuck_s", "stuck_s"),
            bound("queue_bytes", "queue_limit", most_bytes),
            bound("control_bytes", "control_limit", most_bytes),
        ]
