"""Close list, search entries and pending requests: who gets a place, and for how long."""

from core.dht.distance import BUCKET_COUNT, LAST_BUCKET, bucket_of, number_of
from core.dht.lists import BAD_NODE_S, KILL_NODE_S, Client, CloseList
from core.dht.pending import MAX_PENDING, PENDING_S, PendingRequests
from core.dht.searches import MAX_CLIENTS, Nearest, SearchEntry
from core.endpoint import Endpoint, from_text
from core.entropy import SeededEntropy
from tests.dht.actors import key_at, public

OWN = bytes(range(32))
LAN = from_text("192.168.1.7", 33445)
SIX = from_text("2001:db8::7", 33445)


def close_list() -> tuple[CloseList, set[bytes]]:
    gone: set[bytes] = set()
    return CloseList(OWN, gone), gone


def filled(bucket: int, count: int, now: float = 0.0) -> tuple[CloseList, set[bytes]]:
    close, gone = close_list()
    for number in range(count):
        assert close.add(key_at(OWN, bucket, number), public(number), now) is not None
    return close, gone


def test_the_distance_of_the_specs_example() -> None:
    assert (2 ^ 5, 2 ^ 6, 5 ^ 6) == (7, 4, 3)
    assert number_of(bytes(31) + b"\x05") == 5


def test_the_bucket_is_the_first_differing_bit_and_deep_ones_share_the_last() -> None:
    own = number_of(OWN)
    for bucket in (0, 1, 7, 8, 126, 127):
        assert bucket_of(own, number_of(key_at(OWN, bucket, 0))) == bucket
    assert bucket_of(own, number_of(key_at(OWN, 200, 0))) == LAST_BUCKET == BUCKET_COUNT - 1


def test_a_bucket_takes_eight_good_nodes_and_no_ninth() -> None:
    close, _ = filled(3, 8)
    assert not close.has_room(key_at(OWN, 3, 8), public(8), 1.0)
    assert close.add(key_at(OWN, 3, 8), public(8), 1.0) is None
    assert close.has_room(key_at(OWN, 4, 8), public(8), 1.0)


def test_a_small_list_has_eight_in_near_buckets_and_two_in_far_ones() -> None:
    gone: set[bytes] = set()
    close = CloseList(OWN, gone, far_size=2)
    for number in range(8):
        assert close.add(key_at(OWN, 0, number), public(number), 0.0) is not None
    for number in range(7):
        assert close.add(key_at(OWN, 5, number), public(8 + number), 0.0) is not None
    assert close.bucket_sizes(0.0) == {0: 8, 5: 7}
    assert not gone
    # the eighth that is nearer makes the first bucket a far one; a bad node of it goes first
    bad = close.by_key[key_at(OWN, 0, 3)]
    bad.place(public(3), -BAD_NODE_S)
    assert close.add(key_at(OWN, 9, 0), public(20), 0.0) is not None
    assert close.bucket_sizes(0.0) == {0: 2, 5: 7, 9: 1}
    assert len(gone) == 6
    assert bad.key in gone
    assert not close.has_room(key_at(OWN, 0, 9), public(30), 0.0)
    assert close.has_room(key_at(OWN, 1, 9), public(30), 0.0)
    assert close.has_room(key_at(OWN, 5, 7), public(30), 0.0)


def test_our_own_key_has_no_place() -> None:
    close, _ = close_list()
    assert close.add(OWN, public(1), 0.0) is None


def test_a_bad_node_gives_way_and_a_good_one_does_not() -> None:
    close, gone = filled(3, 8)
    assert close.touch(key_at(OWN, 3, 0), public(0), 100.0) is not None
    assert close.add(key_at(OWN, 3, 8), public(8), BAD_NODE_S - 0.1) is None
    assert close.add(key_at(OWN, 3, 8), public(8), BAD_NODE_S) is not None
    assert gone == {key_at(OWN, 3, 1)}
    assert key_at(OWN, 3, 0) in close.by_key
    assert len(close) == 8


def test_either_association_keeps_a_node_good() -> None:
    client = Client(bytes(32))
    client.place(public(1), 0.0)
    client.place(SIX, 100.0)
    assert not client.is_bad(BAD_NODE_S + 1)
    assert client.best(BAD_NODE_S + 1) == SIX
    assert client.is_bad(100.0 + BAD_NODE_S)
    assert client.best(100.0 + BAD_NODE_S) is None
    association = client.association(SIX)
    assert association is not None
    assert not association.is_killed(99.0 + KILL_NODE_S)
    assert association.is_killed(100.0 + KILL_NODE_S)


def test_a_public_address_is_never_replaced_by_a_local_one_but_the_reverse_is() -> None:
    close, _ = close_list()
    key = key_at(OWN, 3, 0)
    close.add(key, public(1), 0.0)
    client = close.touch(key, LAN, 50.0)
    assert client is not None
    assert client.best(60.0) == public(1)
    assert client.is_bad(BAD_NODE_S)  # the local answer was no sign of life for the public one
    other = key_at(OWN, 3, 1)
    close.add(other, LAN, 0.0)
    client = close.touch(other, public(2), 50.0)
    assert client is not None
    assert client.best(60.0) == public(2)


def test_the_same_address_with_a_new_key_ends_the_old_node() -> None:
    close, gone = filled(3, 2)
    assert close.touch(key_at(OWN, 9, 0), public(1), 5.0) is None
    assert gone == {key_at(OWN, 3, 1)}
    assert close.add(key_at(OWN, 9, 0), public(1), 5.0) is not None


def test_a_node_that_moves_to_anothers_address_ends_that_one() -> None:
    close, gone = filled(3, 2)
    client = close.touch(key_at(OWN, 3, 0), public(1), 5.0)
    assert client is not None
    assert client.best(6.0) == public(1)
    assert gone == {key_at(OWN, 3, 1)}
    assert close.touch(key_at(OWN, 5, 0), public(0), 6.0) is None  # its old address is free
    assert len(close) == 1


def test_two_nodes_of_one_prefix_share_a_bucket_and_no_third() -> None:
    close, _ = close_list()
    for number in range(3):
        endpoint = from_text(f"203.0.113.{number + 1}", 33445)
        taken = close.add(key_at(OWN, 3, number), endpoint, 0.0)
        assert (taken is not None) == (number < 2)
    assert close.has_room(key_at(OWN, 4, 0), from_text("203.0.113.9", 33445), 0.0)


def test_twelve_nodes_of_one_prefix_share_the_table_until_they_are_bad() -> None:
    close, _ = close_list()
    taken = [
        close.add(key_at(OWN, bucket, 0), from_text(f"203.0.113.{bucket + 1}", 33445), 0.0)
        for bucket in range(20)
    ]
    assert sum(client is not None for client in taken) == 12
    last = from_text("203.0.113.99", 33445)
    assert not close.has_room(key_at(OWN, 30, 0), last, 1.0)
    assert close.has_room(key_at(OWN, 30, 0), last, BAD_NODE_S)


def test_nodes_of_local_networks_are_not_counted_by_prefix() -> None:
    close, _ = close_list()
    for number in range(8):
        local = from_text("127.0.0.1", 33445 + number)
        assert close.add(key_at(OWN, 3, number), local, 0.0) is not None


def test_killed_nodes_come_back_as_bad_ones() -> None:
    close, _ = filled(3, 2)
    close.revive(1000.0)
    for client in close:
        for association in client.associations():
            assert association.is_bad(1000.0)
            assert not association.is_killed(1000.0 + KILL_NODE_S - BAD_NODE_S - 0.1)


def test_bucket_sizes_count_good_nodes() -> None:
    close, _ = filled(3, 5)
    close.add(key_at(OWN, 4, 0), public(50), 100.0)
    assert close.bucket_sizes(1.0) == {3: 5, 4: 1}
    assert close.bucket_sizes(BAD_NODE_S) == {4: 1}
    assert close.has_good(BAD_NODE_S)
    assert not close.has_good(100.0 + BAD_NODE_S)


def test_a_search_keeps_the_eight_nearest() -> None:
    target = bytes(32)
    entry = SearchEntry(target, 4, set())
    for number in range(100, 0, -1):
        entry.take(number.to_bytes(32, "big"), public(number), 0.0)
    assert [client.number for client in entry.clients] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert not entry.wants((9).to_bytes(32, "big"), public(9), 0.0)
    assert entry.wants((9).to_bytes(32, "big"), public(200), BAD_NODE_S)  # all are bad


def test_a_search_replaces_a_bad_node_before_a_farther_one() -> None:
    gone: set[bytes] = set()
    entry = SearchEntry(bytes(32), 4, gone)
    for number in range(1, MAX_CLIENTS + 1):
        entry.take(number.to_bytes(32, "big"), public(number), 0.0 if number == 2 else 100.0)
    entry.take((99).to_bytes(32, "big"), public(99), BAD_NODE_S)
    assert gone == {(2).to_bytes(32, "big")}
    assert entry.find((99).to_bytes(32, "big")) is not None
    assert len(entry.clients) == MAX_CLIENTS


def test_a_search_takes_two_nodes_of_a_prefix_and_the_searched_node_always() -> None:
    target = (5).to_bytes(32, "big")
    entry = SearchEntry(target, 4, set())
    for number in (1, 2, 3, 5):
        taken = entry.take(
            number.to_bytes(32, "big"), from_text(f"203.0.113.{number}", 33445), 0.0
        )
        assert (taken is not None) == (number != 3)


def test_a_search_forgets_the_old_key_of_an_address() -> None:
    gone: set[bytes] = set()
    entry = SearchEntry(bytes(32), 4, gone)
    entry.take((1).to_bytes(32, "big"), public(1), 0.0)
    entry.take((2).to_bytes(32, "big"), public(1), 1.0)
    assert gone == {(1).to_bytes(32, "big")}
    assert [client.number for client in entry.clients] == [2]


def test_named_nodes_are_kept_by_nearness_and_not_asked_again_while_an_answer_counts() -> None:
    nearest = Nearest(bytes(32), 2)
    assert nearest.offer((9).to_bytes(32, "big"), public(9), 0.0)
    assert nearest.offer((5).to_bytes(32, "big"), public(5), 0.0)
    assert not nearest.offer((5).to_bytes(32, "big"), public(5), 0.0)
    assert not nearest.offer((20).to_bytes(32, "big"), public(20), 0.0)
    assert nearest.offer((1).to_bytes(32, "big"), public(1), 0.0)
    assert [key[-1] for key, _ in nearest.take(0.0)] == [5, 1]
    assert len(nearest) == 0
    assert not nearest.offer((1).to_bytes(32, "big"), public(1), PENDING_S - 0.1)
    assert nearest.offer((1).to_bytes(32, "big"), public(1), PENDING_S)


KEY = b"\x07" * 32
HERE = public(1)


def asked() -> tuple[PendingRequests, bytes]:
    pending = PendingRequests(SeededEntropy(1))
    return pending, pending.add(KEY, HERE, 0.0)


def test_an_answer_counts_once() -> None:
    pending, request_id = asked()
    assert pending.expects(KEY, HERE, 1.0)
    assert pending.take(request_id, KEY, HERE, 1.0)
    assert not pending.take(request_id, KEY, HERE, 1.0)
    assert not pending.expects(KEY, HERE, 1.0)


def test_an_answer_counts_from_the_asked_key_and_address_alone() -> None:
    pending, request_id = asked()
    assert not pending.take(request_id, b"\x08" * 32, HERE, 1.0)
    assert not pending.take(request_id, KEY, public(2), 1.0)
    assert not pending.expects(KEY, Endpoint(public(1, 1)), 1.0)
    assert not pending.take(bytes(8), KEY, HERE, 1.0)
    assert pending.take(request_id, KEY, HERE, 1.0)


def test_an_answer_counts_for_five_seconds() -> None:
    pending, request_id = asked()
    assert not pending.expects(KEY, HERE, PENDING_S)
    assert not pending.take(request_id, KEY, HERE, PENDING_S)
    assert len(pending) == 0


def test_when_512_wait_the_oldest_is_lost_and_counted() -> None:
    pending, first = asked()
    ids = [pending.add(KEY, HERE, 0.1) for _ in range(MAX_PENDING)]
    assert len(pending) == MAX_PENDING
    assert pending.lost == 1
    assert not pending.take(first, KEY, HERE, 0.2)
    assert all(pending.take(request_id, KEY, HERE, 0.2) for request_id in ids)
    assert len(pending) == 0
