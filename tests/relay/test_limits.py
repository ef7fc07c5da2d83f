"""Limits of the relay that are changed while it runs: they hold at once and nobody is closed."""

from dataclasses import replace

from core.bounds import Bounds
from core.endpoint import from_text
from core.module import NodeOptions
from core.relay import RelayLimits
from tests.relay.joined import Joined


def limited() -> tuple[Joined, Bounds]:
    relay = Joined(limits=RelayLimits(rest_s=0))
    return relay, Bounds(relay.tcp.bounds.rows())


def test_an_address_may_have_more_or_fewer() -> None:
    relay, rows = limited()
    ends = [relay.confirmed() for _ in range(6)]
    rows.learn({"relay.per_address": 4})
    assert relay.connect().connection is None
    assert relay.hooks.drops["relay_per_address"] == 1
    assert not any(end.closed for end in ends)
    assert rows.show()["relay.per_address"] == {"value": 4, "default": 64, "use": 6}
    assert relay.connect(source=from_text("198.51.100.1", 1)).connection is not None
    rows.learn({})
    assert relay.connect().connection is not None


def test_a_prefix_and_those_without_a_frame_are_limited_too() -> None:
    relay, rows = limited()
    rows.learn({"relay.per_prefix": 2, "relay.unconfirmed": 16})
    ends = [relay.connect(source=from_text(f"192.0.2.{n}", 1)) for n in range(1, 4)]
    assert [end.connection is None for end in ends] == [False, False, True]
    for number in range(30):
        relay.connect(source=from_text(f"198.51.{number}.1", 1))
    relay.run()
    shown = rows.show()
    assert shown["relay.unconfirmed"]["use"] == 16
    assert shown["relay.per_prefix"] == {"value": 2, "default": 256, "use": 1}
    assert relay.hooks.drops["relay_unconfirmed_oldest"] == 16


def test_times_are_those_that_hold_when_they_begin() -> None:
    relay, rows = limited()
    rows.learn({"relay.hello_s": 2})
    end = relay.connect()
    relay.wait(3)
    relay.run()
    assert end.closed
    assert relay.hooks.drops["relay_hello_late"] == 1


def test_settings_that_change_are_followed_and_what_was_laid_down_stays() -> None:
    relay, rows = limited()
    rows.learn({"relay.per_address": 4, "relay.queue_bytes": 200_000})
    options = replace(NodeOptions(), relay_per_address=9, relay_per_prefix=11)
    relay.tcp.follow(options, relay.now)
    shown = rows.show()
    assert shown["relay.per_address"]["value"] == 4
    assert shown["relay.per_address"]["default"] == 9
    assert shown["relay.per_prefix"]["value"] == 11
    assert relay.tcp.limits.queue_limit == 200_000
    assert relay.tcp.limits.control_limit == 204_096  # data alone closes nobody
    rows.learn({})
    assert relay.tcp.limits.per_address == 9
    assert relay.tcp.limits.control_limit == 96 << 10


def test_room_is_as_much_as_descriptors_allow() -> None:
    relay, rows = limited()
    rows.learn({"relay.connections": 2})
    assert rows.show()["relay.connections"]["value"] == 2
    assert relay.tcp.door.room == 2
    rows.learn({"relay.connections": 1_000_000_000})
    assert relay.tcp.door.room < 1_000_000_000
    assert rows.show()["relay.connections"]["value"] == relay.tcp.door.room
