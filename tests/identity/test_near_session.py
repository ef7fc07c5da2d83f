"""A session as the near half of an identity has it: what came, and what was handed over."""

from core.crypto import PublicKey
from core.identity.far_session import BATCH
from core.identity.near_session import ON_ITS_WAY as BATCHES
from core.identity.near_session import NearSession
from core.identity.passing import Passed
from core.net_crypto.tags import Progress, Tag

TEXT = b"\x40hello"


def near_session() -> NearSession:
    return NearSession(PublicKey(bytes(range(32))), b"serial!!", Passed())


def test_packets_gather_while_enough_is_on_its_way() -> None:
    session = near_session()
    for number in range(200):
        session.came([TEXT], number)
        if number < BATCHES:
            batch = session.to_tell()
            assert batch is not None
            assert batch.upto == number
    assert session.to_tell() is None
    session.stored(0)
    batch = session.to_tell()
    assert batch is not None
    assert (len(batch.packets), batch.upto) == (BATCH, BATCHES + BATCH - 1)
    session.relink()
    told = []
    while (batch := session.to_tell()) is not None:
        told.append(batch.upto)
        session.stored(batch.upto)
    assert told == [1, 2, 3, 67, 131, 195, 199]
    assert session.is_stored()


def test_numbers_of_packets_begin_again_at_zero() -> None:
    session = near_session()
    session.came([TEXT] * BATCH, 0xFFFFFFFF)
    session.came([TEXT] * BATCH, 63)
    session.stored(-1 & 0xFFFFFFFF)
    assert not session.is_stored()
    session.stored(63)
    assert session.is_stored()


def test_packets_that_were_handed_over_twice_are_taken_once() -> None:
    session = near_session()
    assert session.hand(1, [(1, b"a"), (2, b"b")])
    assert session.hand(2, [(2, b"b"), (0, b"c")])
    assert [row.data for row in session.pending] == [b"a", b"b", b"c"]
    assert [row.tag for row in session.pending] == [Tag(1, 1), Tag(2, 2), Tag(3, 0)]
    assert not session.hand(5, [(0, b"e")]), "4 is missing"
    session.progress = Progress(Tag(1, 1), Tag(0, 0))
    session.relink()
    assert (session.have, len(session.pending)) == (1, 0)
