"""How much of a link our rule fills, and the reference's beside it: `python -m
tests.net_crypto.bench_goodput`. In made-up time, so that it gives the same on any machine."""

from core.net_crypto.bandwidth import Bandwidth
from tests.net_crypto.link import Flow, Link, goodput
from tests.net_crypto.reference_rule import ReferenceRule

RATES = {100: 50, 300: 100, 1000: 100, 3000: 300}  # packets a second: the queue before that
LOSSES = (0.01, 0.05, 0.1)
SECONDS = 15.0


def filled(rule: type[Bandwidth] | type[ReferenceRule], rate: int, loss: float) -> float:
    """Returns which share of a link of 60 ms there and back comes out in order, to a stock peer."""
    link = Link(1, rate=rate, queue=RATES[rate], loss=loss)
    flow = Flow(link, rule(link.now, 2), stock_receiver=True)
    return goodput(link, flow, 0, SECONDS) / rate


def main() -> None:
    """Prints a line for each link and loss."""
    print("packets/s    loss    ours  theirs    times")
    for rate in RATES:
        for loss in LOSSES:
            ours, theirs = (filled(rule, rate, loss) for rule in (Bandwidth, ReferenceRule))
            print(f"{rate:9} {loss:6.0%} {ours:7.0%} {theirs:7.0%} {ours / theirs:8.2f}")


if __name__ == "__main__":
    main()
