"""What the relay remembers of clients that are gone stays small."""

from typing import Any

from broker.tcp_pings import Pings


def test_pings_of_connections_that_are_gone_are_forgotten_before_they_are_due() -> None:
    pings = Pings()
    live: dict[int, Any] = {}
    for serial in range(10_000):
        if serial % 100 == 0:
            live[serial] = object()
        pings.add(serial, 30.0 + serial / 100)
        assert pings.next(live) == 30.0
        assert len(pings.due_rows()) < 2 * len(live) + 1100
    rows = pings.due_rows()
    assert {serial for _, serial in rows} >= set(live)
    assert rows == sorted(rows)
