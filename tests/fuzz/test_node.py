"""Wrong datagrams and TCP streams at a running node: it takes them all and loses no worker."""

import pytest

from tests.fuzz import node

pytestmark = pytest.mark.process


def _check(count: int, seed: int) -> None:
    outcome = node.run(count, seed)
    assert outcome.problems() == []
    assert outcome.datagrams + outcome.streams >= count
    assert outcome.answers > count // 20  # much of it got far enough to be answered


def test_a_node_outlives_wrong_datagrams_and_streams() -> None:
    _check(60_000, seed=11)


@pytest.mark.slow
def test_a_node_outlives_a_quarter_of_a_million_wrong_datagrams_and_streams() -> None:
    _check(250_000, seed=12)
