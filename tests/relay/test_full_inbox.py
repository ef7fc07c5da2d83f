"""A receiver whose inbox alone made it full has room again as soon as the inbox is empty."""

from core.relay import RelayLimits
from tests.relay.joined import Joined

LIMITS = RelayLimits(per_address=0, per_prefix=0, rest_s=0)


def test_a_receiver_that_takes_a_full_inbox_at_once_has_room_again() -> None:
    relay = Joined(2, LIMITS)
    alice, bob = relay.confirmed(0), relay.confirmed(1)
    _, link = relay.linked(alice, bob)
    assert bob.connection is not None
    frame = bytes((link,)) + bytes(1000)
    count = LIMITS.queue_high // len(frame) + 1
    for _ in range(count):
        relay.tcp.post_data(bob.connection, frame, "relay_receiver_full", relay.now)
    assert bob.connection.full
    relay.run()
    assert bob.take() == [frame] * count
    assert not bob.connection.full
    assert not relay.tcp.full
