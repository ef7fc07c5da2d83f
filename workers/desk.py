"""What an adapter gets beside the context of its module, and what it is to give."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from core.module import Context, Module


class Desk(Protocol):
    """The way to the broker."""

    def send_frame(self, kind: int, items: Sequence[Any]) -> None:
        """Sends a frame of kinds 10-19 to the broker; never dropped while the broker lives."""
        ...


class LoopDesk(Protocol):
    """The way to the host, for a module that does things on an asyncio loop of its own accord."""

    def generation(self, role: str, shard: int) -> int | None:
        """Returns which incarnation of a shard is told what it is told now; None: nobody is up."""
        ...

    def stir(self) -> None:
        """Says that something was told or is due, by what did not come through the host."""
        ...


Create = Callable[[Context, Desk], Module]
"""Makes the module of a role."""

CreateOnLoop = Callable[[Context, LoopDesk], Module]
"""Makes the module of a role on the running loop."""
