"""The relay's side stops: nothing of it is due any more."""

from core.relay import RelayLimits
from tests.relay.joined import Joined


def test_a_relay_that_stops_while_its_sockets_rest_has_nothing_more_to_do() -> None:
    relay = Joined(1, RelayLimits(per_address=0, per_prefix=0))
    end = relay.greeted_slowly()
    end.send(b"\x04" + bytes(7) + b"\x01")
    relay.sockets()
    assert relay.tcp.next_timer() == relay.now + relay.limits.rest_s
    relay.tcp.handle_stop(relay.now)
    assert relay.tcp.next_timer() is None
    relay.tcp.handle_timer(relay.now + 1)
    relay.tcp.handle_worker(0, None, relay.now + 1)
    relay.tcp.handle_credit(0, relay.now + 1)
    assert end.pull() == 0
    assert end.closed
