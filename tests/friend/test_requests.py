"""Friend requests: what is shown of those that come, and when ours go out again."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.crypto import KeyPair, PublicKey
from core.entropy import SeededEntropy
from core.friend.requests import LONGEST_PAUSE_S, FriendRequests

OWN, FRIEND = (KeyPair.generate(SeededEntropy(seed)).public for seed in (1, 2))
NOSPAM = b"spam"


class Ways:
    """Where requests go."""

    def __init__(self) -> None:
        self.onion: list[tuple[PublicKey, bytes]] = []
        self.session: list[tuple[PublicKey, bytes]] = []
        self.found = True
        self.linked = False

    def send_onion(self, real_key: PublicKey, data: bytes, now: float) -> int:
        if self.found:
            self.onion.append((real_key, data))
        return 2 if self.found else 0

    def send_session(self, real_key: PublicKey, data: bytes, now: float) -> bool:
        if self.linked:
            self.session.append((real_key, data))
        return self.linked


class World:
    """Requests of one identity."""

    def __init__(self) -> None:
        self.shown: list[tuple[PublicKey, bytes]] = []
        self.drops: Counter[str] = Counter()
        self.ways = Ways()
        self.friends = {FRIEND}
        self.requests = FriendRequests(
            OWN,
            (NOSPAM,),
            self.friends.__contains__,
            lambda key, text, now: self.shown.append((key, text)),
            self.ways,
            self.drops,
        )

    def hear(self, key: PublicKey, text: bytes = b"hello", nospam: bytes = NOSPAM) -> None:
        """A request comes by the onion."""
        self.requests.onion_data(key, b"\x20" + nospam + text, 0.0)


def stranger(number: int) -> PublicKey:
    """Returns the key of the stranger of this number."""
    return PublicKey(number.to_bytes(32, "big"))


def test_a_request_with_our_nospam_is_shown() -> None:
    world = World()
    world.hear(stranger(1))
    world.requests.session_data(stranger(2), b"\x12spamfrom a conference", 0.0)
    assert world.shown == [(stranger(1), b"hello"), (stranger(2), b"from a conference")]


@pytest.mark.parametrize("size", [1, 921])
def test_texts_of_1_to_921_bytes_are_shown(size: int) -> None:
    world = World()
    world.hear(stranger(1), b"t" * size)
    assert len(world.shown) == 1


@pytest.mark.parametrize("size", [0, 922])
def test_other_sizes_are_counted(size: int) -> None:
    world = World()
    world.hear(stranger(1), b"t" * size)
    world.requests.session_data(stranger(1), b"\x12spam" + b"t" * size, 0.0)
    assert world.drops == {"friend_request_size": 2}
    assert world.shown == []


def test_another_nospam_is_not_taken_but_several_of_ours_are() -> None:
    world = World()
    world.hear(stranger(1), nospam=b"mine")
    world.requests.set_nospams((NOSPAM, b"mine"))
    world.hear(stranger(1), nospam=b"mine")
    assert world.drops == {"friend_request_nospam": 1}
    assert len(world.shown) == 1
    with pytest.raises(ValueError, match="17 nospams, more than 16"):
        world.requests.set_nospams([bytes((n, 0, 0, 0)) for n in range(17)])


def test_s29_a_thousand_requests_with_a_wrong_nospam_show_and_keep_nothing() -> None:
    world = World()
    for number in range(1000):
        world.hear(stranger(number), nospam=number.to_bytes(4, "big"))
    assert world.drops == {"friend_request_nospam": 1000}
    assert world.shown == []
    world.hear(stranger(5))
    assert len(world.shown) == 1  # a wrong guess is nothing that keeps anybody out


def test_friends_and_we_ourselves_need_not_ask() -> None:
    world = World()
    world.hear(FRIEND)
    world.hear(OWN)
    assert world.drops == {"friend_request_known": 2}


def test_one_who_asks_again_and_again_is_shown_once() -> None:
    world = World()
    for _ in range(3):
        world.hear(stranger(1))
    assert world.drops == {"friend_request_again": 2}
    for number in range(2, 34):  # 32 others
        world.hear(stranger(number))
    world.hear(stranger(1))
    assert [key for key, _ in world.shown].count(stranger(1)) == 2


def test_who_is_forgotten_may_ask_again() -> None:
    world = World()
    world.hear(stranger(1))
    world.requests.forget(stranger(1))
    world.requests.forget(stranger(2))
    world.hear(stranger(1))
    assert len(world.shown) == 2


def run(world: World, until: float) -> list[float]:
    """Lets time pass up to `until`; returns when a request left."""
    times = []
    while (due := world.requests.timers.next()) is not None and due <= until:
        if world.requests.handle_timer(due):
            times.append(due)
    return times


def test_a_request_goes_out_after_5_10_20_s_and_at_last_every_hour() -> None:
    world = World()
    world.requests.begin(stranger(1), NOSPAM, b"hello", 0.0)
    times = run(world, 20_000)
    assert times[:5] == [0, 5, 15, 35, 75]
    assert max(b - a for a, b in pairwise(times)) == LONGEST_PAUSE_S
    assert world.ways.onion[0] == (stranger(1), b"\x20spamhello")
    world.requests.end(stranger(1))
    assert world.requests.timers.next() is None
    world.requests.end(stranger(1))


def test_one_that_the_onion_has_not_found_is_tried_soon_and_waits_no_longer_for_that() -> None:
    world = World()
    world.ways.found = False
    world.requests.begin(stranger(1), NOSPAM, b"hello", 0.0)
    assert run(world, 100) == []
    world.ways.found = True
    assert run(world, 110) == [102, 107]


def test_a_session_is_taken_where_there_is_one() -> None:
    world = World()
    world.ways.linked = True
    world.requests.begin(stranger(1), NOSPAM, b"hello", 0.0)
    run(world, 0)
    assert world.ways.onion == []
    assert world.ways.session == [(stranger(1), b"\x12spamhello")]


@given(data=st.binary(max_size=1200), inside=st.booleans())
def test_any_bytes_are_shown_or_counted(data: bytes, inside: bool) -> None:
    world = World()
    take = world.requests.session_data if inside else world.requests.onion_data
    take(stranger(1), bytes((0x12 if inside else 0x20,)) + data, 0.0)
    assert len(world.shown) + sum(world.drops.values()) == 1
