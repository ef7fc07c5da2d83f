"""libtoxcore's profiles are read and written again byte for byte, and it reads ours."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.crypto import KeyPair
from core.entropy import SeededEntropy
from core.savedata import encrypted
from core.savedata.file import read, write
from core.savedata.profile import FriendState, Profile, SavedFriend, UserStatus
from core.tox_id import ToxId
from tests.interop.conftest import found
from tests.interop.peers import NEW, OLD, library
from tests.savedata.reference import Reference

pytestmark = [pytest.mark.interop]
ENTROPY = SeededEntropy("reference")
FRIENDS = [KeyPair.generate(ENTROPY).public for _ in range(3)]
ADDRESS = ToxId(KeyPair.generate(ENTROPY).public, b"\x11\x22\x33\x44")
RELAY = ("192.0.2.1", 33445, KeyPair.generate(ENTROPY).public.hex())


@pytest.fixture(params=[OLD, NEW])
def reference(request: pytest.FixtureRequest) -> Iterator[Reference]:
    found(lambda: library(request.param))
    made = Reference(request.param)
    yield made
    made.close()


def make(reference: Reference) -> bytes:
    """Has libtoxcore make a profile."""
    saved = reference.ask(
        "make",
        name="Alice",
        status_message="höher",
        status=1,
        friends=[key.hex() for key in FRIENDS],
        requests=[(ADDRESS.encode().hex(), "it is Alice")],
        relays=[RELAY],
    )
    return bytes.fromhex(saved)


def test_its_profile_is_read_whole_and_written_byte_for_byte(reference: Reference) -> None:
    saved = make(reference)
    profile = read(saved)
    assert (profile.name, profile.status_message) == (b"Alice", "höher".encode())
    assert profile.status is UserStatus.AWAY
    assert [friend.key for friend in profile.friends] == [*FRIENDS, ADDRESS.key]
    request = profile.friends[-1]
    assert request.state < FriendState.CONFIRMED
    assert (request.nospam, request.request_text) == (ADDRESS.nospam, b"it is Alice")
    again = write(profile)
    assert again == saved[: len(again)]
    assert not any(saved[len(again) :])  # it leaves room for more nodes than there are


def test_it_reads_ours(reference: Reference) -> None:
    profile = replace(
        Profile.generate(ENTROPY, b"Bob"),
        status_message=b"here",
        status=UserStatus.BUSY,
        friends=(SavedFriend(FRIENDS[0], name=b"Carol", status_message=b"x", last_seen=1234567),),
    )
    seen = reference.ask("look", saved=write(profile).hex())
    assert seen == {
        "address": profile.tox_id.encode().hex(),
        "name": "Bob",
        "status_message": "here",
        "status": 2,
        "friends": [
            {
                "key": FRIENDS[0].hex(),
                "name": "Carol",
                "status_message": "x",
                "last_seen": 1234567,
            }
        ],
    }
    again = bytes.fromhex(reference.ask("again", saved=write(profile).hex()))
    assert read(again) == profile


def test_both_open_what_the_other_encrypted(reference: Reference) -> None:
    saved = make(reference)
    sealed = bytes.fromhex(reference.ask("encrypt", data=saved.hex(), passphrase="pässword"))
    assert encrypted.decrypt(sealed, "pässword") == saved
    ours = encrypted.encrypt(saved, "pässword", ENTROPY)
    assert reference.ask("decrypt", data=ours.hex(), passphrase="pässword") == saved.hex()
    assert reference.ask("decrypt", data=ours.hex(), passphrase="password") is None
