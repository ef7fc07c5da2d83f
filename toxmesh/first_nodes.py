"""Nodes to begin with: their host names are looked up while the node is already running."""

import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from core import endpoint
from core.endpoint import Endpoint
from toxmesh import nodes

_LOOK_UP_S = 8.0  # for all host names of bootstrap nodes, beside the running node
_LOOK_UP_AGAIN_S = 60.0

log = logging.getLogger("toxmesh.supervisor")


class FirstNodes:
    """Finds the addresses of bootstrap nodes, and tries again for those that were not found."""

    def __init__(self, waker: socket.socket) -> None:
        """`waker`: gets a byte when there is something to `turn` for."""
        self.found: tuple[tuple[Endpoint, bytes], ...] = ()
        """Address and DHT public key of each node found so far."""
        self._waker = waker
        self._looked_up: tuple[tuple[Endpoint, bytes], ...] | None = None  # set by the thread
        self._missing: tuple[nodes.BootstrapNode, ...] = ()
        self._missing_logged = 0
        self._again_at: float | None = None

    def look_up(self, wanted: Sequence[nodes.BootstrapNode]) -> None:
        """Looks host names up in a thread: a resolver that hangs must not hold up the node."""
        names = []
        for node in wanted:
            try:
                place = endpoint.from_text(node.host, node.port)
            except ValueError:
                names.append(node)
            else:
                self.found += ((place, node.key),)
        if names:
            threading.Thread(target=self._look_up_names, args=(names,), daemon=True).start()

    def anew(self, wanted: Sequence[nodes.BootstrapNode]) -> "FirstNodes":
        """Returns what looks up other nodes; what this one still finds is for nobody."""
        other = FirstNodes(self._waker)
        other.look_up(wanted)
        return other

    def _look_up_names(self, names: list[nodes.BootstrapNode]) -> None:
        found, self._missing = nodes.resolve(names, _LOOK_UP_S)
        self._looked_up = found
        with suppress(OSError):
            self._waker.send(b"\0")

    def turn(self, now: float) -> bool:
        """Takes what the thread found, or begins again; returns whether there are more nodes."""
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            self.look_up(self._missing)
        if self._looked_up is None:
            return False
        found, self._looked_up = self._looked_up, None
        self.found += found
        if self._missing:
            if self._missing_logged != len(self._missing):
                log.warning("%d bootstrap nodes were not found by name", len(self._missing))
            self._missing_logged = len(self._missing)
            self._again_at = now + _LOOK_UP_AGAIN_S
        return bool(found)

    def body(self) -> dict[str, Any]:
        """Returns what dht.0 is told."""
        return {"nodes": [[place, key] for place, key in self.found]}
