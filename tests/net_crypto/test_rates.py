"""How well a stream fills a link, beside the reference's rule, and what two streams do."""

import pytest

from core.net_crypto.bandwidth import Bandwidth
from tests.net_crypto.link import Flow, Link, goodput
from tests.net_crypto.reference_rule import ReferenceRule

SECONDS = 15.0


def measured(rule: type[Bandwidth] | type[ReferenceRule], loss: float, stock: bool) -> float:
    """Packets a second in order over a link of 3,000 (4 MB/s), 60 ms there and back."""
    link = Link(1, rate=3000, queue=300, loss=loss)
    flow = Flow(link, rule(link.now, 2), stock_receiver=stock)
    return goodput(link, flow, 0, SECONDS)


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
@pytest.mark.parametrize("loss", [0.01, 0.05, 0.1])
def test_goodput_is_at_least_one_and_a_half_times_that_of_the_reference(
    loss: float, stock: bool
) -> None:
    ours, reference = measured(Bandwidth, loss, stock), measured(ReferenceRule, loss, stock)
    assert ours >= 1.5 * reference
    assert ours >= 0.75 * 3000 * (1 - loss)


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_a_clean_link_is_filled_and_little_is_sent_twice(stock: bool) -> None:
    link = Link(1, rate=1000, queue=100)
    flow = Flow(link, Bandwidth(link.now), stock_receiver=stock)
    assert goodput(link, flow, 1, 15) >= 950
    assert flow.copies <= 1.05 * flow.delivered


def test_a_third_of_all_packets_lost_leaves_half_of_the_link() -> None:
    assert measured(Bandwidth, 0.3, False) >= 0.4 * 3000


def test_a_little_disorder_costs_little() -> None:
    link = Link(1, rate=1000, queue=200, jitter=0.02)
    assert goodput(link, Flow(link, Bandwidth(link.now)), 5, 15) >= 950


def test_where_packets_come_in_no_order_at_all_the_reference_is_slower_still() -> None:
    rates = []
    for rule in (Bandwidth, ReferenceRule):
        link = Link(1, rate=1000, queue=200, jitter=0.28)
        rates.append(goodput(link, Flow(link, rule(link.now)), 5, 15))
    assert rates[0] >= 3 * rates[1]


def jain(values: list[float]) -> float:
    """Jain's index: 1 if all have the same, 0.5 if one of two has everything."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.1])
def test_two_streams_share_a_link_fairly(loss: float) -> None:
    indices = []
    for seed in range(8):  # with four the mean is a matter of luck
        link = Link(seed, rate=1000, queue=100, loss=loss)
        flows = [
            Flow(link, Bandwidth(link.now, 2)),
            Flow(link, Bandwidth(link.now, 5), begin=seed % 4),
        ]
        link.run(10)
        before = [flow.delivered for flow in flows]
        link.run(20)
        shares = [float(flow.delivered - old) for flow, old in zip(flows, before, strict=True)]
        assert sum(shares) >= 20 * 1000 * (1 - loss) * 0.75
        assert min(shares) >= 0.2 * sum(shares)
        indices.append(jain(shares))
    assert sum(indices) / len(indices) >= 0.9


def test_a_small_link_gets_small_bursts() -> None:
    link = Link(1, rate=30, queue=20)
    flow = Flow(link, Bandwidth(link.now))
    assert goodput(link, flow, 5, 30) >= 24
    assert link.overflows <= 0.2 * flow.copies
