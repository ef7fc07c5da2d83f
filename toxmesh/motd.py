"""The message of the day that a running node gives: its template, filled in once a second."""

import time
from typing import TYPE_CHECKING, Any

from toxmesh import status
from toxmesh.children import State
from toxmesh.motd_template import duration, fill, names_in

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

FILL_INTERVAL_S = 1.0


class Motd:
    """The message that this node's brokers give, kept up to date."""

    def __init__(self, node: "Supervisor") -> None:
        self._node = node
        self._filled = ""  # which template `text` was made of
        self._next = 0.0
        self.text = ""
        """What whoever asks is told at the moment."""

    def values(self) -> dict[str, str]:
        """Returns what may be filled in, by name."""
        node = self._node
        totals = status.totals(node)[0]
        relay: dict[str, Any] = node.children[0].beat.get("snapshot", {}) if node.children else {}
        counts = relay.get("counts", {})
        started = time.gmtime(node.started_wall)
        return {
            "start_date": time.strftime("%Y-%m-%d %H:%M:%S UTC", started),
            "uptime": duration(time.monotonic() - node.started),
            "tcp_packets_in": str(counts.get("frames_in", 0)),
            "tcp_packets_out": str(counts.get("frames_out", 0)),
            "udp_packets_in": str(totals.received.total()),
            "udp_packets_out": str(totals.sent.total()),
        }

    def current(self) -> str:
        """Returns the text that a process which starts now is to give."""
        template = self._node.settings.motd
        if template != self._filled:
            self._filled = template
            self.text = fill(template, self.values()) if names_in(template) else template
        return self.text

    def turn(self, now: float) -> None:
        """Fills the template in once a second, if there is something to fill in."""
        if now < self._next:
            return
        self._next = now + FILL_INTERVAL_S
        template = self._node.settings.motd
        if not names_in(template):
            return
        text = fill(template, self.values())
        if text != self.text or template != self._filled:
            self.text, self._filled = text, template
            for row in self._node.children:
                if row.role == "broker" and row.state is State.UP:
                    self._node.tell(row, "motd", {"text": text})
