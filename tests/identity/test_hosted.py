"""Programs use an identity of another process, which may be restarted under them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.crypto import KeyPair, PublicKey
from core.entropy import SeededEntropy
from core.messenger.errors import AlreadyFriend, NotConnected, UnknownFriend
from core.messenger.events import (
    Connection,
    ConnectionChanged,
    CustomPacket,
    FileOffer,
    FriendRequest,
    IdentityConnected,
    MessageKind,
    NameChanged,
    StatusChanged,
    StatusMessageChanged,
    Typing,
)
from core.savedata.profile import UserStatus
from tests.identity.clock import run, until, within
from tests.identity.test_identity import Diary, Neighbours, befriend
from toxmesh.identity import gate, hosted
from toxmesh.identity.gate import MOST_LINE, Busy, gate_of
from toxmesh.identity.hosted import HostedIdentity, HostGone
from toxmesh.identity.identity import Identity, IdentityError
from toxmesh.identity.inbox import EventsLost, StoredMessage
from toxmesh.identity.mailbox import Mailbox
from toxmesh.identity.profiles import ProfileError
from toxmesh.identity.told import event_of, row_of

BOB = KeyPair.generate(SeededEntropy("bob")).public
EVENTS = (
    ConnectionChanged(BOB, Connection.RELAY),
    CustomPacket(BOB, b"\xa0\xff", True),
    EventsLost(3),
    FileOffer(BOB, 256, 0, None, bytes(32), b"a stream"),
    FileOffer(BOB, 257, 1, 5_000, bytes(32), "ä".encode()),
    FriendRequest(BOB, b"please"),
    IdentityConnected(True),
    NameChanged(BOB, b"Bob"),
    StatusChanged(BOB, UserStatus.AWAY),
    StatusMessageChanged(BOB, b"here"),
    StoredMessage(BOB, MessageKind.ACTION, b"\xff", 12.5, 1_700_000_000_000),
    Typing(BOB, True),
)


@asynccontextmanager
async def open_gate(own: Identity, path: Path) -> AsyncIterator[None]:
    async with own, gate.open_gate(own):
        yield


def alone(path: Path) -> Identity:
    """Returns an identity without any network, with Bob as its friend."""
    return Identity.load(path, bootstrap=[], udp=False)


def put(own: Identity, *texts: bytes) -> None:
    """Bob's messages come."""
    for text in texts:
        own._inbox.put_message(BOB, MessageKind.NORMAL, text, 1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "own.tox"

    async def befriended() -> None:
        async with Identity.create("Own", made, bootstrap=[], udp=False) as own:
            own.accept(BOB)

    asyncio.run(befriended())
    return made


async def take(program: HostedIdentity, count: int) -> list[str]:
    texts: list[str] = []
    async for event in program.events():
        if isinstance(event, StoredMessage):
            texts.append(event.text)
        if len(texts) == count:
            break
    return texts


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_the_same_at_the_other_end(event: Any) -> None:
    assert event_of(json.loads(json.dumps(row_of(event) | {"later": 1}))) == event


def test_an_echo_bot_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "bob.tox"

    async def bot(own: HostedIdentity) -> None:
        async for event in own.events():
            match event:
                case FriendRequest():
                    await own.accept(event.friend)
                case StoredMessage():
                    await own.send(event.friend, event.text, answers=event)

    async def talk() -> None:
        async with Neighbours() as town, town.identity("Alice") as alice:
            hers = Diary(alice)
            bob = town.identity("Bob", path)
            async with open_gate(bob, path), HostedIdentity(path) as own:
                assert own.tox_id == bob.tox_id
                task = asyncio.create_task(bot(own))
                await befriend(alice, bob)
                for number in range(20):
                    alice.send(bob.public_key, f"{number}")
                await until(lambda: len(hers.texts()) == 20, "the echoes come")
                assert hers.texts() == [f"{number}" for number in range(20)]
                key = alice.public_key
                await within(60, own.wait_online(key))
                assert await own.is_online(key)
                assert await own.connected()
                assert (await own.friend(key)).saved.name == b"Alice"
                assert (await own.friend(key)).connection is Connection.DIRECT
                sent = await own.send(key, "and this")
                await within(60, sent.delivered())
                await sent.delivered()  # it still knows
                await own.set_name("Robert")
                await until(lambda: alice.friend(bob.public_key).saved.name == b"Robert", "name")
                assert (await own.status())["friends"][0]["nick"] == "Alice"
                await own.close()
                await within(5, task)

    run(talk())


def test_files_go_by_their_paths(tmp_path: Path) -> None:
    path = tmp_path / "bob.tox"
    source = tmp_path / "source"
    source.write_bytes(b"file" * 5_000)

    async def take_file(own: HostedIdentity) -> Path:
        async for event in own.events():
            if isinstance(event, FriendRequest):
                await own.accept(event.friend)
            if isinstance(event, FileOffer):
                return await own.receive_file(event, tmp_path / "came")
        raise AssertionError("the identity was closed")

    async def talk() -> None:
        async with Neighbours() as town, town.identity("Alice") as alice:
            hers = Diary(alice)
            bob = town.identity("Bob", path)
            async with open_gate(bob, path), HostedIdentity(path) as own:
                task = asyncio.create_task(take_file(own))
                await befriend(alice, bob)
                await within(60, alice.send_file(bob.public_key, source))
                assert (await within(60, task)).read_bytes() == source.read_bytes()
                sending = asyncio.create_task(own.send_file(alice.public_key, source, "name"))
                await until(hers.offers, "the file is offered")
                taken = await within(60, alice.receive_bytes(hers.offers()[0]))
                await within(60, sending)
                assert (taken, hers.offers()[0].name) == (source.read_bytes(), "name")
                with pytest.raises(FileNotFoundError):
                    await own.send_file(alice.public_key, tmp_path / "none")

    run(talk())


def test_what_a_program_had_in_its_hands_comes_again_unless_it_was_answered(path: Path) -> None:
    async def talk() -> None:
        own = alone(path)
        async with open_gate(own, path):
            put(own, b"1", b"2", b"3")
            async with HostedIdentity(path) as program:
                assert await take(program, 2) == ["1", "2"]
            async with HostedIdentity(path) as program:
                async for event in program.events():
                    assert isinstance(event, StoredMessage)
                    assert event.text == "2"
                    await program.send(BOB, "re 2", answers=event)
                    break
            async with HostedIdentity(path) as program:
                assert await take(program, 1) == ["3"]
        assert [row.text for row in box(path).received()] == [b"3"]
        assert [row.text for row in box(path).waiting(BOB, 0, 10)] == [b"re 2"]

    def box(path: Path) -> Mailbox:
        return Mailbox(path.with_suffix(".messages"), own_secret(path))

    run(talk())


def test_what_was_in_a_programs_hands_is_for_whoever_takes_events_later(path: Path) -> None:
    async def talk() -> None:
        async with alone(path) as own:
            put(own, b"1", b"2", b"3")
            async with gate.open_gate(own), HostedIdentity(path) as program:
                assert await take(program, 1) == ["1"]
            async with gate.open_gate(own), HostedIdentity(path) as program:
                events = program.events()
                one = await anext(events)
                assert isinstance(one, StoredMessage)
                await program.send(BOB, "re 1", answers=one)
                assert await take(program, 2) == ["2", "3"]
            taken = []
            async for event in own.events():
                assert isinstance(event, StoredMessage)
                taken.append(event.text)
                if event.text == "3":
                    break
            assert taken == ["3"]

    run(talk())


def own_secret(path: Path) -> Any:
    return Identity.load(path)._profile.keys.secret


def test_a_host_that_is_restarted_goes_on_where_it_was(path: Path) -> None:
    async def talk() -> None:
        first = alone(path)
        async with open_gate(first, path):
            put(first, b"1", b"2", b"3")
            program = HostedIdentity(path)
            await program.start()
            events = program.events()
            one = await anext(events)
            two = await anext(events)
            assert isinstance(one, StoredMessage)
            assert isinstance(two, StoredMessage)
            with pytest.raises(HostGone):  # nobody knows, so it is not asked twice
                await asyncio.gather(program.send(BOB, "perhaps"), cut(program))
        second = alone(path)
        async with open_gate(second, path):
            await program.send(BOB, "re 2", answers=two)  # while the host has it to give again
            three = await within(30, anext(events))
            assert isinstance(three, StoredMessage)
            assert three.text == "3"
            assert await program.friends() == [BOB]
            await program.close()
            assert [event async for event in events] == []

    async def cut(program: HostedIdentity) -> None:
        while not program._waiting:  # it is asked
            await asyncio.sleep(0)
        program._gone()

    run(talk())


def test_a_program_waits_for_its_host_as_long_as_it_may(path: Path) -> None:
    async def talk() -> None:
        first = alone(path)
        async with open_gate(first, path):
            program = HostedIdentity(path)
            await program.start()
            sent = await program.send(BOB, "later")
            waiting = asyncio.create_task(sent.delivered())
            await asyncio.sleep(0)
        await asyncio.sleep(1)
        with pytest.raises(IdentityError, match=r"nobody was at .* for 20 s"):
            await program.friends()
        second = alone(path)
        async with open_gate(second, path):
            done = asyncio.create_task(sent.delivered())
            await asyncio.sleep(5)
            assert not done.done()
            post = second._running[2]
            post.resume(BOB, sent.id, sent.id, ((1, sent.id),))
            await within(5, done)
        await program.close()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    run(talk())


def test_what_cannot_be_done_raises_the_same_as_there(path: Path, tmp_path: Path) -> None:
    async def talk() -> None:
        with pytest.raises(IdentityError, match=r"there is no identity .*none.tox"):
            await HostedIdentity(tmp_path / "none.tox").start()
        with pytest.raises(IdentityError, match=r"nobody was at .* for 3 s"):
            await HostedIdentity(path, patience_s=3).start()
        async with open_gate(alone(path), path), HostedIdentity(path) as program:
            with pytest.raises(AlreadyFriend):
                await program.accept(BOB)
            with pytest.raises(UnknownFriend):
                await program.friend(bytes(range(32)))
            with pytest.raises(NotConnected):
                await program.send_packet(BOB, b"\xa0")
            with pytest.raises(ValueError, match="a message needs a text"):
                await program.send(BOB, "")
            with pytest.raises(ValueError, match="is_online"):
                await program._ask("stop")
            with pytest.raises(IdentityError, match="friend"):
                await program._ask("accept")
            await program.remove_friend(BOB)
            assert await program.friends() == []
            before = program.tox_id
            assert (await program.new_nospam()) == program.tox_id != before
            assert PublicKey(before.key) == program.public_key

    run(talk())


def test_one_program_takes_the_events_and_few_come_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST_GUESTS", 2)

    async def talk() -> None:
        own = alone(path)
        async with open_gate(own, path):
            put(own, b"1")
            async with HostedIdentity(path) as one, HostedIdentity(path) as two:
                assert await take(one, 1) == ["1"]
                with pytest.raises(Busy):
                    await take(two, 1)
                assert await two.friends() == [BOB]
                reader, _ = await asyncio.open_unix_connection(str(gate_of(path)))
                assert json.loads(await reader.read())["error"] == "Busy"
                with pytest.raises(Busy, match="too many programs"):
                    await HostedIdentity(path).start()
                await one.close()
                assert await take(two, 1) == ["1"]

    run(talk())


def test_what_is_no_request_is_said_and_too_much_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST_ASKED", 2)
    wrong: list[tuple[bytes, Callable[[dict[str, Any]], object]]] = [
        (b"nonsense\n", lambda row: row["error"] == "JSONDecodeError"),
        (b"[]\n", lambda row: row["error"] == "ValueError"),
        (b'{"id": 1, "do": ["x"]}\n', lambda row: (row["id"], row["error"]) == (1, "ValueError")),
        (b'{"id": 2, "do": "friends", "args": 5}\n', lambda row: row["error"] == "ValueError"),
        (b'{"id": 3, "do": "send", "args": {"friend": 7, "raw": "00"}}\n',
         lambda row: row["error"] == "TypeError"),
        (b'{"id": 4, "do": "next"}\n{"id": 5, "do": "next"}\n{"id": 6, "do": "next"}\n',
         lambda row: (row["id"], row["error"]) == (6, "Busy")),
        (b"x" * (MOST_LINE + 10), lambda row: "bytes at most" in row["text"]),
    ]  # fmt: skip

    async def talk() -> None:
        async with open_gate(alone(path), path):
            reader, writer = await asyncio.open_unix_connection(str(gate_of(path)))
            for line, right in wrong:
                writer.write(line)
                row = json.loads(await within(5, reader.readline()))
                assert right(row), row
            assert await within(5, reader.read()) == b""
            writer.close()

    run(talk())


NAMES = (
    "accept", "add_friend", "delivered", "friend", "friends", "identity", "is_online", "new_nospam",
    "nothing", "receive_file", "refuse_file", "remove_friend", "send", "send_file", "send_packet",
    "set_name", "set_status", "set_status_message", "set_typing", "status",
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(0, 1)
    | st.text(max_size=8) | st.sampled_from([BOB.hex(), "00", "hi", "no/where"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.dictionaries(st.sampled_from(sorted(gate._KINDS)) | st.text(max_size=4), ANYTHING),
        ),
        max_size=5,
    )
)
def test_whatever_is_asked_has_an_answer(
    path: Path, requests: list[tuple[str, dict[str, Any]]]
) -> None:
    failed: list[dict[str, Any]] = []

    async def talk() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: failed.append(what))
        async with open_gate(alone(path), path):
            reader, writer = await asyncio.open_unix_connection(str(gate_of(path)))
            for number, (do, args) in enumerate(requests):
                writer.write(json.dumps({"id": number, "do": do, "args": args}).encode() + b"\n")
            writer.write(b'{"id": "end", "do": "identity"}\n')
            answered: set[object] = set()
            while len(answered) <= len(requests):
                row = json.loads(await within(5, reader.readline()))
                assert ("answer" in row) != ("error" in row)
                answered.add(row["id"])
            writer.close()

    run(talk())
    assert failed == []


def test_the_gate_is_for_its_owner_alone_and_goes_with_the_host(path: Path) -> None:
    async def talk() -> None:
        async with open_gate(alone(path), path):
            assert gate_of(path).stat().st_mode & 0o777 == 0o600
        assert not gate_of(path).exists()
        async with Identity.create("Memory", bootstrap=[], udp=False) as own:
            with pytest.raises(ProfileError, match="no place for a gate"):
                await gate.open_gate(own).__aenter__()

    run(talk())


def test_every_error_that_a_host_tells_has_its_class() -> None:
    for name in ("UnknownFriend", "AlreadyFriend", "NotConnected", "QueueFull", "MailboxFull"):
        assert hosted._ERRORS[name].__name__ == name
