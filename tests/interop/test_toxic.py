"""A profile of Debian's toxic moves in here, talks, and moves back."""

import asyncio
from pathlib import Path

import pytest

from core.savedata.profile import Profile
from tests.identity.test_libtoxcore import Alice, chat, options
from tests.interop import peers
from tests.interop.commands import identity
from tests.interop.conftest import MakeClient, MakeNode, found
from tests.interop.driver import wait_until
from tests.interop.peers import NEW
from tests.interop.toxic import NEXT_TAB, toxic
from toxmesh.identity.identity import Identity
from toxmesh.identity.profiles import ProfileError, ProfileFile

pytestmark = [pytest.mark.interop, pytest.mark.process, pytest.mark.slow]


def opened(path: Path, passphrase: str) -> Profile:
    """Reads a profile, which has to be encrypted if there is a passphrase."""
    if passphrase:
        with pytest.raises(ProfileError, match="encrypted"):
            ProfileFile.open(path)
    return ProfileFile.open(path, lambda: passphrase)[1]


@pytest.mark.parametrize("passphrase", ["", "correct horse"], ids=["plain", "encrypted"])
def test_a_profile_of_toxic_moves_in_talks_and_moves_back(
    passphrase: str, make_node: MakeNode, make_client: MakeClient, tmp_path: Path
) -> None:
    peer = found(peers.toxic)
    home, state = tmp_path / "home", tmp_path / "state"
    first, back = tmp_path / "tina.tox", tmp_path / "back.tox"
    secret = tmp_path / "secret"
    secret.write_text(passphrase + "\n")
    by = ("--passphrase-file", str(secret)) if passphrase else ()

    with toxic(peer, home, first, passphrase=passphrase) as screen:
        screen.line("/nick Tina")
        screen.until("/nick Tina")
        tox_id = screen.tox_id()
    assert identity(state, "import", str(first), *by) == tox_id

    node, bob = make_node("ours"), make_client(NEW, name="Bob")
    bob.meet(node.host, node.udp_port, node.tcp_port, node.key, udp=True)
    bob.call("set_name", name="Bob")

    async def story() -> int:
        path = state / "identities/tina.tox"
        own = Identity.load(path, passphrase=passphrase, **options(node, True))
        async with own:
            assert str(own.tox_id) == tox_id
            alice = Alice(own, bob)
            await alice.is_asked()
            await chat(alice, 20)
        return alice.number

    number = asyncio.run(story())
    assert [row["text"] for row in bob.told("name", friend=number)][-1] == "Tina"
    identity(state, "export", "tina", str(back), *by)

    wait_until(lambda: bob.friends[number] == 0, "Bob sees that Tina has gone", 60)
    with toxic(peer, home, back, node, passphrase) as screen:
        assert screen.tox_id() == tox_id
        wait_until(lambda: bool(bob.friends[number]), "Bob sees toxic in her place", 120)
        bob.call("send", friend=number, texts=["are you still there?"])
        wait_until(lambda: bob.receipts[number] == 21, "toxic has the message", 60)
        for _ in range(2):  # home, contacts, Bob
            screen.keys(NEXT_TAB)
        screen.until("are you still there?")
        screen.line("yes, in my terminal")
        wait_until(lambda: bob.texts[number][20:] == ["yes, in my terminal"], "her answer", 60)

    profile = opened(back, passphrase)
    assert (str(profile.tox_id), profile.name) == (tox_id, b"Tina")
    assert [(friend.key, friend.name) for friend in profile.friends] == [(bob.public_key, b"Bob")]
    assert identity(state, "import", str(back), "again", *by) == tox_id
