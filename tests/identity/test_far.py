"""The far half of an identity by itself: what it makes of what it is told."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from core.crypto import PublicKey
from core.entropy import SeededEntropy
from core.identity import EngineOptions, messages
from core.identity.far import FarEngine
from core.messages import Message
from core.messenger.events import ConnectionChanged, Event, IdentityConnected, MessageKind, Receipt
from core.messenger.events import Message as Text
from core.packets.messenger import Name, Online
from core.savedata.profile import Profile, SavedFriend

KEYS = Profile.generate(SeededEntropy("friend")).keys
FRIEND = KEYS.public
SERIAL = b"serial!!"
PROFILE = Profile.generate(SeededEntropy("own"))
TEXT = b"\x40hello"


class Host:
    """Keeps what the far half says."""

    def __init__(self, friends: int = 1, known: Mapping[bytes, tuple[bytes, int]] = {}) -> None:
        keys = [Profile.generate(SeededEntropy(f"{n}")).keys.public for n in range(friends - 1)]
        rows = tuple(SavedFriend(PublicKey(key)) for key in (FRIEND, *keys))
        profile = Profile(PROFILE.keys, PROFILE.nospam, friends=rows)
        self.told: list[Any] = []
        self.events: list[Event | IdentityConnected] = []
        self.stored: list[tuple[PublicKey, bytes, int]] = []
        self.taken_up: list[tuple[Any, ...]] = []
        self.known = known
        self.inside = False
        self.number = 0
        options = EngineOptions()
        entropy = SeededEntropy("far")
        self.engine = FarEngine(
            profile, entropy, self, 100.0, 0.0, options, (33445, 33545), ("0.0.0.0",)
        )

    def tell(self, message: Message) -> None:
        self.told.append(message)

    def event(self, event: Event | IdentityConnected, now: float) -> None:
        assert self.inside or not isinstance(event, Text)
        self.events.append(event)

    @contextmanager
    def together(self) -> Iterator[None]:
        self.inside = True
        yield
        self.inside = False

    def heard(self) -> Mapping[bytes, tuple[bytes, int]]:
        return self.known

    def hear(self, friend: PublicKey, serial: bytes, upto: int) -> None:
        assert self.inside
        self.stored.append((friend, serial, upto))

    def resumed(
        self,
        friend: PublicKey,
        taken: int,
        acked: int,
        flying: tuple[tuple[int, int], ...],
        now: float,
    ) -> None:
        self.taken_up.append((friend, taken, acked, flying))

    # What the near half says

    @property
    def link(self) -> bytes:
        """The link that was begun last."""
        return bytes(next(m.link for m in reversed(self.told) if isinstance(m, messages.Attach)))

    def hear_from(self, kind: Any, *fields: Any, now: float = 101.0) -> None:
        """The near half tells the next message of the link."""
        self.engine.handle_message(kind(PROFILE.keys.public, self.link, self.number, *fields), now)
        self.number += 1

    def answer(self, *sessions: tuple[Any, ...]) -> None:
        """The near half answers an attachment."""
        self.number = 0
        self.hear_from(messages.Attached, bytes(32), 33445, True)
        for session in sessions:
            self.hear_from(messages.SessionUp, *session)
        self.hear_from(messages.Complete)

    def last(self, kind: type[Any]) -> list[Any]:
        """Returns what was told of a kind on this link."""
        return [m for m in self.told if isinstance(m, kind) and m.link == self.link]


def up(
    serial: bytes = SERIAL,
    taken: tuple[int, int] = (0, 0),
    acked: tuple[int, int] = (0, 0),
    flying: tuple[tuple[int, int], ...] = (),
    over: bool = False,
    passed: tuple[Any, ...] = (),
) -> tuple[Any, ...]:
    """Returns the fields of a SessionUp."""
    return FRIEND, serial, True, taken, acked, flying, over, passed


SEEN = ((Online().encode(), Name(b"Bob").encode()), b"", b"")


def test_an_attachment_names_all_friends_and_what_is_stored_of_them() -> None:
    host = Host(friends=40, known={FRIEND: (SERIAL, 7)})
    (attach,) = host.last(messages.Attach)
    assert (attach.number, attach.secret) == (0, PROFILE.keys.secret.reveal())
    parts = host.last(messages.FriendsTold)
    assert [(part.number, len(part.friends), part.last) for part in parts] == [
        (1, 16, False), (2, 16, False), (3, 8, True),
    ]  # fmt: skip
    assert parts[0].friends[0] == (FRIEND, SERIAL, 7, None, ())
    assert parts[0].friends[1][1:] == (b"", -1, None, ())


def test_an_attachment_without_friends_is_complete() -> None:
    host = Host()
    host.engine.messenger.remove_friend(FRIEND, 100.0)
    host.engine.carrier_gone(101.0)
    host.engine.handle_timer(101.0)
    (part,) = host.last(messages.FriendsTold)
    assert (part.friends, part.last) == ((), True)


def test_an_attachment_without_an_answer_is_tried_again_ever_more_slowly() -> None:
    host = Host()
    waits = []
    for _ in range(6):
        due = host.engine.next_timer()
        assert due is not None
        waits.append(due)
        host.engine.handle_timer(due)
    assert [later - earlier for earlier, later in pairwise(waits)] == [
        4.0, 8.0, 16.0, 16.0, 16.0,
    ]  # fmt: skip
    host.answer()
    assert host.engine.next_timer() is None
    assert host.engine.connected
    assert host.events == [IdentityConnected(True)]


def test_links_do_not_follow_each_other_faster_than_four_a_second() -> None:
    host = Host()
    host.answer()
    for now in (101.0, 101.01, 101.02):
        host.hear_from(messages.LinkLost, now=now)
        host.engine.handle_timer(now)
    assert sum(isinstance(message, messages.Attach) for message in host.told) == 2
    host.engine.handle_timer(101.25)
    assert sum(isinstance(message, messages.Attach) for message in host.told) == 3


def test_what_is_not_of_the_link_or_not_the_next_is_not_taken() -> None:
    host = Host()
    host.answer()
    old = messages.Reachable(PROFILE.keys.public, b"another!", 0, False)
    host.engine.handle_message(old, 101.0)
    assert host.engine.drops["identity_old_link"] == 1
    host.number += 1
    host.hear_from(messages.Reachable, False)
    assert host.engine.drops["identity_link_gap"] == 1
    assert host.engine.connected
    host.engine.handle_timer(102.0)
    assert len([m for m in host.told if isinstance(m, messages.Attach)]) == 2


def test_packets_are_stored_and_then_said_to_be() -> None:
    host = Host()
    host.answer(up())
    (handed,) = host.last(messages.Handed)
    assert (handed.serial, handed.first, handed.packets[0]) == (SERIAL, 1, (0, b"\x18"))
    host.hear_from(messages.Came, FRIEND, SERIAL, 2, (Online().encode(), TEXT))
    assert host.stored == [(FRIEND, SERIAL, 2)]
    assert host.last(messages.Stored)[0][3:] == (FRIEND, SERIAL, 2)
    assert [event.text for event in host.events if isinstance(event, Text)] == ["hello"]
    host.hear_from(messages.Came, FRIEND, b"another!", 3, (TEXT,))
    assert host.engine.drops["identity_session_over"] == 1


def test_a_session_that_was_up_is_taken_up_with_its_letters() -> None:
    host = Host(known={FRIEND: (SERIAL, 7)})
    host.answer(up(taken=(9, 5), acked=(6, 3), flying=((7, 4), (9, 5)), passed=SEEN))
    assert host.taken_up == [(FRIEND, 5, 3, ((1, 4), (2, 5)))]
    assert host.engine.messenger.friend(FRIEND).saved.name == b"Bob"
    number = host.engine.messenger.send_message(FRIEND, MessageKind.NORMAL, "next", 101.0, 6)
    host.engine.settle(101.0)
    handed = [row for message in host.last(messages.Handed) for row in message.packets]
    assert host.last(messages.Handed)[0].first == 10
    assert handed[-1] == (6, b"\x40next")
    host.hear_from(messages.Advanced, FRIEND, SERIAL, (9 + len(handed), 6), (8, 4), 100)
    host.hear_from(messages.Advanced, FRIEND, SERIAL, (9 + len(handed), 6), (99, 6), 100)
    receipts = [event.message for event in host.events if isinstance(event, Receipt)]
    assert receipts == [1, 2, number]


def test_a_session_goes_on_with_another_carrier() -> None:
    host = Host()
    host.answer(up())
    host.hear_from(messages.Came, FRIEND, SERIAL, 0, (Online().encode(),))
    host.engine.messenger.send_message(FRIEND, MessageKind.NORMAL, "one", 101.0, 1)
    host.engine.carrier_gone(102.0)
    host.engine.messenger.send_message(FRIEND, MessageKind.NORMAL, "two", 102.0, 2)
    host.engine.handle_timer(102.0)
    told = host.last(messages.FriendsTold)[0].friends[0]
    assert told[:3] == (FRIEND, SERIAL, 0)
    assert told[3][0] == (Online().encode(),)
    assert host.last(messages.Handed) == []
    before = list(host.events)
    host.answer(up(taken=(2, 0)))
    handed = host.last(messages.Handed)[0]
    assert handed.first == 3
    assert [letter for letter, _ in handed.packets if letter] == [1, 2]
    assert host.events == before, "nobody notices"


def test_a_session_of_which_another_carrier_does_not_know_is_down() -> None:
    host = Host()
    host.answer(up(passed=SEEN))
    host.engine.carrier_gone(102.0)
    host.engine.handle_timer(102.0)
    host.answer()
    changes = [event for event in host.events if isinstance(event, ConnectionChanged)]
    assert [change.online for change in changes] == [True, False]


def test_the_end_of_a_session_is_confirmed_however_often_it_is_told() -> None:
    host = Host()
    host.answer(up(passed=SEEN))
    host.hear_from(messages.SessionDown, FRIEND, SERIAL)
    host.engine.carrier_gone(102.0)
    host.engine.handle_timer(102.0)
    before = list(host.events)
    host.answer(up(over=True, passed=SEEN))
    host.hear_from(messages.SessionDown, FRIEND, SERIAL)
    assert host.last(messages.Settled)[0][3:] == (FRIEND, SERIAL)
    assert host.events == before


def test_what_came_in_a_session_that_is_over_is_taken() -> None:
    host = Host()
    host.answer(up(over=True, acked=(4, 2), taken=(4, 2), passed=SEEN))
    assert host.taken_up == [(FRIEND, 2, 2, ())]
    host.hear_from(messages.Came, FRIEND, SERIAL, 9, (TEXT,))
    host.hear_from(messages.Advanced, FRIEND, SERIAL, (4, 2), (4, 2), 0)
    host.hear_from(messages.SessionDown, FRIEND, SERIAL)
    assert [event.text for event in host.events if isinstance(event, Text)] == ["hello"]
    assert host.last(messages.Handed) == []
    assert not host.engine.carrier.is_online(FRIEND)


def test_halves_that_disagree_make_a_new_session() -> None:
    host = Host()
    host.answer(up(passed=SEEN))
    host.hear_from(messages.Advanced, FRIEND, SERIAL, (99, 0), (0, 0), 0)
    assert host.engine.drops["identity_session_torn"] == 1
    assert [m.friend for m in host.last(messages.RemoveFriend)] == [FRIEND]
    assert [m.friend for m in host.last(messages.AddFriend)] == [FRIEND]
    assert not host.engine.carrier.is_online(FRIEND)


def test_files_of_an_earlier_messenger_are_cancelled_first_of_all() -> None:
    host = Host()
    host.answer(up(taken=(5, 0), passed=(SEEN[0], b"\x02", b"\x00\x01")))
    packets = [data for _, data in host.last(messages.Handed)[0].packets]
    assert packets[:2] == [b"\x51\x00\x08\x02", b"\x51\x01\x01\x02"]


def test_an_identity_that_is_refused_asks_later() -> None:
    host = Host()
    host.hear_from(messages.AttachRefused, "no port is free")
    assert host.engine.refused == "no port is free"
    assert host.engine.next_timer() == 101.0 + 15.0


def test_requests_by_the_onion_are_said_to_have_left_when_that_is_known() -> None:
    host = Host()
    host.answer()
    assert host.engine.carrier.send_onion(FRIEND, b"\x20request") == 0
    (sent,) = host.last(messages.OnionSend)
    assert sent[3:] == (FRIEND, b"\x20request")
    host.hear_from(messages.OnionSent, FRIEND, 3)
    assert host.engine.carrier.send_onion(FRIEND, b"\x20request") == 3
    assert host.engine.carrier.send_onion(FRIEND, b"\x20request") == 0


def test_an_identity_goes_offline_with_a_word() -> None:
    host = Host()
    host.answer(up(passed=SEEN))
    host.engine.shut_down(102.0)
    assert isinstance(host.told[-1], messages.Detach)
    assert host.engine.next_timer() is None
