"""When the client asks whom: the reference's times, and no wake without work."""

from itertools import pairwise

from core.crypto import open_sealed
from core.onion_client.searching import TARGETS
from core.packets.dht import DhtKeyPacket, DhtKeyRequestBody
from core.packets.nodes import NodeInfo
from tests.onion_client.hand import START, UNIX, Hand, Request, make_node, pair, shared

FRIEND = pair("friend")
DATA = pair("friend's data")


def of(rows: list[Request], hand: Hand, own: bool) -> dict[bytes, list[float]]:
    """Returns the times of each node, of our own announces or of searches."""
    found: dict[bytes, list[float]] = {}
    for request in rows:
        if (request.requester == hand.real.public) == own:
            found.setdefault(request.node.info.key, []).append(request.at)
    return found


def test_a_node_is_told_after_a_second_and_again_in_fifteen_and_when_it_is_stable_in_120() -> None:
    hand = Hand()
    rows = hand.go(400)
    for whens in of(rows, hand, own=True).values():
        asked, told, *rest = whens
        assert told - asked == 1
        assert rest[0] - told == 15
        gaps = [after - before for before, after in pairwise(rest)]
        assert all(15 <= gap <= 120 for gap in gaps)
        assert gaps[-1] > 100
    late = sorted(request.at for request in rows if request.at > hand.now - 200)
    assert max(after - before for before, after in pairwise(late)) <= 15  # some node always


def test_a_node_that_does_not_take_us_is_asked_after_three_seconds_and_then_less_often() -> None:
    hand = Hand(1)
    (request,) = hand.go(0.5, serve=False)
    whens = []
    for _ in range(40):
        hand.answer(request, 0)
        found: list[Request] = []
        while not found:
            found = [one for one in hand.go(0.25, serve=False) if one.body.ping_id != bytes(32)]
        whens.append(hand.now)
        request = found[0]
    gaps = [round(after - before) for before, after in pairwise(whens)]
    assert gaps == sorted(gaps)
    assert set(gaps) == {3, 6, 12, 15}  # the oldest of all nodes, here this one, is asked anyway


def test_the_ping_id_goes_by_the_path_on_which_it_came() -> None:
    hand = Hand()
    rows = hand.go(100)
    ways: dict[bytes, set[object]] = {}
    for request in rows:
        if request.body.ping_id != bytes(32):
            ways.setdefault(request.node.info.key, set()).add(request.hops)
    assert len(ways) == 12
    assert {len(hops) for hops in ways.values()} == {1}


def test_a_silent_node_is_asked_three_times_and_gives_its_place_away_after_fifteen_seconds() -> (
    None
):
    hand = Hand(13)
    hand.connect()
    dead = hand.client._announce.nodes.nodes[0].node.key
    asked = []
    end = hand.now + 120
    while hand.now < end:
        for request in hand.go(0.25, serve=False):
            if request.node.info.key == dead:
                asked.append(hand.now)
            else:
                hand.serve(request)
    entry = hand.client._announce.nodes.find(dead)
    assert entry is None or entry.is_timed_out(hand.now)
    assert len(asked) <= 4


def test_a_node_that_was_named_is_asked_once_in_ten_seconds() -> None:
    hand = Hand(4)
    dead = hand.add_node(50)
    asked = []
    end = hand.now + 61
    while hand.now < end:
        for request in hand.go(0.25, serve=False):
            if request.node == dead:
                asked.append(hand.now)
            elif request.requester == hand.real.public:
                hand.answer(request, 2, b"q" * 32, (dead.info,))
    assert len(asked) >= 3
    assert min(after - before for before, after in pairwise(asked)) >= 10


def test_a_friend_is_sought_each_three_seconds_at_first_and_then_ever_more_rarely() -> None:
    hand = Hand()
    hand.connect()
    hand.client.add_friend(FRIEND.public, hand.now)
    began = hand.now
    whens = sorted(
        when - began for rows in of(hand.go(3000), hand, own=False).values() for when in rows
    )
    assert 3 * TARGETS <= sum(when <= 10 for when in whens) <= 5 * TARGETS
    quick = sum(when <= 60 for when in whens)
    later = sum(1000 <= when <= 1060 for when in whens)
    assert quick > 5 * TARGETS - 8 > 4 * later
    gaps = [after - before for before, after in pairwise(whens[-6:])]
    assert min(gaps) >= 128  # a quarter of 512 s between two nodes
    status = hand.client.search_status(FRIEND.public, hand.now)
    assert status is not None
    assert status.interval_s >= 512


def test_nobody_is_sought_before_we_can_be_found_ourselves() -> None:
    hand = Hand()
    hand.client.add_friend(FRIEND.public, hand.now)
    rows = hand.go(20)
    first_search = min(one.at for one in rows if one.requester != hand.real.public)
    assert first_search == START + 1 + 3  # told after one second, held for three
    assert hand.connections == [True]


def test_our_dht_key_goes_by_the_onion_each_30_seconds_to_all_nodes_that_know_the_friend() -> None:
    hand = Hand()
    hand.connect()
    hand.client.add_friend(FRIEND.public, hand.now)
    seen = []
    numbers = []
    for _ in range(400):
        hand.go(0.25, DATA.public)
        letters = hand.letters()
        if letters:
            seen.append((hand.now, len(letters)))
            request = letters[0].request
            assert request.destination == FRIEND.public
            text = open_letter(request.temporary_key, request.nonce, request.sealed)
            assert text[:32] == hand.real.public
            packet = DhtKeyPacket.open(shared(FRIEND, hand.real.public), request.nonce, text[32:])
            assert packet.dht_key == hand.dht.public
            assert packet.nodes == tuple(hand.own)
            assert packet.no_replay == int(hand.now + UNIX)
            numbers.append(packet.no_replay)
            assert {one.request.nonce for one in letters} == {request.nonce}
    assert [count for _, count in seen] == [TARGETS] * len(seen)
    assert len(seen) == 4
    assert all(29.5 <= after - before <= 30.5 for (before, _), (after, _) in pairwise(seen))
    assert numbers == sorted(set(numbers))


def open_letter(temporary: bytes, nonce: bytes, sealed: bytes) -> bytes:
    """Opens the outer box as the friend does."""
    text = open_sealed(shared(DATA, temporary), nonce, sealed)
    assert text is not None
    return text


def test_our_dht_key_goes_by_dht_request_each_twenty_seconds_while_the_friend_s_is_known() -> None:
    hand = Hand()
    hand.connect()
    hand.client.add_friend(FRIEND.public, hand.now)
    friend_dht = pair("friend's dht")
    hand.client.set_dht_key(FRIEND.public, friend_dht.public, hand.now)
    hand.go(61)
    assert len(hand.requests_by_dht) == 4
    to, plain = hand.requests_by_dht[-1]
    assert to == friend_dht.public
    request = DhtKeyRequestBody.decode(plain)
    assert request.real_key == hand.real.public
    key = shared(FRIEND, hand.real.public)
    packet = DhtKeyPacket.open(key, request.nonce, request.sealed)
    assert (packet.dht_key, packet.nodes) == (hand.dht.public, tuple(hand.own))
    hand.routed = 0  # the DHT knows no way: sooner
    hand.go(40)
    assert len(hand.requests_by_dht) == 4 + 1 + 7
    hand.client.set_dht_key(FRIEND.public, None, hand.now)
    count = len(hand.requests_by_dht)
    hand.go(60)
    assert len(hand.requests_by_dht) == count


def test_while_a_session_is_up_the_friend_is_left_alone() -> None:
    hand = Hand()
    hand.connect()
    hand.client.add_friend(FRIEND.public, hand.now)
    hand.go(20, DATA.public)
    hand.client.set_online(FRIEND.public, True, hand.now)
    hand.sent.clear()
    assert not of(hand.go(200), hand, own=False)
    assert hand.letters() == []
    hand.client.set_online(FRIEND.public, False, hand.now)
    assert len(of(hand.go(2), hand, own=False)) == TARGETS
    assert hand.letters() == []  # what nodes said before is not used


def test_without_an_answer_for_75_seconds_we_are_offline_and_when_they_come_again_online() -> None:
    hand = Hand()
    hand.connect()
    hand.client.add_friend(FRIEND.public, hand.now)
    hand.go(30)
    last = hand.now
    lost = 0.0
    while not lost:
        hand.go(0.5, serve=False)
        if hand.connections[-1] is False:
            lost = hand.now - last
    assert 30 <= lost <= 79
    hand.go(30, serve=False)
    hand.go(25)
    assert hand.connections == [True, False, True]


def test_half_of_the_living_nodes_have_to_keep_our_announcement() -> None:
    hand = Hand(12)
    takers = {node.info.key for node in hand.nodes[:5]}
    for more, connections in ((None, []), (hand.nodes[5], [True])):
        if more is not None:
            takers.add(more.info.key)
        end = hand.now + 30
        while hand.now < end:
            for request in hand.go(0.25, serve=False):
                if request.node.info.key in takers:
                    hand.serve(request)
                else:
                    hand.answer(request, 0)
        assert hand.connections == connections


def test_without_any_node_nothing_is_sent_and_the_wakes_get_rare() -> None:
    hand = Hand(0)
    hand.client.add_friend(FRIEND.public, hand.now)
    wakes = 0
    while hand.now < START + 600:
        due = hand.client.next_timer()
        assert due is not None
        hand.now = max(hand.now, due)
        hand.client.handle_timer(hand.now)
        wakes += 1
    assert hand.sent == []
    assert wakes <= 140
    node = hand.add_node(1)
    hand.given = [node.info]
    hand.client.network_changed(hand.now)
    assert hand.client.next_timer() == hand.now
    assert hand.go(0.5, serve=False)


def test_hundreds_of_friends_do_not_begin_in_the_same_moment() -> None:
    hand = Hand()
    for number in range(200):
        hand.client.add_friend(pair(f"friend {number}").public, hand.now)
    busiest = 0
    for _ in range(40):
        busiest = max(busiest, len(hand.go(0.25)))
    assert hand.connections == [True]
    assert busiest < 300


def test_relays_of_a_friend_and_saved_nodes_stay_bounded() -> None:
    hand = Hand(40)
    hand.connect()
    for number in range(100):
        node = make_node(2000 + number).info
        hand.client.add_bootstrap(node.endpoint, node.key)
    saved = hand.client.path_nodes_to_save()
    assert len(saved) == 8
    assert all(isinstance(node, NodeInfo) and not node.tcp for node in saved)
    assert hand.client.status(hand.now).path_nodes == 32
    assert len(hand.client._asker.path_nodes._bootstrap) == 32


def test_a_few_seconds_into_a_session_nothing_is_kept_that_was_for_the_search() -> None:
    hand = Hand()
    hand.connect()
    hand.client.add_friend(FRIEND.public, hand.now)
    hand.go(20, DATA.public)
    assert hand.client.status(hand.now).paths > 6
    hand.client.set_online(FRIEND.public, True, hand.now)
    hand.go(4)
    assert hand.client._searches[FRIEND.public].nodes.nodes
    hand.go(1)
    assert hand.client._searches[FRIEND.public].nodes.nodes == []
    assert hand.client.status(hand.now).paths <= 6
    hand.client.set_online(FRIEND.public, False, hand.now)
    hand.go(5, DATA.public)
    status = hand.client.search_status(FRIEND.public, hand.now)
    assert status is not None
    assert status.storing == TARGETS
