"""Who is linked to whom, rule by rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.module import ProtocolViolation
from core.relay import Directory, Notice

KEYS = [bytes((number,)) * 32 for number in range(8)]


def directory(count: int = 3) -> Directory:
    """Clients 1, 2, 3 with the keys of those numbers."""
    result = Directory()
    for serial in range(1, count + 1):
        assert result.confirm(serial, KEYS[serial]) is None
    return result


def test_a_link_comes_up_when_both_have_asked_and_the_peer_hears_first() -> None:
    both = directory()
    assert both.route(1, KEYS[2]) == [Notice(1, b"\x01\x10" + KEYS[2])]
    assert both.peer_of(1, 16) is None
    both.route(2, KEYS[3])
    assert both.route(2, KEYS[1]) == [
        Notice(1, b"\x02\x10", 2, 17),
        Notice(2, b"\x01\x11" + KEYS[1], 1, 16),
    ]
    assert both.peer_of(1, 16) == (2, 17)
    assert both.peer_of(2, 17) == (1, 16)


def test_a_second_request_for_a_key_gets_the_same_id_and_nothing_else() -> None:
    both = directory()
    both.route(1, KEYS[2])
    both.route(2, KEYS[1])
    assert both.route(1, KEYS[2]) == [Notice(1, b"\x01\x10" + KEYS[2])]


def test_ids_are_the_lowest_free_and_240_at_most() -> None:
    one = directory(1)
    for number in range(240):
        key = bytes((number, 1)) + bytes(30)
        assert one.route(1, key)[0].frame[1] == 16 + number
    assert one.route(1, bytes((240, 1)) + bytes(30))[0].frame[1] == 0
    for link_id in (200, 17, 90):
        one.unlink(1, link_id)
    frees = [one.route(1, bytes((number, 2)) + bytes(30))[0].frame[1] for number in range(4)]
    assert frees == [17, 90, 200, 0]


def test_a_client_that_goes_is_a_disconnect_for_each_peer_in_order_of_its_ids() -> None:
    three = directory()
    for one, other in ((1, 3), (3, 1), (1, 2), (2, 1)):
        three.route(one, KEYS[other])
    assert three.remove(1) == [Notice(3, b"\x03\x10"), Notice(2, b"\x03\x10")]
    assert three.remove(1) == []
    assert three.find(KEYS[1]) is None
    assert three.peer_of(2, 16) is None
    assert three.confirm(9, KEYS[1]) is None
    assert three.route(9, KEYS[2])[0] == Notice(2, b"\x02\x10", 9, 16)


def test_the_older_connection_of_a_key_is_named() -> None:
    two = directory(2)
    assert two.confirm(7, KEYS[1]) == 1
    assert two.find(KEYS[1]) is two.client(1)


def test_no_link_can_be_given_up_twice() -> None:
    one = directory(1)
    one.route(1, KEYS[2])
    assert one.unlink(1, 16) == []
    with pytest.raises(ProtocolViolation, match="relay_no_link"):
        one.unlink(1, 16)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["route", "unlink", "remove", "confirm"]),
            st.integers(0, 5),
            st.integers(0, 5),
        ),
        max_size=60,
    )
)
def test_whatever_happens_both_halves_of_a_link_agree(
    steps: list[tuple[str, int, int]],
) -> None:
    every = Directory()
    serials: dict[int, int] = {}
    told: dict[int, set[int]] = {}  # by serial: link ids the client believes to be up
    for number, (what, who, whom) in enumerate(steps):
        serial = serials.get(who)
        notices: list[Notice] = []
        if what == "confirm":
            if serial is not None:
                notices = every.remove(serial)
                del told[serial]
            serials[who] = number + 100
            assert every.confirm(number + 100, KEYS[who]) is None
            told[number + 100] = set()
        elif serial is None:
            continue
        elif what == "remove":
            notices = every.remove(serial)
            del serials[who], told[serial]
        elif what == "route":
            notices = every.route(serial, KEYS[whom])
        else:
            client = every.client(serial)
            assert client is not None
            link_id = 16 + whom
            if link_id in client.links:
                notices = every.unlink(serial, link_id)
                told[serial].discard(link_id)
        for notice in notices:
            kind, link_id = notice.frame[0], notice.frame[1]
            if notice.peer_serial:
                told[notice.serial].add(link_id)
                assert every.peer_of(notice.serial, link_id) == notice[2:]
            elif kind == 3:
                told[notice.serial].remove(link_id)
    for serial, links in told.items():
        client = every.client(serial)
        assert client is not None
        assert {row for row, link in client.links.items() if link.peer is not None} == links
        for link_id in links:
            peer = every.peer_of(serial, link_id)
            assert peer is not None
            assert every.peer_of(*peer) == (serial, link_id)
