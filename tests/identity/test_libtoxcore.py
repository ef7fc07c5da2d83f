"""Embedded identities and clients of libtoxcore do with each other whatever clients do.

Over UDP and through our relay alone; the short ones in each run, the rest with the slow tests.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from core.messenger.events import (
    Control,
    CustomPacket,
    FileOffer,
    FriendRequest,
    Message,
    NameChanged,
    Outcome,
    StatusChanged,
    StatusMessageChanged,
    Typing,
)
from core.savedata.profile import UserStatus
from tests.interop.chat import OVER_TCP, OVER_UDP
from tests.interop.conftest import MakeClient, MakeNode, make_client, make_node
from tests.interop.driver import Client
from tests.interop.nodes import Node
from tests.interop.peers import NEW, OLD
from toxmesh.identity.files import TransferFailed
from toxmesh.identity.identity import Identity

pytestmark = [pytest.mark.interop, pytest.mark.process]
__all__ = ["make_client", "make_node"]

LOCAL = ("127.0.0.1",)
T = TypeVar("T")
slow = pytest.mark.slow


async def until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Waits for something that a client's process tells."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.02)


async def within(timeout_s: float, what: Awaitable[T]) -> T:
    return await asyncio.wait_for(what, timeout_s)


def content(size: int, seed: int) -> bytes:
    """What a client's `send_file` sends for a seed."""
    return random.Random(seed).randbytes(size)


class Alice:
    """An identity of ours with a client for a friend, and all that she heard."""

    def __init__(self, own: Identity, client: Client) -> None:
        self.own = own
        self.client = client
        self.number = -1
        self.events: list[object] = []
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self.own.events():
            self.events.append(event)
            if isinstance(event, FriendRequest):
                self.own.accept(event.friend)

    def heard(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def texts(self) -> list[str]:
        return [event.text for event in self.heard(Message)]

    @property
    def bob(self) -> bytes:
        """The client's key."""
        return self.client.public_key

    async def is_asked(self) -> None:
        """The client asks for friendship, and gets it."""
        await until(lambda: self.client.connection, "the client is connected")
        address = str(self.own.tox_id)
        self.number = int(self.client.call("friend_add", address=address, text="it is Bob"))
        await until(lambda: self.own.friends, "the request arrives", 120)
        assert [event.text for event in self.heard(FriendRequest)] == ["it is Bob"]
        await self.together()

    async def asks(self) -> None:
        """We ask the client."""
        await within(60, self.own.wait_connected())
        self.own.add_friend(self.client.address, "it is Alice")
        await until(lambda: self.client.requests, "our request arrives", 120)
        key, text = self.client.requests[0]
        assert (bytes.fromhex(key), text) == (self.own.public_key, "it is Alice")
        self.number = int(self.client.call("friend_accept", key=key))
        await self.together()

    async def together(self) -> None:
        await within(120, self.own.wait_online(self.bob))
        await until(lambda: self.client.friends.get(self.number), "the client sees us")

    def over(self) -> int | None:
        """How the client says that it reaches us."""
        return self.client.friends.get(self.number)


Story = Callable[[Alice], Awaitable[None]]


def options(node: Node, udp: bool) -> dict[str, Any]:
    """How an identity reaches the one node of a test."""
    at = f"{node.host}:%d:{node.key.hex()}"
    return {
        "bootstrap": [at % node.udp_port],
        "relays": [at % node.tcp_port],
        "udp": udp,
        "ports": (0, 0),
        "hosts": LOCAL,
    }


def tell(
    story: Story,
    node: Node,
    client: Client,
    udp: bool,
    *,
    we_ask: bool = False,
    losses: int = 0,
    path: Path | None = None,
) -> None:
    """Makes friends of an identity and a client, and tells their story."""
    client.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=udp)

    async def main() -> None:
        own = Identity.create("Alice", path, **options(node, udp))
        async with own:
            alice = Alice(own, client)
            await (alice.asks() if we_ask else alice.is_asked())
            await story(alice)
            assert client.losses[alice.number] == losses

    asyncio.run(main())


async def chat(alice: Alice, count: int) -> None:
    """So many messages each way, in order, each with its receipt."""
    client, number = alice.client, alice.number
    sent = [alice.own.send(alice.bob, f"from Alice {n}") for n in range(count)]
    client.call("send", friend=number, texts=[f"from Bob {n}" for n in range(count)])
    for one in sent:
        await within(60, one.delivered())
    await until(lambda: len(alice.texts()) >= count, "all messages arrive")
    await until(lambda: client.receipts[number] >= count, "the client has all receipts")
    assert alice.texts() == [f"from Bob {n}" for n in range(count)]
    assert client.texts[number] == [f"from Alice {n}" for n in range(count)]


async def presence(alice: Alice) -> None:
    """Names, status messages, status and typing, both ways."""
    own, client, number = alice.own, alice.client, alice.number
    await until(lambda: client.told("name", friend=number, text="Alice"), "our name")
    own.set_status_message("schön hier")
    own.set_status(UserStatus.BUSY)
    own.set_typing(alice.bob, True)
    own.set_name("Alicia")
    told: tuple[tuple[str, dict[str, Any]], ...] = (
        ("name", {"text": "Alicia"}),
        ("status_message", {"text": "schön hier"}),
        ("status", {"status": 2}),
        ("typing", {"typing": True}),
    )
    for event, value in told:
        await until(partial(client.told, event, friend=number, **value), event)
    client.call("set_name", name="Bob")
    client.call("set_status_message", text="da")
    client.call("set_status", status=1)
    client.call("set_typing", friend=number, typing=True)
    await until(lambda: alice.heard(Typing), "the client types")
    await until(lambda: alice.heard(StatusChanged), "the client is away")
    await until(lambda: alice.heard(NameChanged), "the client's name")
    await until(lambda: alice.heard(StatusMessageChanged), "the client's status message")
    view = own.friend(alice.bob)
    assert (view.saved.name, view.saved.status_message) == (b"Bob", b"da")
    assert (view.saved.status, view.typing) == (UserStatus.AWAY, True)


async def packets(alice: Alice) -> None:
    """Packets of an application's own."""
    client, number = alice.client, alice.number
    for first, lossless in ((160, True), (191, True), (200, False), (254, False)):
        ours, theirs = bytes((first,)) + b"ours", bytes((first,)) + b"theirs"
        alice.own.send_packet(alice.bob, ours)
        client.call("send_packet", friend=number, data=theirs.hex(), lossless=lossless)
        want = {"data": ours.hex(), "lossless": lossless}
        await until(partial(client.told, "packet", friend=number, **want), "our packet")
        theirs_came = CustomPacket(alice.own.friends[0], theirs, lossless)
        await until(partial(alice.events.__contains__, theirs_came), "their packet")


async def files(alice: Alice, size: int) -> None:
    """A file each way at the same time."""
    client = alice.client
    data = content(size, 77)
    digest = client.call("send_file", friend=alice.number, size=size, seed=5)
    await until(lambda: alice.heard(FileOffer), "the offer arrives")
    offer = alice.heard(FileOffer)[-1]
    assert (offer.size, offer.name) == (size, "interop.bin")
    sending = asyncio.create_task(alice.own.send_file(alice.bob, data, "ours.bin"))
    got = await within(240, alice.own.receive_bytes(offer, most=size))
    await within(240, sending)
    assert hashlib.sha256(got).hexdigest() == digest
    assert got == content(size, 5)
    await until(lambda: client.files, "the client has ours")
    assert client.files[-1] == (size, hashlib.sha256(data).hexdigest())


async def control(alice: Alice, tmp_path: Path) -> None:
    """Pauses of both sides, ends of both sides, and a file that begins in its midst."""
    own, client, number = alice.own, alice.client, alice.number
    client.call("hold_files")
    data = content(20_000_000, 9)

    def offers() -> list[dict[str, object]]:
        return client.told("offer", friend=number)

    def more_than(count: int) -> bool:
        return len(offers()) > count

    def has_more(count: int) -> bool:
        return len(client.files) > count

    # Ours: the client seeks, pauses, resumes
    sending = asyncio.create_task(own.send_file(alice.bob, data, "seek.bin"))
    await until(offers, "the client has the offer")
    file = offers()[-1]["file"]
    count = len(client.files)
    client.call("file_seek", friend=number, file=file, position=1_000_000)
    client.call("file_control", friend=number, file=file, control=0)
    client.call("file_control", friend=number, file=file, control=1)
    await asyncio.sleep(0.5)  # what was on its way has come
    paused_at = client.progress
    await asyncio.sleep(0.5)
    assert (client.progress, len(client.files)) == (paused_at, count)
    client.call("file_control", friend=number, file=file, control=0)
    await within(60, sending)
    await until(partial(has_more, count), "the rest of the file")
    assert client.files[-1] == (20_000_000, hashlib.sha256(data[1_000_000:]).hexdigest())
    # Ours: the client ends it, and we do
    for who in ("client", "we"):
        count = len(offers())
        sending = asyncio.create_task(own.send_file(alice.bob, data, "end.bin"))
        await until(partial(more_than, count), "the next offer")
        if who == "client":
            client.call("file_control", friend=number, file=offers()[-1]["file"], control=2)
            with pytest.raises(TransferFailed) as ended:
                await within(60, sending)
            assert ended.value.outcome is Outcome.CANCELLED
        else:
            sending.cancel()
            ends = {"file": offers()[-1]["file"], "control": 2}
            await until(partial(client.told, "file_control", **ends), "the client is told")
    # Theirs: we pause, resume, and end the next one
    digest = client.call("send_file", friend=number, size=3_000_000, seed=6)
    await until(lambda: len(alice.heard(FileOffer)) == 2, "their offer")
    offer = alice.heard(FileOffer)[-1]
    seen: list[int] = []

    def pause(at: int, size: int | None) -> None:
        if not seen:
            own.control_file(alice.bob, offer.number, Control.PAUSE)
            loop.call_later(0.5, own.control_file, alice.bob, offer.number, Control.RESUME)
        seen.append(at)

    loop = asyncio.get_running_loop()
    got = await within(60, own.receive_file(offer, tmp_path / "theirs", progress=pause))
    assert hashlib.sha256(got.read_bytes()).hexdigest() == digest
    client.call("send_file", friend=number, size=1_000, seed=7)
    await until(lambda: len(alice.heard(FileOffer)) == 3, "their second offer")
    own.refuse_file(alice.heard(FileOffer)[-1])
    await until(lambda: client.told("file_control", control=2), "the client is told")
    # Avatars
    picture = b"\x89PNG" + content(20_000, 3)
    own.send_avatar(alice.bob, picture)
    await until(lambda: client.told("offer", kind=1), "our avatar")
    row = client.told("offer", kind=1)[-1]
    assert row["file_id"] == hashlib.sha256(picture).hexdigest()
    count = len(client.files)
    client.call("file_control", friend=number, file=row["file"], control=0)
    await until(partial(has_more, count), "the client has it")
    assert client.files[-1] == (len(picture), hashlib.sha256(picture).hexdigest())
    own.send_avatar(alice.bob, None)
    await until(lambda: client.told("offer", kind=1, size=0), "we have none any more")


@pytest.mark.parametrize(
    ("version", "udp"),
    [
        pytest.param(NEW, True, id="new-udp"),
        pytest.param(OLD, False, id="old-relay"),
        pytest.param(OLD, True, id="old-udp", marks=slow),
        pytest.param(NEW, False, id="new-relay", marks=slow),
    ],
)
def test_strangers_become_friends_and_talk(
    version: str, udp: bool, make_node: MakeNode, make_client: MakeClient, tmp_path: Path
) -> None:
    async def story(alice: Alice) -> None:
        await chat(alice, 100)
        await presence(alice)
        await packets(alice)
        wanted = OVER_UDP if udp else OVER_TCP
        await until(lambda: alice.over() == wanted, "the client reaches us as it should")
        await files(alice, 1_000_000)
        if udp:
            await control(alice, tmp_path)

    node = make_node("ours")
    tell(story, node, make_client(version, name="Bob", udp=udp), udp, we_ask=udp)


@slow
@pytest.mark.parametrize("kind", ["ours", "bootstrapd"])
@pytest.mark.parametrize("udp", [True, False], ids=["udp", "relay"])
@pytest.mark.parametrize("version", [NEW, OLD])
def test_a_long_chat_and_a_large_file(
    version: str, udp: bool, kind: str, make_node: MakeNode, make_client: MakeClient
) -> None:
    async def story(alice: Alice) -> None:
        await chat(alice, 1_000)
        await files(alice, 50_000_000)

    tell(story, make_node(kind), make_client(version, name="Bob", udp=udp), udp, we_ask=not udp)


@slow
@pytest.mark.parametrize("version", [NEW, OLD])
def test_a_friendship_heals_when_the_peer_comes_back_with_another_dht_key(
    version: str, make_node: MakeNode, make_client: MakeClient
) -> None:
    node = make_node("ours")
    first = make_client(version, name="Bob")

    async def story(alice: Alice) -> None:
        saved = first.call("save")
        first.close()
        again = make_client(version, name="Bob again", saved=saved)
        assert again.public_key == first.public_key
        assert again.dht_id != first.dht_id
        again.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=True)
        alice.client = again
        await until(lambda: again.friends.get(0), "the client sees us again", 120)
        await within(60, alice.own.wait_online(alice.bob))
        alice.number = 0
        await chat(alice, 20)

    tell(story, node, first, True)


@slow
@pytest.mark.parametrize("version", [NEW, OLD])
def test_a_file_goes_on_after_its_receiver_was_restarted(
    version: str, make_node: MakeNode, make_client: MakeClient, tmp_path: Path
) -> None:
    node = make_node("ours")
    client = make_client(version, name="Bob")
    target, path = tmp_path / "target", tmp_path / "alice.tox"
    file_id = "ab" * 32
    digest = ""

    async def story(alice: Alice) -> None:
        nonlocal digest
        wanted = {"friend": alice.number, "size": 20_000_000, "seed": 4, "file_id": file_id}
        digest = client.call("send_file", **wanted)
        await until(lambda: alice.heard(FileOffer), "the offer arrives")
        enough = asyncio.Event()

        def progress(at: int, size: int | None) -> None:
            if at > 5_000_000:
                enough.set()

        taking = asyncio.create_task(
            alice.own.receive_file(alice.heard(FileOffer)[0], target, progress=progress)
        )
        await within(60, enough.wait())
        await alice.own.close()  # in the midst of it
        with pytest.raises(TransferFailed):
            await taking
        async with Identity.load(path, **options(node, True)) as own:
            again = Alice(own, client)
            again.number = alice.number
            await again.together()
            client.call("send_file", **wanted)
            await until(lambda: again.heard(FileOffer), "it is offered again")
            seen: list[int] = []
            done = await within(
                120,
                own.receive_file(
                    again.heard(FileOffer)[0], target, progress=lambda at, size: seen.append(at)
                ),
            )
            assert seen[0] > 5_000_000
            assert hashlib.sha256(done.read_bytes()).hexdigest() == digest

    tell(story, node, client, True, losses=2, path=path)  # both times she goes
