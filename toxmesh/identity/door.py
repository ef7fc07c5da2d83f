"""The door of an identity that is served: where its owner asks how it is.

A unix socket beside the profile, in the language of the node's control door and kept by the same
code, so that no guest takes more of the process here than there.
"""

import asyncio
import selectors
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toxmesh.control import ControlDoor, Request

_EXPIRE_S = 1.0  # how often guests are looked at, while there are any


def door_of(profile: Path) -> Path:
    """Returns where the door of a profile is."""
    return profile.with_name(f".{profile.name}.sock")


class IdentityDoor:
    """A control door on an asyncio loop. Raises OSError where the socket cannot be made."""

    def __init__(
        self, path: Path, status: Callable[[], dict[str, Any]], drops: Counter[str]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        # A selector of its own: ready as a whole whenever anything in it is.
        self._selector = selectors.DefaultSelector()
        requests = {"status": Request(lambda args: status())}
        self._door = ControlDoor(path, self._selector, requests, drops=drops)
        self._loop.add_reader(self._selector.fileno(), self._turn)

    def _turn(self) -> None:
        now = time.monotonic()
        for key, _ in self._selector.select(0):
            key.data(now)
        self._plan()

    def _plan(self) -> None:
        if self._timer is None and self._door.guests:
            self._timer = self._loop.call_later(_EXPIRE_S, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._door.expire(time.monotonic())
        self._plan()

    def close(self) -> None:
        """Shuts it."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._selector.fileno())
        self._door.close()
        self._selector.close()
