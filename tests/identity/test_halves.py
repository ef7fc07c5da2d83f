"""The parts of an identity's two halves, each by itself."""

import pytest

from core.crypto import PublicKey
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.identity import EngineOptions, messages
from core.identity.far_session import BATCH, ON_ITS_WAY, OVERHEAD, WINDOW, FarSession
from core.identity.link import Link
from core.identity.passing import Passed
from core.identity.rows import MOST_NODES, nodes_of, nodes_row, options_of, options_row
from core.messages import IDENTITY_NUMBERS, MESSAGE_TYPES, Message
from core.net_crypto.memory import HeldMemory
from core.packets.messenger import (
    FileControl,
    FileData,
    FileRequest,
    Name,
    Offline,
    Online,
    Status,
)
from core.packets.nodes import NodeInfo
from core.relay_client import Proxy

FRIEND = PublicKey(bytes(range(32)))
SERIAL = b"serial!!"
TEXT = b"\x40hello"


def far_session(taken: int = 0, memory: HeldMemory | None = None) -> FarSession:
    return FarSession(FRIEND, SERIAL, taken, -1, Passed(), memory or HeldMemory())


# What is handed over


def test_packets_are_told_in_batches_and_again_until_they_are_taken() -> None:
    session = far_session()
    numbers = [session.give(TEXT, letter) for letter in range(1, 101)]
    assert numbers == list(range(1, 101))
    first, packets = session.to_tell()
    assert (first, len(packets), packets[0].letter) == (1, BATCH, 1)
    assert (session.to_tell()[0], session.to_tell()[1]) == (65, ())
    assert session.taken(70)
    session.attached()
    first, packets = session.to_tell()
    assert (first, len(packets), packets[0].letter) == (71, 30, 71)


def test_no_more_is_told_than_the_near_half_keeps() -> None:
    session = far_session()
    for _ in range(2 * ON_ITS_WAY):
        session.give(TEXT, 0)
    told = 0
    while (batch := session.to_tell()[1]) != ():
        told += len(batch)
    assert told == ON_ITS_WAY
    session.taken(10)
    assert len(session.to_tell()[1]) == 10


def test_what_waits_is_bounded_for_a_session_and_for_all() -> None:
    memory = HeldMemory((OVERHEAD + 1) * (WINDOW + 10))
    one, other = far_session(memory=memory), far_session(memory=memory)
    given = sum(one.give(b"@", 0) is not None for _ in range(WINDOW + 1))
    assert given == WINDOW
    assert sum(other.give(b"@", 0) is not None for _ in range(20)) == 10
    one.close()
    other.close()
    assert memory.used == 0


def test_halves_that_do_not_agree_notice_it() -> None:
    session = far_session(taken=5)
    assert session.give(TEXT, 0) == 6
    assert not session.taken(7), "that was never handed over"
    assert session.taken(6)
    assert not session.taken(5), "6 was forgotten here"
    session.abandon()
    assert session.taken(0), "of a session that is over nobody cares"
    assert session.to_tell()[1] == ()
    assert session.room() == 0


def test_bulk_data_is_wanted_up_to_a_number() -> None:
    session = far_session()
    session.bulk = 3
    assert session.room() == 3
    session.give(TEXT, 0)
    assert session.room() == 2
    session.confirmed = False
    assert session.room() == 0, "nobody knows at present"
    session.confirmed, session.bulk = True, 1 << 20
    assert session.room() == WINDOW // 2 - 1


# What passes


def test_the_last_word_of_each_kind_is_remembered() -> None:
    passed = Passed()
    passed.came([Name(b"a").encode(), Online().encode(), Status(1).encode(), TEXT])
    passed.came([Name(b"b").encode()])
    assert passed.packets() == (Online().encode(), Name(b"b").encode(), Status(1).encode())
    assert Passed(passed.row()).packets() == passed.packets()
    passed.came([Offline().encode()])
    assert passed.row() == ()
    assert Passed.assumed().packets() == (Online().encode(),)


def test_files_are_under_way_until_they_end() -> None:
    passed = Passed()
    offers = [FileRequest(n, 0, 5000, bytes(32), b"x").encode() for n in (0, 7, 255)]
    passed.came(offers)
    for offer in offers:
        passed.went(offer)
    passed.came([FileData(7, bytes(1371)).encode()])
    passed.came([FileData(7, bytes(887)).encode()])  # the last piece
    passed.went(FileControl(0, 255, 2).encode())  # our own is withdrawn
    passed.went(FileControl(1, 255, 2).encode())  # theirs is refused
    passed.came([FileControl(1, 0, 2).encode()])  # ours is refused
    passed.came([FileControl(1, 7, 1).encode(), b"\x50", b"\x52", b"\x51\x00"])  # a pause; nonsense
    again = Passed(passed.row())
    assert (again.incoming, again.outgoing) == (1, 1 << 7)
    assert again.cancels() == [FileControl(0, 7, 2).encode(), FileControl(1, 0, 2).encode()]
    assert again.cancels() == []


# Rows and links


@pytest.mark.parametrize("address", [("proxy.example", 1080), from_text("192.0.2.1", 1080)])
def test_options_and_nodes_pass_as_rows(address: tuple[str, int]) -> None:
    options = EngineOptions(
        udp=False,
        has_ipv6=False,
        standing_relays=1,
        lan_targets=(from_text("192.0.2.255", 33445),),
        proxy=Proxy("socks5", address, "user", "secret"),
    )
    assert options_of(options_row(options)) == options
    node = NodeInfo(FRIEND, from_text("2001:db8::1", 33445), True)
    assert nodes_of(nodes_row([node])) == (node,)
    assert len(nodes_row([node] * 300)) == MOST_NODES


def test_a_link_notices_what_was_lost() -> None:
    told: list[Message] = []
    link = Link(FRIEND, b"12345678", told.append)
    link.say(messages.Detach)
    link.say(messages.AddFriend, FRIEND)
    assert [message[:3] for message in told] == [(FRIEND, b"12345678", n) for n in (0, 1)]
    assert link.follows(0)
    assert not link.follows(2)


def test_messages_with_keys_do_not_show_them() -> None:
    secret = SeededEntropy("secret").bytes(32)
    shown = repr(messages.Attach(FRIEND, b"link", 0, secret, (), (1, 2), (), (), (), ()))
    assert secret.hex() not in shown
    assert repr(secret) not in shown


def test_messages_of_identities_have_their_numbers() -> None:
    ours = {n for n, kind in MESSAGE_TYPES.items() if kind.__module__ == messages.__name__}
    assert ours <= set(IDENTITY_NUMBERS)
    assert len(ours) == 27
