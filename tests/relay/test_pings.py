"""Pings leave together and are answered together, and neither a ping nor an answer gets lost."""

from broker import tcp_handover
from broker.tcp import RelayTcp
from broker.tcp_connection import NOT_PINGED, PING_WAITS, count_between, nonce_after
from broker.tcp_handover import Taken
from core import batch
from core.entropy import SeededEntropy
from core.link.descriptors import Channel
from core.module import NodeOptions
from core.relay.limits import RelayLimits
from tests.relay.joined import End, Joined

LINKLESS_S = 0.05  # an answer of a client without links may wait so long


def inputs(relay: Joined, shard: int = 0) -> list[tuple[int, int]]:
    """How many frames and parts of streams are in each input that was sent and not handled."""
    rows = [batch.decode(frame).items for frame in relay.hooks.sent[shard]]
    return [(len(row[5]) // 3, len(row[7]) // 2) for row in rows]


def due(relay: Joined, seconds: float = 30.0) -> None:
    """Lets time go by until pings are due, and gives them to the workers."""
    relay.now += seconds
    relay.tcp.handle_timer(relay.now)


def answer(end: End) -> bytes:
    """Reads the ping that a client was sent, answers it, and returns its id."""
    end.pull()
    (ping,) = end.take()
    assert ping[0] == 4
    assert len(ping) == 9
    end.send(b"\x05" + ping[1:])
    return ping[1:]


def pinged(clients: int, shards: int = 1) -> tuple[Joined, list[End]]:
    """Some clients without links that were just pinged."""
    relay = Joined(shards)
    ends = [relay.confirmed(0) for _ in range(clients)]
    due(relay)
    while any([relay.work(shard) for shard in range(shards)]):
        continue
    return relay, ends


def test_pings_that_are_due_within_a_second_leave_together() -> None:
    relay = Joined()
    begin = relay.now
    for _ in range(24):  # one after the other
        relay.confirmed()
        relay.now += 0.15
    groups = []
    while (when := relay.tcp.next_timer()) is not None and when < begin + 35.0:
        assert when >= begin + 29.0
        relay.now = when
        relay.tcp.handle_timer(when)
        groups += inputs(relay)
        relay.run()
    assert groups == [(7, 0), (7, 0), (7, 0), (3, 0)]
    assert [end.take()[0][:1] for end in relay.ends] == [b"\x04"] * 24


def test_they_come_again_every_half_minute() -> None:
    relay = Joined()
    end = relay.confirmed()
    times: list[float] = []
    while len(times) < 3:
        when = relay.tcp.next_timer()
        assert when is not None
        relay.now = when
        relay.tcp.handle_timer(when)
        relay.run()
        for packet in end.take():
            times.append(when)
            end.send(b"\x05" + packet[1:])
        relay.wait(LINKLESS_S)
    assert [round(times[i + 1] - times[i], 2) for i in range(2)] == [30.0, 30.0]
    assert relay.hooks.drops == {}


def test_who_does_not_answer_is_closed_and_others_stay() -> None:
    relay, ends = pinged(3)
    answer(ends[0])
    answer(ends[2])
    relay.wait(10.5)
    assert [end.closed for end in ends] == [False, True, False]
    assert relay.hooks.drops == {"relay_pong_late": 1}


def test_a_ping_of_a_worker_that_died_is_given_to_the_next_and_nobody_is_in_doubt() -> None:
    relay = Joined()
    end = relay.confirmed()
    for _ in range(3):  # where it was in hand at each of these deaths
        due(relay, 30.0 if not inputs(relay) else 0.0)
        assert inputs(relay) == [(1, 0)]
        relay.kill(0)
        relay.start(0)
        assert end.connection is not None
        assert end.connection.deaths == 0
        assert relay.work(0)  # takes the record
    relay.run()
    answer(end)
    relay.wait(11)
    assert not end.closed
    assert end.connection is not None
    assert end.connection.pinging == NOT_PINGED


def test_a_ping_that_waits_goes_along_to_another_shard() -> None:
    relay = Joined(2)
    end = relay.confirmed(0)
    connection = end.connection
    assert connection is not None
    relay.hooks.sent[0].extend([b""] * 4)  # its worker has no time
    due(relay)
    assert connection.pinging == PING_WAITS
    relay.hooks.sent[0].clear()
    relay.tcp.works[1].arrive(connection)
    relay.tcp.pump(relay.now)
    relay.run()
    answer(end)
    relay.wait(11)
    assert not end.closed


def test_the_next_broker_sends_a_ping_that_waits_and_keeps_all_times() -> None:
    relay = Joined()
    ends = [relay.confirmed() for _ in range(3)]
    relay.now += 5.0
    ends.append(relay.confirmed())
    first = ends[0].connection
    assert first is not None
    due(relay, 25.0)
    relay.run()
    answer(ends[0])
    relay.run()
    first.pinging = PING_WAITS
    ours, end = Channel.pair()
    theirs = Channel(end)
    tcp_handover.hand_over(relay.tcp, ours)
    taken = Taken()
    while not taken.done:
        for note in theirs.receive():
            taken.add(note)
    before, relay.tcp = relay.tcp, RelayTcp(
        relay.hooks, [], NodeOptions(), RelayLimits(rest_s=0), SeededEntropy("next")
    )
    assert relay.tcp.take_over(taken) == 4
    assert relay.tcp.clocks.pings.due_rows() == before.clocks.pings.due_rows()
    assert relay.tcp.clocks.pings.asked_rows() == before.clocks.pings.asked_rows()
    after = relay.tcp.connections[first.serial]
    assert after.pinging == PING_WAITS
    assert (after.receive, after.send) == (first.receive, first.send)
    assert (after.frames_in, after.frames_out) == (first.frames_in, first.frames_out)


def test_answers_of_clients_without_links_make_one_input() -> None:
    relay, ends = pinged(20)
    for end in ends:
        answer(end)
        relay.sockets()
        assert not relay.hooks.sent[0]
    when = relay.tcp.next_timer()
    assert when == relay.now + LINKLESS_S
    relay.now = when
    relay.tcp.handle_timer(when)
    assert inputs(relay) == [(0, 20)]
    relay.wait(11)
    assert not any(end.closed for end in ends)


def test_data_waits_for_nobody_and_takes_answers_along() -> None:
    relay = Joined()
    idle, alice, bob = (relay.confirmed() for _ in range(3))
    link, other = relay.linked(alice, bob)
    due(relay)
    relay.work(0)
    answer(idle)
    relay.sockets()
    assert not relay.hooks.sent[0]
    bob.pull()
    assert bob.take()[0][:1] == b"\x04"
    alice.send(bytes((link,)) + b"at once")  # it has yet to answer as well
    relay.sockets()
    assert inputs(relay) == [(0, 2)]
    relay.work(0)
    bob.pull()
    assert bob.take() == [bytes((other,)) + b"at once"]
    assert idle.connection is not None
    assert idle.connection.ping_id is None


def test_one_without_links_that_owes_no_answer_is_heard_at_once() -> None:
    relay, (end,) = pinged(1)
    answer(end)
    relay.sockets()
    relay.wait(LINKLESS_S)
    end.send(b"\x04" + bytes(7) + b"\x02")
    relay.sockets()
    assert inputs(relay) == [(0, 1)]


def test_one_that_leaves_is_not_waited_for() -> None:
    relay, (end,) = pinged(1)
    answer(end)
    end.socket.close()
    relay.sockets()
    relay.work(0)
    relay.sockets()
    assert not relay.tcp.connections


def test_answers_that_wait_are_taken_by_the_next_worker() -> None:
    relay, (end,) = pinged(1)
    answer(end)
    relay.sockets()
    relay.kill(0)
    relay.start(0)
    relay.wait(11)
    assert not end.closed


def test_nonces_are_those_of_the_first_frame_and_all_since_then() -> None:
    last = b"\xff" * 24
    assert nonce_after(last, 1) == bytes(24)
    assert nonce_after(last, 258) == bytes(22) + b"\x01\x01"
    assert count_between(last, bytes(24)) == 1
    assert count_between(bytes(24), bytes(24)) == 0
    assert count_between(last, nonce_after(last, 12_345)) == 12_345
