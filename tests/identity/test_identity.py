"""Embedded identities talk to each other: over real sockets, in made-up time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.messenger.errors import NotConnected, UnknownFriend
from core.messenger.events import (
    ConnectionChanged,
    Control,
    FileChunk,
    FileEnded,
    FileOffer,
    FriendRequest,
    Message,
    Outcome,
)
from tests.identity.clock import run, until, within
from toxmesh.identity.files import TransferFailed
from toxmesh.identity.host import EngineRunner
from toxmesh.identity.identity import Identity, IdentityError
from toxmesh.identity.inbox import StoredMessage
from toxmesh.identity.naming import key_of

LOCAL = ("127.0.0.1",)


class Neighbours:
    """A few identities that know one another and are the network of the others."""

    def __init__(self) -> None:
        self._made: list[Identity] = []

    async def __aenter__(self) -> "Neighbours":
        for number in range(6):
            known = [node(one) for one in self._made[:1]]
            name = f"neighbour {number}"
            made = Identity.create(name, bootstrap=known, ports=(0, 0), hosts=LOCAL)
            await made.start()
            self._made.append(made)
        return self

    async def __aexit__(self, *rest: object) -> None:
        for one in self._made:
            await one.close()

    def identity(self, name: str, path: Path | None = None, **options: str) -> Identity:
        """Makes one that knows a neighbour."""
        known = [node(one) for one in self._made[:2]]
        return Identity.create(name, path, bootstrap=known, ports=(0, 0), hosts=LOCAL, **options)

    def again(self, path: Path, passphrase: str = "") -> Identity:
        """Loads one from its file."""
        known = [node(one) for one in self._made[:2]]
        return Identity.load(
            path, passphrase=passphrase, bootstrap=known, ports=(0, 0), hosts=LOCAL
        )


def node(identity: Identity) -> str:
    """Returns how others name an identity's node of the DHT."""
    assert isinstance(identity._runner, EngineRunner)
    return f"127.0.0.1:{identity.port}:{identity._runner.engine.dht_key.hex()}"


class Diary:
    """Takes all events of an identity."""

    def __init__(self, identity: Identity) -> None:
        self.events: list[object] = []
        self._identity = identity
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self._identity.events():
            self.events.append(event)
            if isinstance(event, FriendRequest):
                self._identity.accept(event.friend)

    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message)]

    def offers(self) -> list[FileOffer]:
        return [event for event in self.events if isinstance(event, FileOffer)]

    async def ended(self) -> None:
        await self._task


async def befriend(one: Identity, other: Identity) -> None:
    """One asks, the other's Diary accepts; both see each other."""
    await within(120, one.wait_connected())
    await within(120, other.wait_connected())
    one.add_friend(other.tox_id, "please")
    await within(300, one.wait_online(other.public_key))
    await until(lambda: other.friends, "the request arrives")
    await within(60, other.wait_online(one.public_key))


@asynccontextmanager
async def two_friends() -> AsyncIterator[tuple[Identity, Identity, Diary, Diary]]:
    """Gives Alice and Bob, who have become friends, and the diaries of both."""
    async with (
        Neighbours() as town,
        town.identity("Alice") as alice,
        town.identity("Bob") as bob,
    ):
        hers, his = Diary(alice), Diary(bob)
        await befriend(alice, bob)
        yield alice, bob, hers, his


def test_friends_talk_and_each_message_has_its_receipt() -> None:
    async def talk() -> None:
        async with two_friends() as (alice, bob, hers, his):
            assert [event.text for event in his.events if isinstance(event, FriendRequest)] == [
                "please"
            ]
            sent = [alice.send(bob.tox_id, f"message {number}") for number in range(300)]
            for one in sent:
                await within(60, one.delivered())
            assert his.texts() == [f"message {number}" for number in range(300)]
            bob.send(alice.public_key.hex(), "ä" * 2_000)
            await until(lambda: len(hers.texts()) == 3, "a long text comes in parts")
            assert "".join(hers.texts()) == "ä" * 2_000
            assert all(text.count("ä") == len(text) for text in hers.texts())

    run(talk())


def test_messages_wait_on_disk_for_friends_and_for_their_receipts(tmp_path: Path) -> None:
    async def talk() -> None:
        async with Neighbours() as town, town.identity("Bob", tmp_path / "bob.tox") as bob:
            his = Diary(bob)
            async with town.identity("Alice", tmp_path / "alice.tox", passphrase="x") as alice:
                Diary(alice)
                await befriend(alice, bob)
                key = bob.public_key
            async with town.again(tmp_path / "alice.tox", "x") as alice:
                for number in range(5):
                    alice.send(key, f"while you sleep {number}")
                assert not alice.is_online(key)
            assert b"while you sleep" not in (tmp_path / "alice.messages").read_bytes()
            async with town.again(tmp_path / "alice.tox", "x") as alice:
                await until(lambda: len(his.texts()) == 5, "they arrive after a restart", 300)
                assert his.texts() == [f"while you sleep {number}" for number in range(5)]
                last = alice.send(key, "and this")
                await within(60, last.delivered())
                assert last.done
            async with town.again(tmp_path / "alice.tox", "x") as alice:
                await within(300, alice.wait_online(key))
                await asyncio.sleep(30)
            assert len(his.texts()) == 6  # nothing comes twice

    run(talk())


def test_received_messages_are_kept_until_they_were_taken(tmp_path: Path) -> None:
    async def talk() -> None:
        async with Neighbours() as town, town.identity("Alice") as alice:
            Diary(alice)
            async with town.identity("Bob", tmp_path / "bob.tox") as bob:
                taking = Diary(bob)
                await befriend(alice, bob)
                taking._task.cancel()
                sent = [alice.send(bob.public_key, text) for text in ("one", "two", "three")]
                await within(60, sent[-1].delivered())
            texts = []
            async with town.again(tmp_path / "bob.tox") as bob:
                async for event in bob.events():
                    assert isinstance(event, Message)
                    texts.append(event.text)
                    if len(texts) == 2:
                        break  # a program that dies with the second in hand
            async with town.again(tmp_path / "bob.tox") as bob:
                async for event in bob.events():
                    assert isinstance(event, Message)
                    texts.append(event.text)
                    if texts[-1] == "three":
                        break
            assert texts == ["one", "two", "two", "three"]

    run(talk())


def test_an_answer_takes_its_message(tmp_path: Path) -> None:
    path = tmp_path / "bob.tox"

    async def talk() -> None:
        async with Neighbours() as town, town.identity("Alice") as alice:
            hers = Diary(alice)
            async with town.identity("Bob", path) as bob:
                taking = Diary(bob)
                await befriend(alice, bob)
                taking._task.cancel()
                sent = [alice.send(bob.public_key, text) for text in ("one", "two")]
                await within(60, sent[-1].delivered())
            for _ in range(2):  # a bot that dies after each answer, before it asks for more
                async with town.again(path) as bob:
                    async for event in bob.events():
                        if isinstance(event, StoredMessage):
                            bob.send(event.friend, f"re {event.text}", answers=event)
                            break
            async with town.again(path) as bob:
                assert bob.status()["messages"]["untaken"] == 0
                await until(lambda: len(hers.texts()) == 2, "the answers arrive", 300)
            assert hers.texts() == ["re one", "re two"]

    run(talk())


def test_files_arrive_whole_and_go_on_where_they_broke(tmp_path: Path) -> None:
    data = hashlib.shake_256(b"file").digest(3_000_000)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)

    async def talk() -> None:
        async with two_friends() as (alice, bob, _, his):
            seen: list[int] = []
            sending = asyncio.create_task(
                alice.send_file(bob.public_key, source, progress=lambda at, size: seen.append(at))
            )
            await until(his.offers, "the offer arrives")
            offer = his.offers()[0]
            assert (offer.name, offer.size) == ("source", len(data))
            first: list[int] = []

            def halfway(at: int, size: int | None) -> None:
                first.append(at)
                if at > len(data) // 2 and not taking.cancelling():
                    taking.cancel()

            taking = asyncio.create_task(bob.receive_file(offer, target, progress=halfway))
            with pytest.raises(asyncio.CancelledError):
                await taking
            with pytest.raises(TransferFailed) as failed:
                await within(60, sending)
            assert failed.value.outcome is Outcome.CANCELLED
            assert not target.exists()
            have = (tmp_path / "target.part").stat().st_size
            assert have >= len(data) // 2
            sending = asyncio.create_task(alice.send_file(bob.public_key, source))
            await until(lambda: len(his.offers()) == 2, "it is offered again")
            again: list[int] = []
            done = await within(
                60,
                bob.receive_file(
                    his.offers()[1], target, progress=lambda at, size: again.append(at)
                ),
            )
            await within(60, sending)
            assert done.read_bytes() == data
            assert again[0] > have  # nothing came a second time
            assert seen == sorted(seen)
            assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]

    run(talk())


def test_bytes_streams_and_refusals() -> None:
    async def stream() -> AsyncIterator[bytes]:
        for number in range(40):
            await asyncio.sleep(0.01)
            yield bytes((number,)) * 10_000

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 5_000
        raise OSError("the disk is on fire")

    async def talk() -> None:
        async with two_friends() as (alice, bob, _, his):
            sending = asyncio.create_task(alice.send_file(bob.public_key, b"small", "note.txt"))
            await until(his.offers, "the offer arrives")
            assert await within(60, bob.receive_bytes(his.offers()[0])) == b"small"
            await within(60, sending)
            sending = asyncio.create_task(alice.send_file(bob.public_key, b"x" * 5_000))
            await until(lambda: len(his.offers()) == 2, "the second offer")
            with pytest.raises(TransferFailed, match="5000 bytes, and at most 10 are taken"):
                await bob.receive_bytes(his.offers()[1], most=10)
            with pytest.raises(TransferFailed, match="cancelled"):
                await within(60, sending)
            sending = asyncio.create_task(alice.send_file(bob.public_key, b""))
            await until(lambda: len(his.offers()) == 3, "an empty file")
            assert await within(60, bob.receive_bytes(his.offers()[2])) == b""
            await within(60, sending)
            sending = asyncio.create_task(alice.send_file(bob.public_key, stream(), "stream"))
            await until(lambda: len(his.offers()) == 4, "a stream")
            assert his.offers()[3].size is None
            got = bytearray()
            number = his.offers()[3].number
            bob.control_file(alice.public_key, number, Control.RESUME)
            await within(60, sending)
            for event in his.events:
                if isinstance(event, FileChunk) and event.number == number:
                    got += event.data
            assert bytes(got) == b"".join(bytes((n,)) * 10_000 for n in range(40))
            sending = asyncio.create_task(alice.send_file(bob.public_key, broken(), "broken"))
            await until(lambda: len(his.offers()) == 5, "a stream that breaks")
            with pytest.raises(OSError, match="the disk is on fire"):
                await within(60, sending)

            def ended() -> list[FileEnded]:
                return [event for event in his.events if isinstance(event, FileEnded)]

            await until(lambda: ended()[-1].number == his.offers()[4].number, "he is told")
            assert ended()[-1].outcome is Outcome.CANCELLED

    run(talk())


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    async def talk() -> None:
        nobody = bytes(range(1, 33))
        lonely = Identity.create("Lonely", bootstrap=[], ports=(0, 0), hosts=LOCAL)
        with pytest.raises(IdentityError, match="not running"):
            lonely.send(nobody, "x")
        async with lonely:
            with pytest.raises(UnknownFriend):
                lonely.send(nobody, "x")
            with pytest.raises(UnknownFriend):
                await lonely.wait_online(nobody)
            lonely.accept(nobody)
            with pytest.raises(ValueError, match="a message needs a text"):
                lonely.send(nobody, "")
            with pytest.raises(NotConnected):
                await lonely.send_file(nobody, b"x")
            with pytest.raises(IdentityError, match="runs already"):
                await lonely.start()
            with pytest.raises(ValueError, match="64 digits are a public key"):
                lonely.add_friend("00" * 32)
        await lonely.close()  # a second time
        assert lonely.tox_id.key == lonely.public_key

    run(talk())


def test_keys_are_named_in_every_common_form() -> None:
    identity = Identity.create("x")
    key = identity.public_key
    for form in (key, bytes(key), key.hex(), key.hex().upper(), str(identity.tox_id)):
        assert key_of(form) == key
    assert key_of(identity.tox_id) == key
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        key_of(key[:31])


def test_friends_see_who_goes(tmp_path: Path) -> None:
    async def talk() -> None:
        async with Neighbours() as town, town.identity("Bob") as bob:
            his = Diary(bob)
            async with town.identity("Alice") as alice:
                Diary(alice)
                await befriend(alice, bob)
                key = alice.public_key
            await until(lambda: not bob.is_online(key), "he sees that she is gone", 5)
            last = [event for event in his.events if isinstance(event, ConnectionChanged)][-1]
            assert (last.friend, last.online) == (key, False)

    run(talk())
