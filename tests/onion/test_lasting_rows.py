"""A row that was being written when its writer was killed is served by nobody, in any store."""

import mmap
import os
import signal
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple, NoReturn

import pytest

from core.endpoint import Endpoint, from_text, udp4
from core.onion import announce_store, data_store, group_store
from core.onion.announce_store import AnnounceStore
from core.onion.data_store import DataStore
from core.onion.group_store import MAX_PEERS, GroupStore
from core.onion.lasting_rows import RowForm, Rows, divide, size_for

OWN = bytes(32)
ROWS = 48
KEYS = 30
NOW = 1000.0


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Kind(NamedTuple):
    """One of the stores, with entries of a number whose content says which version they have."""

    form: RowForm
    make: Callable[[Rows], Any]
    put: Callable[[Any, int, int], object]
    get: Callable[[Any, int], bytes | None]
    content: Callable[[int, int], bytes]
    mark_at: int = 0  # where the content tells number and version


def _mark(number: int, version: int) -> bytes:
    return bytes((number, version & 0xFF, version >> 8 & 0xFF))


def _source(version: int) -> Endpoint:
    return from_text("2001:db8::1", 33445) if version % 2 else udp4(b"\xc6\x33\x64\x01", 33445)


def _put_client(store: AnnounceStore, number: int, version: int) -> None:
    mark = _mark(number, version)
    store.put(key(number), _source(version), mark * 59, mark * 10 + b"..", NOW)


def _get_client(store: AnnounceStore, number: int) -> bytes | None:
    entry = store.get(key(number), NOW)
    return None if entry is None else entry[announce_store.DATA_KEY.start :]


def _client(number: int, version: int) -> bytes:
    mark = _mark(number, version)
    return mark * 10 + b".." + b"\x8c" + mark * 59 + b"\x86" + _source(version)


def _announce(number: int, version: int) -> bytes:
    return key(number) + _mark(number, version) * (version % 20 + 4)


def _put_peer(store: GroupStore, number: int, version: int) -> None:
    store.put(key(number % 3), _announce(number, version), _source(number), NOW)


def _get_peer(store: GroupStore, number: int) -> bytes | None:
    peers = store.peers(key(number % 3), NOW) or []
    return next((peer for peer in peers if peer[:32] == key(number)), None)


def _text(number: int, version: int) -> bytes:
    return _mark(number, version) * (version % 169 + 1)


def _put_data(store: DataStore, number: int, version: int) -> None:
    store.put(key(number), _text(number, version), NOW + 100, NOW)


def _get_data(store: DataStore, number: int) -> bytes | None:
    entry = store.get(key(number), NOW)
    return None if entry is None else entry.data


KINDS = {
    "announces": Kind(
        announce_store.FORM,
        lambda rows: AnnounceStore(OWN, ROWS, rows),
        _put_client,
        _get_client,
        _client,
    ),
    "groups": Kind(
        group_store.FORM,
        lambda rows: GroupStore(Counter(), ROWS // MAX_PEERS, rows=rows),
        _put_peer,
        _get_peer,
        _announce,
        32,
    ),
    "data": Kind(
        data_store.FORM,
        lambda rows: DataStore(OWN, ROWS, rows),
        _put_data,
        _get_data,
        _text,
    ),
}
every_kind = pytest.mark.parametrize("name", list(KINDS))


def begin(kind: Kind, where: mmap.mmap) -> tuple[Any, int]:
    """Returns the store of a process that begins now, and how many rows are of no use."""
    store = kind.make(Rows(kind.form, ROWS, where))
    return store, store.restore(NOW)


def cut(kind: Kind, old: bytes, row: bytes, place: int) -> tuple[bytes | None, int]:
    """Returns what a successor says of entry 1 whose row was left like this, and what it counts."""
    where = mmap.mmap(-1, len(old))
    where[:] = old
    where[place : place + len(row)] = row
    store, bad = begin(kind, where)
    assert kind.get(store, 2) == kind.content(2, 1)
    found = kind.get(store, 1)
    again, none = begin(kind, where)
    assert (kind.get(again, 1), none) == (found, 0)  # counted once
    for number in range(3, 6):  # its row is of use again
        kind.put(again, number, 7)
        assert kind.get(again, number) == kind.content(number, 7)
    last, none = begin(kind, where)
    assert (kind.get(last, 5), none) == (kind.content(5, 7), 0)
    return found, bad


@every_kind
def test_a_row_is_as_it_was_or_new_or_nothing_wherever_its_writer_was_killed(name: str) -> None:
    kind = KINDS[name]
    where = mmap.mmap(-1, size_for(kind.form, ROWS))
    store, _ = begin(kind, where)
    kind.put(store, 1, 1)
    kind.put(store, 2, 1)
    size = kind.form.row
    place = size  # behind the head
    old = where[:]
    before = old[place : place + size]
    kind.put(store, 1, 2)
    after = where[place : place + size]
    assert before != after
    # A row is filled with zeros from front to end, and then with its parts in the same order.
    for step in range(size + 1):
        found = cut(kind, old, bytes(step) + before[step:], place)
        assert found == ((kind.content(1, 1), 0) if not step else (None, 0)), step
        found = cut(kind, old, after[:step] + bytes(size - step), place)
        if step == 0:
            assert found == (None, 0)
        elif step <= size - 8:
            assert found == (None, 1), step
        else:  # the one byte of the number at the end is there
            assert found == (kind.content(1, 2), 0), step


@every_kind
def test_a_writer_that_is_killed_again_and_again_leaves_nothing_but_whole_entries(
    name: str,
) -> None:
    kind = KINDS[name]
    where = mmap.mmap(-1, size_for(kind.form, ROWS))
    rounds = mmap.mmap(-1, 8)
    chance = Random(name)
    seen: set[int] = set()
    for life in range(12):
        rounds[:] = bytes(8)
        writer = os.fork()
        if not writer:
            _write_until_killed(kind, where, rounds, life)
        while rounds[0] < chance.randint(1, 100):
            assert os.waitpid(writer, os.WNOHANG) == (0, 0)
        os.kill(writer, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == -signal.SIGKILL
        store, bad = begin(kind, where)
        found = [kind.get(store, number) for number in range(1, KEYS + 1)]
        assert bad <= found.count(None) <= 1
        for number, content in enumerate(found, 1):
            if content is not None:
                at = kind.mark_at
                version = int.from_bytes(content[at + 1 : at + 3], "little")
                assert content == kind.content(number, version)
                seen.add(version)
    assert len(seen) >= 12


def _write_until_killed(kind: Kind, where: mmap.mmap, rounds: mmap.mmap, life: int) -> NoReturn:
    """Goes on with what is there, and writes all entries again and again."""
    try:
        store, _ = begin(kind, where)
        version = life << 11
        while True:
            version += 1
            for number in range(1, KEYS + 1):
                kind.put(store, number, version)
            rounds[0] = min(255, rounds[0] + 1)
    finally:
        os._exit(1)


@every_kind
def test_memory_of_another_layout_is_begun_anew(name: str) -> None:
    kind = KINDS[name]
    where = mmap.mmap(-1, size_for(kind.form, ROWS))
    store, _ = begin(kind, where)
    for number in range(1, 6):
        kind.put(store, number, 1)
    where[:8] = b"another1"
    after, bad = begin(kind, where)
    assert (len(after), bad) == (0, 0)
    kind.put(after, 9, 1)
    again, bad = begin(kind, where)
    assert (len(again), bad, kind.get(again, 9)) == (1, 0, kind.content(9, 1))


@every_kind
def test_a_count_of_rows_that_cannot_be_is_no_reason_to_read_beyond_the_end(name: str) -> None:
    kind = KINDS[name]
    where = mmap.mmap(-1, size_for(kind.form, ROWS))
    store, _ = begin(kind, where)
    kind.put(store, 1, 1)
    where[8:16] = b"\xff" * 8
    after, bad = begin(kind, where)
    assert (kind.get(after, 1), bad) == (kind.content(1, 1), 0)


def test_stores_that_share_memory_do_not_touch_one_another() -> None:
    given: list[mmap.mmap] = []

    def lasting(size: int) -> mmap.mmap:
        given.append(mmap.mmap(-1, size) if not given else given[0])
        assert len(given[0]) == size
        return given[0]

    def stores() -> list[Any]:
        rows = divide(lasting, *((kind.form, ROWS) for kind in KINDS.values()))
        made = [kind.make(part) for kind, part in zip(KINDS.values(), rows, strict=True)]
        assert [store.restore(NOW) for store in made] == [0, 0, 0]
        return made

    first = stores()
    for number in range(ROWS):
        for kind, store in zip(KINDS.values(), first, strict=True):
            kind.put(store, number, 5)
    for kind, store in zip(KINDS.values(), stores(), strict=True):
        for number in range(ROWS):
            assert kind.get(store, number) == kind.content(number, 5)


def test_a_row_that_is_begun_where_another_layout_had_one_is_nothing_before_it_is_written() -> None:
    form = RowForm(b"some---1", "8xQ", (7,))
    where = mmap.mmap(-1, size_for(form, 4))
    rows = Rows(form, 4, where)
    rows.find(0.0, NOW)
    form.write(where, rows.take(), 1, key(1), NOW, 7, 1)
    where[:8] = b"some---0"
    rows = Rows(form, 4, where)
    assert rows.find(0.0, NOW) == ([], 0)
    rows.take()  # and here its writer is killed
    assert Rows(form, 4, where).find(0.0, NOW) == ([], 0)
