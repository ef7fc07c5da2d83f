"""Save files: what is written is read again, what is broken is refused with its reason."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.crypto import PublicKey
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.packets.nodes import NodeInfo
from core.savedata import file
from core.savedata.file import FRIEND_SIZE, SaveError, read, write
from core.savedata.profile import FriendState, Profile, SavedFriend, Section, UserStatus

ENTROPY = SeededEntropy("savedata")


def key(number: int) -> PublicKey:
    return PublicKey(number.to_bytes(32, "big"))


FULL = replace(
    Profile.generate(ENTROPY, b"Alice"),
    status_message=b"building",
    status=UserStatus.BUSY,
    friends=(
        SavedFriend(key(5), name=b"Bob", status_message=b"hi", last_seen=99),
        SavedFriend(key(6), FriendState.REQUESTED, nospam=b"\1\2\3\4", request_text=b"please"),
        SavedFriend(key(7), FriendState.ADDED, nospam=b"\5\6\7\x08", request_text=b"x" * 921),
    ),
    dht_nodes=(
        NodeInfo(key(8), from_text("192.0.2.1", 33445)),
        NodeInfo(key(9), from_text("2001:db8::1", 33446)),
    ),
    relays=(NodeInfo(key(10), from_text("192.0.2.2", 443), tcp=True),),
    path_nodes=(NodeInfo(key(11), from_text("192.0.2.3", 33445)),),
    groups=b"\x97groups",
    conferences=b"conferences",
    others=(Section(77, b"of the future"), Section(78, b"")),
)


def test_what_is_written_is_read_again() -> None:
    data = write(FULL)
    again = read(data)
    assert again == FULL
    assert write(again) == data


def test_a_new_profile_has_what_the_reference_always_writes() -> None:
    profile = read(write(Profile.generate(ENTROPY)))
    assert profile.order == (1, 2, 3, 4, 5, 6)
    assert (profile.friends, profile.name, profile.others) == ((), b"", ())


def test_the_order_and_unknown_sections_of_a_file_stay() -> None:
    sections = dict(file._sections(write(FULL), 8, 0x01CE))
    order = (78, 4, 1, 77, 10, 3, 78)
    parts = [
        file._HEAD.pack(len(sections[kind]), kind, 0x01CE) + sections[kind] for kind in order
    ]
    data = bytes(4) + bytes.fromhex("1f1bed15") + b"".join(parts)
    again = write(read(data))
    end = file._HEAD.pack(0, 255, 0x01CE)
    missing = [kind for kind in (2, 5, 6) if kind not in order]
    assert again.startswith(data)
    assert [kind for kind, _ in file._sections(again, len(data), 0x01CE)] == [*missing, 255]
    assert again.endswith(end)
    assert write(read(again)) == again


def test_several_sections_of_dht_nodes_become_one() -> None:
    data = write(replace(FULL, others=()))
    body = dict(file._sections(data, 8, 0x01CE))[2]
    end = file._HEAD.size
    doubled = data[:-end] + file._HEAD.pack(len(body), 2, 0x01CE) + body + data[-end:]
    assert read(doubled).dht_nodes == FULL.dht_nodes * 2


def test_nothing_behind_the_end_is_looked_at() -> None:
    assert read(write(FULL) + bytes(500)) == FULL  # the reference leaves zeros there


def test_a_friend_that_was_online_is_a_friend_and_an_empty_place_is_none() -> None:
    data = bytearray(write(replace(FULL, others=(), groups=b"", conferences=b"")))
    start = data.index(b"\x03" + FULL.friends[0].key)
    data[start] = 4
    data[start + FRIEND_SIZE] = 0
    friends = read(bytes(data)).friends
    assert [friend.key for friend in friends] == [key(5), key(7)]
    assert friends[0].state is FriendState.CONFIRMED


def test_nodes_that_cannot_be_read_cost_only_themselves() -> None:
    data = write(replace(FULL, relays=()))
    packed = b"\x02" + bytes((192, 0, 2, 1))
    broken = data.replace(packed, b"\x03" + packed[1:], 1)
    assert read(broken) == replace(FULL, relays=(), dht_nodes=())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:3], "does not begin like a Tox profile"),
        (lambda data: b"toxEsave" + data, "does not begin like a Tox profile"),
        (lambda data: data[:12], "within the head of a section, at byte 8"),
        (lambda data: data[:20], "section 1 has 68 bytes, and 4 are left"),
        (lambda data: data[:14] + b"\xce\x02" + data[16:], "at byte 8 no section begins"),
        (lambda data: data[:8] + file._HEAD.pack(0, 255, 0x01CE), "no section with keys"),
        (lambda data: data[:8] + file._HEAD.pack(0, 1, 0x01CE), "has 0 bytes, not 68"),
        (lambda data: data[:20] + b"\xff" + data[21:], "does not belong to its secret key"),
        (lambda data: data.replace(b"\x0d\x00\x59\x01", bytes(4), 1), "section of DHT nodes"),
    ],
)
def test_broken_files_are_refused_with_their_reason(
    change: Callable[[bytes], bytes], reason: str
) -> None:
    with pytest.raises(SaveError, match=reason):
        read(change(write(FULL)))


def test_broken_friends_are_refused_with_their_reason() -> None:
    head = write(FULL)[: 8 + 8 + 68]

    def with_friends(body: bytes) -> bytes:
        return head + file._HEAD.pack(len(body), 3, 0x01CE) + body

    with pytest.raises(SaveError, match="no multiple of 2216"):
        read(with_friends(bytes(2215)))
    row = bytearray(file._pack_friend(FULL.friends[0]))
    row[1058:1060] = b"\xff\xff"  # behind state, key, text and padding
    with pytest.raises(SaveError, match="request has 65535 bytes, more than 1024"):
        read(with_friends(bytes(row)))


def test_a_file_that_is_too_large_is_not_looked_at() -> None:
    with pytest.raises(SaveError, match="more than any Tox profile"):
        read(write(FULL) + bytes(file.MAX_FILE_SIZE))


@given(st.data())
def test_whatever_the_bytes_they_are_a_profile_or_refused(data: st.DataObject) -> None:
    good = write(FULL)
    mutated = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        mutated[data.draw(st.integers(8, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    for text in (bytes(mutated), bytes(mutated)[:cut]):
        try:
            profile = read(text)
        except SaveError:
            continue
        assert read(write(profile)) == profile


def test_nothing_shows_the_secret_key() -> None:
    assert FULL.keys.secret.reveal().hex() not in repr(FULL)
    assert repr(FULL.keys.secret.reveal())[2:-1] not in repr(FULL)
