"""Tox IDs as people copy them: whole, in links, and with the errors that happen on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.crypto import LOW_ORDER, KeyPair, PublicKey
from core.entropy import SeededEntropy
from core.savedata.profile import Profile
from core.tox_id import ToxId, ToxIdError

# The Tox ID of the public toxbot "groupbot" as its web page showed it: made by the reference.
GROUPBOT = "56A1ADE4B65B86BCD51CC73E2CD4E542179F47959FE3E0E21B4B0ACDADE51855D34D34D37CB5"


def test_an_id_made_by_the_reference_has_the_checksum_that_we_compute() -> None:
    tox_id = ToxId.parse(GROUPBOT)
    assert tox_id.nospam.hex() == "d34d34d3"
    assert str(tox_id) == GROUPBOT


@pytest.mark.parametrize(
    "text", [GROUPBOT.lower(), f" {GROUPBOT}\n", f"tox:{GROUPBOT}", f"TOX://{GROUPBOT}?message=x"]
)
def test_links_spaces_and_small_letters_are_taken(text: str) -> None:
    assert str(ToxId.parse(text)) == GROUPBOT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "76 digits, not 0"),
        (GROUPBOT[:-1], "76 digits, not 75"),
        (GROUPBOT[:64], "64 digits are a public key"),
        ("O" + GROUPBOT[1:], "'O' at place 1 is none of the digits"),
        ("\uff16" + GROUPBOT[1:], "at place 1 is none of the digits"),
        (GROUPBOT[:-4] + "7CB4", "checksum is 7CB4 and should be 7CB5"),
        ("57" + GROUPBOT[2:], "a digit is wrong"),
    ],
)
def test_an_error_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ToxIdError, match=says):
        ToxId.parse(text)


@pytest.mark.parametrize("key", [*sorted(LOW_ORDER), PublicKey(bytes(31) + b"\x80")])
def test_keys_that_nobody_can_have_are_refused(key: PublicKey) -> None:
    with pytest.raises(ToxIdError, match="none that anybody can have"):
        ToxId.decode(ToxId(key, bytes(4)).encode())


def test_bytes_of_another_size_are_refused() -> None:
    with pytest.raises(ToxIdError, match="38 bytes, not 37"):
        ToxId.decode(bytes(37))


@given(seed=st.integers(0, 1 << 32), nospam=st.binary(min_size=4, max_size=4))
def test_what_is_shown_is_read_again(seed: int, nospam: bytes) -> None:
    tox_id = ToxId(KeyPair.generate(SeededEntropy(seed)).public, nospam)
    assert ToxId.parse(str(tox_id)) == tox_id


@given(place=st.integers(0, 37), flip=st.integers(1, 255))
def test_any_one_wrong_byte_is_noticed(place: int, flip: int) -> None:
    data = bytearray(ToxId.parse(GROUPBOT).encode())
    data[place] ^= flip
    with pytest.raises(ToxIdError):
        ToxId.decode(bytes(data))


def test_a_new_profile_has_an_id_and_another_one_after_its_nospam_changed() -> None:
    entropy = SeededEntropy(1)
    profile = Profile.generate(entropy, b"alice")
    changed = profile.with_new_nospam(entropy)
    assert profile.tox_id.key == changed.tox_id.key == profile.keys.public
    assert profile.tox_id != changed.tox_id
    assert changed.name == b"alice"
    assert profile.keys.secret.reveal().hex() not in repr(profile)
