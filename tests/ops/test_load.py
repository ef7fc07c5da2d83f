"""Operators cost a busy node next to nothing, and are answered at once all the same.

Figures and the machine they were taken on: docs/performance.md, *Operators*.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ops import load
from tests.processes.node import Node

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, str]]:
    with load.busy_node(Path(tmp_path_factory.mktemp("busy"))) as found:
        yield found


def test_a_busy_node_tells_its_status_at_once(busy: tuple[Node, str]) -> None:
    node, _ = busy
    answered = load.status_under_load(node, 12)
    assert len(answered.door_ms) >= 5
    assert max(answered.door_ms) < 300
    # how long a command lasts beyond that is a matter of what else the machine does
    assert min(answered.command_ms) < 300
    assert sorted(answered.command_cpu_ms)[len(answered.command_cpu_ms) // 2] < 200


def test_fifty_greedy_and_stuck_clients_take_less_than_a_thirtieth_of_a_core(
    busy: tuple[Node, str],
) -> None:
    node, _ = busy
    assert load.cost_of_siege(node, 8) < 3  # percent, of a core that a worker may share


def test_a_scrape_a_second_takes_less_than_a_hundredth_of_a_core(busy: tuple[Node, str]) -> None:
    node, place = busy
    _, each = load.cost_of_scrapes(node, place, 8)
    assert 0 < each < 10  # ms
