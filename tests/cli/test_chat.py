"""`toxmesh chat`: what a person types, and what it prints; without any network."""

import asyncio
from pathlib import Path

import pytest

from core.crypto import KeyPair, PublicKey
from core.entropy import SeededEntropy
from core.messenger.events import (
    Connection,
    ConnectionChanged,
    FileOffer,
    FriendRequest,
    IdentityConnected,
    Message,
    MessageKind,
    NameChanged,
)
from core.tox_id import ToxId
from tests.identity.clock import run
from toxmesh.commands.chat import HELP, Chat
from toxmesh.identity.host import AnyEvent
from toxmesh.identity.identity import Identity

BOB = KeyPair.generate(SeededEntropy("bob")).public
CAROL = KeyPair.generate(SeededEntropy("carol")).public
LOCAL = ("127.0.0.1",)


class Desk:
    """A chat of an identity that nobody else can reach."""

    def __init__(self, own: Identity) -> None:
        self.own = own
        self.lines: list[str] = []
        self.chat = Chat(own, self.lines.append)
        self._task = asyncio.create_task(self.chat.listen())

    async def happens(self, *events: AnyEvent) -> list[str]:
        """Lets events come; returns what is printed, without the times."""
        self.lines.clear()
        for event in events:
            self.own._on_event(event, 0.0)
        await asyncio.sleep(0.1)
        return [line[6:] for line in self.lines]

    def types(self, line: str) -> list[str]:
        self.lines.clear()
        assert self.chat.obey(line)
        return list(self.lines)


async def desk(own: Identity) -> Desk:
    made = Desk(own)
    await asyncio.sleep(0)
    return made


def alone() -> Identity:
    return Identity.create("Alice", bootstrap=[], ports=(0, 0), hosts=LOCAL)


def test_what_happens_is_printed_in_lines_that_move_no_cursor() -> None:
    async def talk() -> None:
        async with alone() as own:
            own.accept(BOB)
            at = await desk(own)
            name = BOB.hex().upper()[:8]
            assert await at.happens(IdentityConnected(True)) == ["friends can find you now"]
            went, *came = (ConnectionChanged(BOB, one) for one in Connection)
            assert await at.happens(*came) == [f"{name} is there"]
            assert await at.happens(Message(BOB, MessageKind.NORMAL, b"hi\x1b[2J\r\nthere")) == [
                f"<{name}> hi [2J  there"
            ]
            action = Message(BOB, MessageKind.ACTION, b"waves")
            assert await at.happens(action) == [f"* {name} waves"]
            assert await at.happens(went) == [f"{name} is gone"]
            offer = FileOffer(BOB, 256, 0, 5_000, bytes(32), b"../evil\x07.txt")
            assert await at.happens(offer) == [f"{name} offers ../evil .txt, 5,000 bytes: /get 1"]
            assert await at.happens(NameChanged(BOB, b"Bob")) == []

    run(talk())


def test_requests_are_accepted_by_the_beginning_of_a_key() -> None:
    async def talk() -> None:
        async with alone() as own:
            at = await desk(own)
            lines = await at.happens(FriendRequest(CAROL, b"it is Carol"))
            short = CAROL.hex().upper()[:8]
            asks = f"{short} wants to be your friend: it is Carol"
            assert lines == [asks, f"/accept {short} says yes"]
            assert at.types("/friends")[-1].split()[0] == "asked"
            assert at.types(f"/accept {short.lower()}") == []
            assert own.friends == [CAROL]
            assert at.types("/accept 1") == ["! '1' is nobody here"]

    run(talk())


def test_texts_wait_for_whoever_is_chosen() -> None:
    async def talk() -> None:
        async with alone() as own:
            at = await desk(own)
            assert at.types("hello") == ["! nobody is chosen: /to FRIEND, and /friends shows them"]
            own.accept(BOB)
            own.accept(CAROL)
            assert at.types("/to 2") == [f"to {CAROL.hex().upper()[:8]}:"]
            assert at.types("hello")[0].endswith("(kept until the friend is there)")
            assert at.types("/me waves")[0].endswith("(kept until the friend is there)")
            assert own._mailbox is not None
            rows = own._mailbox.waiting(CAROL, 0, 10)
            assert [(row.kind, row.text) for row in rows] == [(0, b"hello"), (1, b"waves")]
            assert at.types(f"/remove {CAROL.hex()[:10]}") == []
            assert own.friends == [BOB]
            assert at.types("hello") == ["! nobody is chosen: /to FRIEND, and /friends shows them"]

    run(talk())


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/frob", "! there is no /frob; /help shows what there is"),
        ("/add xyz", "! a Tox ID has 76 digits, not 3"),
        ("/to", "! whom? Give a number, or the beginning of a name or key"),
        ("/get 7", "! no file of this number is offered"),
        ("/status gone", "! online, away or busy"),
        ("/file /no/such/file", "! there is no file /no/such/file"),
        ("/name " + "x" * 129, "! a name of 129 bytes, more than 128"),
        ("/help", HELP),
        ("", None),
        ("   ", None),
        ("/status away", None),
        ("/name Alicia", None),
        ("/about elsewhere", None),
    ],
)
def test_every_line_has_its_answer(line: str, answer: str | None) -> None:
    async def talk() -> None:
        async with alone() as own:
            at = await desk(own)
            assert at.types(line) == ([] if answer is None else [answer])

    run(talk())


def test_it_asks_shows_itself_and_ends(tmp_path: Path) -> None:
    async def talk() -> None:
        async with alone() as own:
            at = await desk(own)
            assert at.types("/id") == [str(own.tox_id)]
            assert "no friends yet" in at.types("/friends")[0]
            tox_id = ToxId(PublicKey(BOB), b"\1\2\3\4")
            assert at.types(f"/add {tox_id} it is me")[0].endswith("until it is taken")
            assert own.friends == [BOB]
            assert "this is a friend, or was asked" in at.types(f"/add {tox_id}")[0]
            for line in ("/quit", "/exit", " /quit "):
                assert not at.chat.obey(line)

    run(talk())


def test_a_strangers_file_name_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk() -> None:
        async with alone() as own:
            own.accept(BOB)
            at = await desk(own)
            wanted: list[Path] = []

            async def receive(offer: FileOffer, path: Path) -> Path:
                wanted.append(path)
                return path

            monkeypatch.setattr(own, "receive_file", receive)
            for name in (b"../../etc/passwd", b".bashrc", b"a\\b\\c.txt", b"/", b"", b"x\x00y"):
                await at.happens(FileOffer(BOB, 256, 0, 1, bytes(32), name))
                at.types("/get 1")
                await asyncio.sleep(0.1)
            assert [str(path) for path in wanted] == [
                "passwd", "bashrc", "c.txt", "file", "file", "x y",
            ]  # fmt: skip
            await at.happens(FileOffer(BOB, 256, 0, 1, bytes(32), b"name"))
            at.types(f"/get 1 {tmp_path / 'mine'}")
            await asyncio.sleep(0.1)
            assert wanted[-1] == tmp_path / "mine"

    run(talk())
