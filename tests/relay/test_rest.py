"""Sockets rest only where that saves turns: not for two that wait for each other's frame."""

from broker.tcp_rest import Rest
from core.relay import RelayLimits
from tests.relay.joined import Joined

LIMITS = RelayLimits()


def rests(rest: Rest, ready: list[int]) -> list[bool]:
    """Whether the sockets rest after each of these turns."""
    return [rest.after(count, 0, count, float(turn)) for turn, count in enumerate(ready)]


def test_a_lone_exchange_soon_never_rests() -> None:
    rest = Rest(LIMITS)
    turns = rests(rest, [1, 2] * 500)
    assert turns[0]
    assert sum(turns[:100]) < 10
    assert sum(turns[100:]) < 20


def test_many_small_senders_share_turns() -> None:
    rest = Rest(LIMITS)
    assert all(rests(rest, [3, 4, 5, 3, 7, 4] * 10))
    assert rest.until == 59.0 + LIMITS.rest_s


def test_a_rest_that_gathers_others_again_is_repeated() -> None:
    rest = Rest(LIMITS)
    rests(rest, [1] * 300)
    turns = rests(rest, [3] * 200)
    assert sum(turns) > 100
    assert all(turns[-50:])


def test_after_much_or_nothing_there_is_no_rest() -> None:
    rest = Rest(LIMITS)
    assert rests(rest, [0, LIMITS.rest_below, 100, 0]) == [False] * 4
    assert not rest.after(1, 0, LIMITS.rest_below, 9.0)
    assert rest.after(1, 0, 1, 10.0)
    assert not rest.after(0, 0, 0, 11.0)
    assert rest.after(1, 0, 1, 12.0)  # the first after a pause goes at once, the next may wait


def test_what_nobody_waits_for_is_as_good_as_nothing() -> None:
    rest = Rest(LIMITS)
    assert rest.after(100, 98, 0, 1.0)
    assert not rest.after(100, 100 - LIMITS.rest_below, 0, 2.0)
    assert rest.after(100, 100, LIMITS.rest_below - 1, 3.0)


def test_a_relay_may_be_told_never_to_rest() -> None:
    assert not any(rests(Rest(RelayLimits(rest_s=0)), [1, 2, 3] * 10))


def test_idle_clients_wake_the_relay_for_pings_alone() -> None:
    relay = Joined(1)
    ends = []
    for _ in range(40):  # one after the other, in two seconds
        ends.append(relay.confirmed())
        relay.now += 0.05
    times = []
    while (when := relay.tcp.next_timer()) is not None and when < 1061.0:
        times.append(relay.now)
        relay.now = when
        relay.tcp.handle_timer(when)
        relay.run()
        for end in ends:
            for packet in end.take():
                assert packet[0] == 4
                end.send(b"\x05" + packet[1:])
        relay.run()
    assert not any(end.closed for end in ends)
    assert len(times) <= 10
