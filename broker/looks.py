"""What operators may ask the broker besides the relay: its queues and its datagrams."""

from typing import Any

from broker.udp import UdpSide
from core.asking import Ask, Events
from core.link.taps import Taps


def questions(udp: UdpSide, events: Events) -> dict[str, Ask]:
    """Returns who answers what."""

    def queues(what: str, args: dict[str, Any], now: float) -> list[dict[str, Any]]:
        """Returns the datagrams that wait for each worker."""
        return [
            {
                "queue": "datagrams",
                "of": row["worker"],
                "waiting": row["waiting"],
                "limit": udp.queue_limit,
                "up": row["up"],
            }
            for row in (lane.look() for _, lane in sorted(udp.lanes.items()))
        ]

    return {"queues": queues, **Taps(udp, udp.senders, events).questions()}
