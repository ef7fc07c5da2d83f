"""An identity whose carrier is elsewhere: what it tells, and how it takes what it is told."""

import asyncio
from pathlib import Path

import pytest

from core.crypto import KeyPair
from core.entropy import SeededEntropy
from core.identity import messages
from core.messages import Message
from core.messenger.events import IdentityConnected
from core.net_crypto.memory import HeldMemory
from core.packets.messenger import Message as Text
from core.packets.messenger import Online
from tests.identity.clock import run
from toxmesh.identity.far import FarIdentities
from toxmesh.identity.identity import Identity
from toxmesh.identity.inbox import StoredMessage
from toxmesh.identity.mailbox import Mailbox, MailboxError

BOB = KeyPair.generate(SeededEntropy("bob")).public
SERIAL = b"session1"


class Carrier:
    """Says what another process would."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.far = FarIdentities(self.told.append)
        self._number = 0
        self._link: tuple[bytes, bytes] = (b"", b"")

    def identity(self, path: Path) -> Identity:
        return Identity.load(path, bootstrap=[], ports=(4000, 4001), runner=self.far.runner)

    def answer(self, *sessions: messages.SessionUp) -> None:
        """Answers the last attachment: these sessions are up."""
        attach = [one for one in self.told if isinstance(one, messages.Attach)][-1]
        self._link = attach.identity, attach.link
        self._number = 0
        self.say(messages.Attached(*self._next(), bytes(32), 4001, True))
        for session in sessions:
            own, link, number = self._next()
            self.say(session._replace(identity=own, link=link, number=number))
        self.say(messages.Complete(*self._next()))

    def _next(self) -> tuple[bytes, bytes, int]:
        self._number += 1
        return (*self._link, self._number - 1)

    def say(self, message: Message) -> None:
        self.far.handle_message(message)

    def came(self, upto: int, *packets: bytes) -> None:
        self.say(messages.Came(*self._next(), BOB, SERIAL, upto, packets))

    def refuse(self, reason: str) -> None:
        attach = self.told[0]
        assert isinstance(attach, messages.Attach)
        self.say(messages.AttachRefused(attach.identity, attach.link, 0, reason))

    def heard(self, kind: type) -> list[Message]:
        return [one for one in self.told if isinstance(one, kind)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "own.tox"

    async def befriended() -> None:
        async with Identity.create("Own", made, bootstrap=[], udp=False) as own:
            own.accept(BOB)

    asyncio.run(befriended())
    return made


def up(taken: tuple[int, int] = (0, 0), acked: tuple[int, int] = (0, 0), *flying: tuple[int, int]
       ) -> messages.SessionUp:  # fmt: skip
    return messages.SessionUp(b"", b"", 0, BOB, SERIAL, True, taken, acked, flying, False, ())


async def texts(own: Identity, count: int) -> list[str]:
    found: list[str] = []
    async for event in own.events():
        if isinstance(event, StoredMessage):
            found.append(event.text)
        if len(found) == count:
            break
    return found


def test_what_came_is_stored_before_the_carrier_is_told_so(path: Path) -> None:
    async def story() -> None:
        carrier = Carrier()
        async with carrier.identity(path) as own:
            assert own.port == 0
            carrier.answer(up())
            assert (own.port, own.connected) == (4001, True)
            carrier.came(0, Online().encode())
            carrier.came(7, Text(b"one").encode(), Text(b"two").encode())
            stored = carrier.heard(messages.Stored)
            assert [one.upto for one in stored if isinstance(one, messages.Stored)] == [0, 7]
            box = own._mailbox
            assert box is not None
            assert box.heard() == {BOB: (SERIAL, 7)}  # what brought nothing to store is not
            assert await texts(own, 2) == ["one", "two"]
            assert IdentityConnected(True) not in own._inbox._events
            await own.close(stays=True)
        assert carrier.heard(messages.Detach) == []
        later = Carrier()
        async with later.identity(path):
            (told,) = later.heard(messages.FriendsTold)
            assert isinstance(told, messages.FriendsTold)
            assert [tuple(row)[:3] for row in told.friends] == [(BOB, SERIAL, 7)]
        assert len(later.heard(messages.Detach)) == 1

    run(story())


def test_letters_are_named_and_a_successor_sends_what_was_not_taken(path: Path) -> None:
    async def story() -> None:
        carrier = Carrier()
        async with carrier.identity(path) as own:
            carrier.answer(up())
            carrier.came(0, Online().encode())
            sent = [own.send(BOB, f"{number}").id for number in range(4)]
            assert letters(carrier) == sent
            await own.close(stays=True)
        later = Carrier()
        async with later.identity(path) as own:
            flying = ((6, sent[1]), (7, sent[2]))
            later.answer(up((7, sent[2]), (5, sent[0]), *flying))
            await asyncio.sleep(0)
            assert own.status()["messages"]["unsent"] == 3
            later.came(1, Online().encode())
            await asyncio.sleep(0.1)
            assert letters(later) == [sent[3]]
            later.say(messages.Advanced(
                *later._next(), BOB, SERIAL, (7, sent[2]), (6, sent[1]), 1_000
            ))  # fmt: skip
            await asyncio.sleep(0)
            assert own.status()["messages"]["unsent"] == 2
            assert own._running[2].sent(sent[1]).done

    def letters(carrier: Carrier) -> list[int]:
        handed = [one for one in carrier.told if isinstance(one, messages.Handed)]
        return [letter for one in handed for letter, _ in one.packets if letter]

    run(story())


def test_what_the_disk_does_not_take_is_asked_for_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: Mailbox, friend: bytes, kind: int, text: bytes, received: float) -> int:
        raise MailboxError("the disk is full")

    async def story() -> None:
        carrier = Carrier()
        async with carrier.identity(path) as own:
            carrier.answer(up())
            carrier.came(0, Online().encode())
            with monkeypatch.context() as full:
                full.setattr(Mailbox, "receive", fails)
                carrier.came(1, Text(b"one").encode())
                carrier.came(2, Text(b"two").encode())
                await asyncio.sleep(1)
            assert "the disk is full" in caplog.text
            assert len(carrier.heard(messages.Stored)) == 1
            assert len(carrier.heard(messages.Attach)) == 2
            carrier.answer(up())
            carrier.came(1, Text(b"one").encode())
            carrier.came(2, Text(b"two").encode())
            assert await texts(own, 2) == ["one", "two"]

    run(story())


def test_it_attaches_anew_when_the_carriers_process_is_another_one(path: Path) -> None:
    async def story() -> None:
        carrier = Carrier()
        async with carrier.identity(path):
            carrier.answer()
            await asyncio.sleep(1)
            carrier.far.carrier_gone()
            await asyncio.sleep(1)
            links = {one.link for one in carrier.told if isinstance(one, messages.Attach)}
            assert len(links) == 2

    run(story())


def test_why_an_identity_cannot_be_carried_is_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        carrier = Carrier()
        async with carrier.identity(path) as own:
            carrier.refuse("no UDP port of 4000-4001 can be had")
            assert carrier.far.refused() == {
                own.public_key: "no UDP port of 4000-4001 can be had"
            }
            assert "cannot be carried: no UDP port" in caplog.text
        assert carrier.far.refused() == {}

    run(story())


def test_messages_for_nobody_here_are_counted() -> None:
    carrier = Carrier()
    carrier.say(messages.Complete(bytes(32), bytes(8), 1))
    assert carrier.far.drops == {"identity_not_here": 1}
    assert carrier.told == []
    assert isinstance(carrier.far.memory, HeldMemory)
