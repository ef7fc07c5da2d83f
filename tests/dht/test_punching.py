"""Hole punching: when, and to which ports (c-toxcore DHT.c: do_nat, punch_holes)."""

from core.dht.lists import BAD_NODE_S, Client
from core.dht.punching import MAX_PORTS_A_ROUND, Punching, reported_addresses, routers
from core.endpoint import Endpoint, from_text, port_of
from tests.dht.actors import public

FRIEND = b"\x07" * 32


def at(port: int, host: str = "198.51.100.7") -> Endpoint:
    return from_text(host, port)


def voice(number: int, report: Endpoint | None, when: float = 0.0) -> Client:
    client = Client(number.to_bytes(32, "big"))
    association = client.place(public(number), 0.0)
    association.reported = report
    association.reported_at = when
    return client


def test_ports_that_all_agree_are_tried_alone() -> None:
    assert Punching().round([at(5000)] * 4, 0.0) == [at(5000)]


def test_nodes_that_do_not_agree_on_an_address_are_no_ground_to_punch() -> None:
    reported = [at(1, f"198.51.100.{number}") for number in range(1, 5)]
    assert Punching().round(reported, 0.0) == []
    assert Punching().round([at(5000)] * 3, 0.0) == []


def test_different_ports_are_walked_outward_from_in_turn() -> None:
    ports = [1000, 2000, 3000, 4000]
    first = [port_of(target) for target in Punching().round([at(port) for port in ports], 0.0)]
    assert len(first) == MAX_PORTS_A_ROUND == 48
    # Steps 0-7 have distance 0, 8-15 distance 1 (even steps up, odd ones down), and so on.
    assert first[:8] == [1000, 1000, 2000, 2000, 3000, 3000, 4000, 4000]
    assert first[8:16] == [1001, 999, 2001, 1999, 3001, 2999, 4001, 3999]


def test_the_next_round_goes_on_where_the_last_one_ended() -> None:
    punching = Punching()
    reported = [at(1000), at(2000), at(3000), at(4000)]
    punching.round(reported, 0.0)
    second = [port_of(target) for target in punching.round(reported, 4.0)]
    assert second[:2] == [1006, 994]


def test_after_five_tries_ports_from_1024_are_tried_besides_with_overlap() -> None:
    punching = Punching()
    for number in range(6):
        assert len(punching.round([at(5000)] * 4, 4.0 * number)) == 1
    seventh = punching.round([at(5000)] * 4, 24.0)
    assert [port_of(target) for target in seventh[1:]] == list(range(1024, 1072))
    eighth = punching.round([at(5000)] * 4, 28.0)
    assert port_of(eighth[1]) == 1048


def test_forty_idle_seconds_begin_anew() -> None:
    punching = Punching()
    for number in range(8):
        punching.round([at(5000)] * 4, 4.0 * number)
    assert len(punching.round([at(5000)] * 4, 28.0 + 40.1)) == 1


def test_port_zero_is_never_tried() -> None:
    reported = [at(port) for port in (3, 2, 3, 2)]
    targets = Punching().round(reported, 0.0)
    assert all(port_of(target) for target in targets)
    assert len(targets) < MAX_PORTS_A_ROUND


def test_both_sides_must_be_trying_right_now() -> None:
    punching = Punching()
    assert not punching.may_punch(10.0)
    punching.answered = True
    assert not punching.may_punch(10.0)  # the peer never pinged
    punching.heard_at = 4.0
    assert punching.may_punch(10.0)
    assert not punching.may_punch(10.1)  # the peer's ping is older than 6 s
    punching.heard_at = 10.0
    punching.round([at(5000)] * 4, 10.0)
    punching.answered = True
    assert not punching.may_punch(13.0)
    assert punching.may_punch(13.1)


def test_reports_count_while_they_are_fresh_and_in_the_better_known_family() -> None:
    six = from_text("2001:db8::7", 1)
    clients = [voice(1, at(1)), voice(2, at(2)), voice(3, six), voice(4, None)]
    assert reported_addresses(clients, FRIEND, 1.0) == [at(1), at(2)]
    assert reported_addresses(clients[1:], FRIEND, 1.0) == [six]
    assert reported_addresses(clients, FRIEND, BAD_NODE_S) == []
    assert routers(clients, 1.0) == [[public(1)], [public(2)], [public(3)]]
    assert routers(clients, BAD_NODE_S) == []


def test_no_punching_to_a_friend_who_answers_us() -> None:
    friend = Client(FRIEND)
    friend.place(public(9), 0.0)
    clients = [voice(number, at(1)) for number in range(1, 6)] + [friend]
    assert reported_addresses(clients, FRIEND, 1.0) == []
    assert len(reported_addresses(clients, FRIEND, BAD_NODE_S - 1)) == 0
    assert friend.is_bad(BAD_NODE_S)
