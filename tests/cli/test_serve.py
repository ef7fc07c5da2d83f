"""`toxmesh identity serve`: what a bot does about what happens; without any network."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from core.crypto import KeyPair
from core.entropy import SeededEntropy
from core.messenger.events import (
    Connection,
    ConnectionChanged,
    FileKind,
    FileOffer,
    FriendRequest,
    IdentityConnected,
    MessageKind,
    NameChanged,
)
from tests.identity.clock import run
from toxmesh.cli import commands
from toxmesh.commands import identity_online, identity_serve
from toxmesh.identity import bot, mailbox
from toxmesh.identity.bot import Bot
from toxmesh.identity.identity import Identity
from toxmesh.identity.inbox import StoredMessage

BOB = KeyPair.generate(SeededEntropy("bob")).public
KEY = BOB.hex().upper()
OFFER = FileOffer(BOB, 256, 0, 5_000, bytes(32), b"a\x07.txt")


def message(text: bytes, kind: MessageKind = MessageKind.NORMAL) -> StoredMessage:
    """Returns one of Bob's, that was taken from the mailbox meanwhile."""
    return StoredMessage(BOB, kind, text, 1.0, 1)


def talk(
    *events: object, echo: bool = False, accept: bool = False, friend: bool = True
) -> tuple[list[str], list[bytes], bool]:
    """Returns what is said of the events, what is sent to Bob, and whether he is a friend."""
    said: list[str] = []

    async def story() -> tuple[list[str], list[bytes], bool]:
        own = Identity.create("Bot", bootstrap=[], ports=(0, 0), hosts=("127.0.0.1",))
        async with own:
            if friend:
                own.accept(BOB)
            bot = Bot(own, said.append, echo=echo, accept=accept)
            for event in events:
                bot.handle(event)
            assert own._mailbox is not None
            sent = [row.text for row in own._mailbox.waiting(BOB, 0, 10)]
            return said, sent, BOB in own.friends

    return run(story())


def test_what_happens_is_one_line_each() -> None:
    said, sent, _ = talk(
        IdentityConnected(True),
        ConnectionChanged(BOB, Connection.RELAY),
        message(b"hi\r\nfriend 00 none"),
        NameChanged(BOB, b"Bob"),
        FileOffer(BOB, 65_536, FileKind.AVATAR, 0, bytes(32), b""),
        IdentityConnected(False),
    )
    assert said == [
        "connected",
        f"friend {KEY} relay",
        f"message {KEY} hi  friend 00 none",
        "not connected",
    ]
    assert sent == []


def test_an_echo_bot_takes_everybody_and_answers_each_message_with_itself() -> None:
    said, sent, friends = talk(
        FriendRequest(BOB, b"please"),
        message(b"one"),
        message(b"two", MessageKind.ACTION),
        echo=True,
        friend=False,
    )
    assert said == [f"request {KEY} please", f"message {KEY} one", f"message {KEY} two"]
    assert sent == [b"one", b"two"]
    assert friends


@pytest.mark.parametrize("accept", [False, True])
def test_others_are_taken_if_that_is_wanted(accept: bool) -> None:
    _, _, friends = talk(FriendRequest(BOB, b"please"), accept=accept, friend=False)
    assert friends == accept


def test_s29_a_bot_takes_no_friends_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot, "MOST_TAKEN", 1)
    carol = KeyPair.generate(SeededEntropy("carol")).public
    said, _, friends = talk(
        FriendRequest(BOB, b"please"), FriendRequest(carol, b"me too"), echo=True, friend=False
    )
    assert friends
    assert said[1:] == [
        f"request {carol.hex().upper()} me too",
        "failed there are 1 friends, and no more are taken",
    ]


def test_no_friend_ends_the_bot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MOST_OUTGOING", 1)
    text = message(b"hi")
    said, sent, _ = talk(text, text, OFFER, FriendRequest(BOB, b"again"), echo=True)
    failed = [line for line in said if line.startswith("failed ")]
    assert failed[0] == "failed 1 messages wait for their receipts"
    assert len(failed) == 3  # the file was withdrawn, and Bob is a friend
    assert sent == [b"hi"]
    said, sent, _ = talk(text, echo=True, friend=False)
    assert said[-1].startswith("failed ")


def test_one_identity_is_not_named_twice(tmp_path: Path) -> None:
    wanted = ["identity", "serve", "bot", "other", "bot", "--state-dir", str(tmp_path)]
    done = CliRunner().invoke(commands(), wanted, standalone_mode=False)
    assert done.return_value == 3
    assert "named twice" in done.output


def test_programs_and_a_bot_exclude_each_other(tmp_path: Path) -> None:
    wanted = ["identity", "serve", "bot", "--programs", "--echo", "--state-dir", str(tmp_path)]
    done = CliRunner().invoke(commands(), wanted, standalone_mode=False)
    assert done.return_value == 3
    assert "--echo and --accept exclude it" in done.output


def test_one_that_programs_use_says_who_it_is_and_takes_no_events() -> None:
    said: list[str] = []

    async def story() -> None:
        async with Identity.create("Bot", bootstrap=[], udp=False) as own:
            serving = asyncio.create_task(
                Bot(own, said.append, echo=False, accept=False).serve(listens=False)
            )
            own._inbox.put(IdentityConnected(True))
            await asyncio.sleep(1)
            assert len(own._inbox._events) == 1
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    run(story())
    assert [line.split()[0] for line in said] == ["tox", "ready"]


def test_several_share_ports_from_the_given_one_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int | None, int | None]] = []

    def note(name: str, *, udp_port: int | None, last_port: int | None, **_: object) -> None:
        asked.append((name, udp_port, last_port))

    monkeypatch.setattr(identity_serve, "identity", note)
    monkeypatch.setattr(identity_serve, "run", lambda main: 0)
    for given in (("--udp-port", "40000"), ("--udp-port", "65535"), ("--udp-port", "0"), ()):
        words = ["identity", "serve", "a", "b", *given, "--state-dir", str(tmp_path)]
        CliRunner().invoke(commands(), words, standalone_mode=False)
    spans = [(first, last) for name, first, last in asked if name == "a"]
    assert spans == [(40000, 40001), (65535, 65535), (0, 0), (None, None)]


def test_who_finds_no_network_is_told_once_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def story() -> None:
        own = Identity.create("Bot", bootstrap=[], ports=(0, 0), hosts=("127.0.0.1",))
        async with own, identity_online.patience(own):
            await asyncio.sleep(identity_online.PATIENCE_S - 1)
            assert capsys.readouterr().err == ""
            await asyncio.sleep(200)
        async with own, identity_online.patience(own):
            await asyncio.sleep(5)

    run(story())
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no way into the network within 60 s" in said
    assert "--bootstrap" in said


def test_an_address_that_is_not_ours_is_no_fault_of_the_port(tmp_path: Path) -> None:
    at = ("--state-dir", str(tmp_path))
    runner = CliRunner()
    runner.invoke(commands(), ["identity", "create", "bot", *at], standalone_mode=False)
    wanted = ["identity", "serve", "bot", "--listen", "192.0.2.1", *at]
    done = runner.invoke(commands(), wanted, standalone_mode=False)
    assert done.return_value == 3
    assert "--listen" in done.output
    assert "--udp-port" not in done.output
