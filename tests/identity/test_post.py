"""Letters: each friend's messages in order, kept until the friend has them, also over a process."""

import asyncio

import pytest

from core.crypto import PublicKey, SecretKey
from core.messenger.errors import NotConnected, UnknownFriend
from core.messenger.events import MessageKind
from tests.identity.clock import run
from toxmesh.identity.mailbox import Mailbox
from toxmesh.identity.post import _IN_FLIGHT, Post

SECRET = SecretKey(bytes(range(32)))
ALICE = PublicKey(bytes(range(1, 33)))


class Desk:
    """A messenger that takes what it is given."""

    def __init__(self, box: Mailbox) -> None:
        self.taken: list[tuple[int, bytes]] = []
        self.away = False
        self.post = Post(box, self._deliver)

    def _deliver(self, friend: PublicKey, kind: MessageKind, raw: bytes, letter: int) -> int:
        if self.away:
            raise NotConnected("gone")
        self.taken.append((letter, raw))
        return len(self.taken)

    def texts(self) -> list[bytes]:
        return [raw for _, raw in self.taken]


def test_letters_are_the_numbers_in_the_mailbox_and_a_receipt_is_one_for_all_before() -> None:
    async def story() -> None:
        box = Mailbox(None, SECRET)
        desk = Desk(box)
        desk.post.online(ALICE, True)
        sent = [desk.post.send(ALICE, MessageKind.NORMAL, b"%d" % number) for number in range(3)]
        assert desk.taken == [(sent[number].id, b"%d" % number) for number in range(3)]
        desk.post.receipt(ALICE, 2)
        await asyncio.sleep(0)
        assert [one.done for one in sent] == [True, True, False]
        assert box.counts() == (1, 0)
        desk.post.receipt(ALICE, 1)  # of one that is done already
        desk.post.receipt(ALICE, 77)
        assert box.counts() == (1, 0)

    run(story())


def test_what_a_program_sends_and_does_not_keep_is_not_sent() -> None:
    async def story() -> None:
        box = Mailbox(None, SECRET)
        desk = Desk(box)
        desk.post.online(ALICE, True)
        try:
            with box.together():
                desk.post.send(ALICE, MessageKind.NORMAL, b"never")
                raise RuntimeError
        except RuntimeError:
            pass
        with box.together():
            desk.post.send(ALICE, MessageKind.NORMAL, b"a")
            desk.post.send(ALICE, MessageKind.NORMAL, b"b")
            assert desk.taken == []
        assert desk.texts() == [b"a", b"b"]

    run(story())


def test_a_successor_goes_on_behind_what_was_taken() -> None:
    async def story() -> None:
        box = Mailbox(None, SECRET)
        before = Desk(box)
        before.post.online(ALICE, True)
        ids = [before.post.send(ALICE, MessageKind.NORMAL, b"%d" % n).id for n in range(6)]
        before.post.close()
        desk = Desk(box)  # the friend has 0 and 1, the session 2 and 3; 4 and 5 were on their way
        desk.post.resume(ALICE, taken=ids[3], acked=ids[1], flying=((98, ids[2]), (99, ids[3])))
        desk.post.online(ALICE, True)
        await asyncio.sleep(0)
        assert desk.texts() == [b"4", b"5"]
        assert box.counts() == (4, 0)
        desk.post.receipt(ALICE, 98)
        await asyncio.sleep(0)
        assert box.counts() == (3, 0)
        desk.post.receipt(ALICE, 99)
        desk.post.online(ALICE, False)  # receipts that came count at once then
        assert box.counts() == (2, 0)
        desk.post.online(ALICE, True)
        await asyncio.sleep(0)
        desk.post.receipt(ALICE, 4)
        desk.post.close()
        assert box.counts() == (0, 0)

    run(story())


def test_what_flies_of_a_predecessor_takes_its_place() -> None:
    async def story() -> None:
        box = Mailbox(None, SECRET)
        ids = [box.put(ALICE, 0, b"%d" % number) for number in range(2 * _IN_FLIGHT)]
        desk = Desk(box)
        flying = [(900 + place, ids[place]) for place in range(1, _IN_FLIGHT - 4)]
        desk.post.resume(ALICE, ids[_IN_FLIGHT - 5], ids[0], flying)
        desk.post.online(ALICE, True)
        await asyncio.sleep(0)
        assert len(desk.taken) == 5
        assert desk.taken[0][0] == ids[_IN_FLIGHT - 4]
        desk.post.arrived(ALICE, ids[10])
        await asyncio.sleep(0)
        assert len(desk.taken) == 15

    run(story())


def test_a_session_that_is_gone_gives_all_again() -> None:
    async def story() -> None:
        box = Mailbox(None, SECRET)
        ids = [box.put(ALICE, 0, b"%d" % number) for number in range(3)]
        desk = Desk(box)
        desk.post.resume(ALICE, ids[2], ids[0], ((8, ids[1]), (9, ids[2])))
        desk.post.online(ALICE, False)
        desk.post.arrived(ALICE, ids[2])  # too late to be believed: which session was it?
        assert box.counts() == (2, 0)
        desk.post.online(ALICE, True)
        await asyncio.sleep(0)
        assert desk.texts() == [b"1", b"2"]

    run(story())


def test_a_letter_beyond_what_was_handed_over_is_no_receipt() -> None:
    async def story() -> None:
        box = Mailbox(None, SECRET)
        desk = Desk(box)
        desk.post.online(ALICE, True)
        await asyncio.sleep(0)
        desk.away = True
        desk.post.send(ALICE, MessageKind.NORMAL, b"still here")
        desk.post.arrived(ALICE, 2**62)
        await asyncio.sleep(0)
        assert box.counts() == (1, 0)

    run(story())


def test_who_waits_for_a_friend_that_was_removed_hears_it() -> None:
    async def story() -> None:
        box = Mailbox(None, SECRET)
        desk = Desk(box)
        desk.post.online(ALICE, True)
        sent = [desk.post.send(ALICE, MessageKind.NORMAL, b"%d" % number) for number in range(3)]
        desk.post.receipt(ALICE, 1)
        desk.post.forget(ALICE)
        assert [one.done for one in sent] == [True, False, False]
        await sent[0].delivered()
        with pytest.raises(UnknownFriend):
            await sent[1].delivered()
        assert desk.post._sent == {}
        assert box.counts() == (0, 0)

    run(story())
