"""Who is shut out gets no stream, and those that are there are closed: in made-up time."""

from typing import Any

from core.endpoint import from_text
from core.relay import RelayLimits
from tests.relay.joined import End, Joined

NET = [bytes((198, 51, 100, 0)), 24]


def ban(relay: Joined, **parts: Any) -> None:
    whole = {"whole": False, "add": [], "remove": [], "add_keys": [], "remove_keys": []}
    relay.tcp.handle_bans(relay.hooks.bans.learn(whole | parts), relay.now)
    relay.wait(0.25)


def come(relay: Joined, host: str) -> End:
    end = relay.connect(source=from_text(host, 4000))
    if end.connection is not None:
        end.socket.sendall(end.client.hello())
    relay.run()
    return end


def test_streams_of_a_banned_prefix_are_closed_and_no_new_one_is_taken() -> None:
    relay = Joined()
    inside = [come(relay, f"198.51.100.{number}") for number in range(1, 30)]
    outside = come(relay, "198.51.101.1")
    ban(relay, add=[NET])
    assert all(end.closed for end in inside)
    assert not outside.closed
    assert relay.hooks.drops["relay_banned_prefix"] == 29
    assert come(relay, "198.51.100.77").connection is None
    assert relay.hooks.drops["relay_banned_prefix"] == 30
    ban(relay, remove=[NET])
    assert not come(relay, "198.51.100.77").closed


def test_many_are_looked_through_in_turns_and_packets_go_on_between_them() -> None:
    relay = Joined(limits=RelayLimits(unconfirmed=0, per_address=0, per_prefix=0, rest_s=0))
    ends = [relay.connect(source=from_text(f"198.51.{n >> 5}.1", n + 1)) for n in range(1100)]
    assert len(relay.tcp.connections) > 1024
    relay.tcp.handle_bans(
        relay.hooks.bans.learn(
            {"whole": True, "add": [NET], "remove": [], "add_keys": [], "remove_keys": []}
        ),
        relay.now,
    )
    assert relay.tcp.next_timer() == 0.0  # at once, and not before other events had their turn
    relay.tcp.handle_timer(relay.now)
    assert relay.tcp.next_timer() == 0.0
    relay.tcp.handle_timer(relay.now)
    assert relay.tcp.next_timer() != 0.0
    for end in ends:
        end.socket.close()


def test_a_banned_key_is_refused_at_its_hello_and_shut_out_where_it_is() -> None:
    relay = Joined(2)
    one, other = relay.confirmed(0), relay.confirmed(1)
    _, theirs = relay.linked(one, other)
    greeted = relay.greeted(0)
    ban(relay, add_keys=[one.key, greeted.key])
    assert one.closed
    assert greeted.closed
    assert other.take() == [bytes((3, theirs))]
    assert relay.hooks.drops["relay_banned_key"] == 2
    again = relay.connect(keys=one.client.keys)
    again.socket.sendall(again.client.hello())
    relay.run()
    assert again.closed
    assert not again.client.ready
    assert relay.hooks.drops["relay_banned_key"] == 3
    ban(relay, remove_keys=[one.key])
    assert not relay.confirmed(keys=one.client.keys).closed
