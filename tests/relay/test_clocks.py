"""What the relay remembers of clients that are gone stays small."""

from types import SimpleNamespace
from typing import Any

from broker.tcp_clocks import Clocks


def _tcp(live: set[int]) -> Any:
    """Has what `Clocks.next` asks for: which connections there are."""
    return SimpleNamespace(connections=dict.fromkeys(live, object()), full={})


def test_pings_of_connections_that_are_gone_are_forgotten_before_they_are_due() -> None:
    clocks = Clocks()
    live = set(range(0, 10_000, 100))
    for serial in range(10_000):
        clocks.pings.append((30.0 + serial, serial))
        assert clocks.next(_tcp({kept for kept in live if kept <= serial})) is not None
        assert len(clocks.pings) < 2 * len(live) + 1100
    assert {serial for _, serial in clocks.pings} >= live
    assert list(clocks.pings) == sorted(clocks.pings)
