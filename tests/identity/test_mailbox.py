"""Messages on disk: kept until their receipt, kept until taken, and readable by nobody else."""

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from core.crypto import KeyPair, SecretKey
from toxmesh.identity import mailbox
from toxmesh.identity.mailbox import Heard, Mailbox, MailboxError, MailboxFull, Outgoing

SECRET = SecretKey(bytes(range(32)))
ALICE, BOB = bytes(32), bytes(range(1, 33))


def test_messages_wait_in_order_for_each_friend_until_they_are_delivered(tmp_path: Path) -> None:
    path = tmp_path / "x.messages"
    box = Mailbox(path, SECRET)
    rows = ((ALICE, b"1"), (BOB, b"2"), (ALICE, b"3"))
    numbers = [box.put(friend, 0, text) for friend, text in rows]
    assert numbers == sorted(numbers)
    box.close()
    box = Mailbox(path, SECRET)
    one, three = Outgoing(numbers[0], 0, b"1"), Outgoing(numbers[2], 0, b"3")
    assert box.waiting(ALICE, 0, 10) == [one, three]
    assert box.waiting(ALICE, numbers[0], 10) == [three]
    assert len(box.waiting(ALICE, 0, 1)) == 1
    box.delivered(ALICE, numbers[1])  # which is Bob's: all of hers before it
    box.delivered(ALICE, numbers[0])
    assert [row.text for row in box.waiting(ALICE, 0, 10)] == [b"3"]
    box.forget(ALICE)
    assert box.waiting(ALICE, 0, 10) == []
    assert [row.text for row in box.waiting(BOB, 0, 10)] == [b"2"]
    assert box.put(ALICE, 0, b"4") > numbers[2]  # no number comes twice


def test_the_file_is_open_only_where_something_waits(tmp_path: Path) -> None:
    path = tmp_path / "x.messages"
    idle, kept = Mailbox(path, SECRET), Mailbox(None, SECRET)
    log = path.with_name(path.name + "-wal")  # SQLite's, while a file is open
    assert path.exists()
    assert not log.exists()
    assert idle.waiting(ALICE, 0, 10) == [] == kept.waiting(ALICE, 0, 10)
    assert idle.received() == []
    idle.forget(ALICE)
    assert not log.exists()
    number = idle.put(ALICE, 0, b"1")
    assert log.exists()
    idle.close()
    assert not log.exists()
    idle = Mailbox(path, SECRET)
    assert log.exists()
    assert idle.waiting(ALICE, 0, 10) == [Outgoing(number, 0, b"1")]
    assert kept.put(ALICE, 0, b"2") == kept.waiting(ALICE, 0, 10)[0].id


def test_received_ones_wait_until_they_are_taken(tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "x.messages", SECRET)
    first = box.receive(ALICE, 1, b"one", 123.5)
    second = box.receive(BOB, 0, b"two", 124.0)
    box.close()
    box = Mailbox(tmp_path / "x.messages", SECRET)
    assert [tuple(row) for row in box.received()] == [
        (first, ALICE, 1, b"one", 123.5),
        (second, BOB, 0, b"two", 124.0),
    ]
    box.taken(first)
    assert [row.id for row in box.received()] == [second]


def test_texts_are_encrypted_and_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.messages"
    box = Mailbox(path, SECRET)
    box.put(ALICE, 0, b"a secret text")
    box.receive(ALICE, 0, b"another secret", 1.0)
    files = list(tmp_path.iterdir())
    assert len(files) > 1  # the log of SQLite has it as well
    for one in files:
        assert b"secret" not in one.read_bytes()
        assert stat.S_IMODE(one.stat().st_mode) == 0o600
    box.close()
    other = Mailbox(path, KeyPair.from_secret(bytes(32)).secret)
    with pytest.raises(MailboxError, match="by another identity, or is damaged"):
        other.waiting(ALICE, 0, 1)


def test_a_full_box_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MOST_OUTGOING", 2)
    monkeypatch.setattr(mailbox, "MOST_INCOMING", 2)
    box = Mailbox(None, SECRET)
    first = box.put(ALICE, 0, b"1")
    box.put(ALICE, 0, b"2")
    with pytest.raises(MailboxFull, match="2 messages wait for their receipts"):
        box.put(ALICE, 0, b"3")
    box.delivered(ALICE, first)
    box.put(ALICE, 0, b"3")
    taken = box.receive(BOB, 0, b"1", 0.0)
    box.receive(BOB, 0, b"2", 0.0)
    with pytest.raises(MailboxFull, match="2 messages wait to be taken"):
        box.receive(BOB, 0, b"3", 0.0)
    box.taken(taken)
    box.receive(BOB, 0, b"3", 0.0)


def test_where_a_disk_has_no_room_nobody_is_told_to_move_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(db: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(mailbox, "_make_tables", no_room)
    with pytest.raises(MailboxError, match=r"there is no room for .*; make some on the disk"):
        Mailbox(tmp_path / "x.messages", SECRET)


def test_files_that_are_no_mailbox_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.messages"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(MailboxError, match=r"cannot be opened: .* move the file away"):
        Mailbox(path, SECRET)
    newer = tmp_path / "newer"
    box = Mailbox(newer, SECRET)
    box._open_file().execute("PRAGMA user_version=3")
    box.close()
    with pytest.raises(MailboxError, match="another version of toxmesh"):
        Mailbox(newer, SECRET)
    with pytest.raises(MailboxError, match="cannot be opened"):
        Mailbox(tmp_path / "no" / "where", SECRET)


def killed(path: Path, folder: str) -> Mailbox:
    """Returns what a process finds that takes over now, for the other one was killed."""
    there = path.parent / folder
    there.mkdir()
    for one in path.parent.glob(f"{path.name}*"):
        shutil.copy(one, there / one.name)
    return Mailbox(there / path.name, SECRET)


def test_what_is_kept_together_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.messages"
    box = Mailbox(path, SECRET)
    question = box.receive(ALICE, 0, b"?", 1.0)
    told: list[str] = []
    with box.together():
        box.taken(question)
        with box.together():
            box.put(ALICE, 0, b"!")
        box.hear(ALICE, b"serial--", 7)
        box.then(lambda: told.append("kept"))
        early = killed(path, "early")
        assert told == []
    late = killed(path, "late")
    assert told == ["kept"]
    assert early.counts() == (0, 1)
    assert early.heard().get(ALICE) is None
    assert late.counts() == box.counts() == (1, 0)
    assert late.heard().get(ALICE) == box.heard().get(ALICE) == Heard(b"serial--", 7)


def test_what_fails_together_leaves_nothing(tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "x.messages", SECRET)
    told: list[str] = []

    def fail(begins: bool) -> None:
        with box.together():
            if begins:
                box.put(ALICE, 0, b"1")
                box.receive(BOB, 0, b"2", 1.0)
                box.hear(BOB, b"serial--", 1)
            box.then(lambda: told.append("kept"))
            raise RuntimeError

    for begins in (True, False):
        with pytest.raises(RuntimeError):
            fail(begins)
        assert box.counts() == (0, 0)
        assert box.heard().get(BOB) is None
        assert box.waiting(ALICE, 0, 1) == []
    with box.together():
        box.put(ALICE, 0, b"3")
    assert told == []
    assert [row.text for row in box.waiting(ALICE, 0, 10)] == [b"3"]


def test_nothing_kept_together_opens_no_file(tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "x.messages", SECRET)
    with box.together():
        assert box.heard().get(ALICE) is None
    assert not (tmp_path / "x.messages-wal").exists()


def test_how_far_a_session_is_heard_is_known_again_until_the_friend_is_forgotten(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.messages"
    box = Mailbox(path, SECRET)
    box.hear(ALICE, b"session1", 2**32 - 1)
    box.hear(BOB, b"session2", 5)
    box.hear(ALICE, b"session3", 0)
    box.close()
    box = Mailbox(path, SECRET)
    assert box.heard().get(ALICE) == Heard(b"session3", 0)
    assert box.heard().get(BOB) == Heard(b"session2", 5)
    box.forget(ALICE)
    box.close()
    assert Mailbox(path, SECRET).heard().get(ALICE) is None


_FORM_1 = """
CREATE TABLE outgoing (
    id INTEGER PRIMARY KEY AUTOINCREMENT, friend BLOB NOT NULL, kind INTEGER NOT NULL,
    text BLOB NOT NULL);
CREATE INDEX outgoing_friend ON outgoing (friend, id);
CREATE TABLE incoming (
    id INTEGER PRIMARY KEY AUTOINCREMENT, friend BLOB NOT NULL, kind INTEGER NOT NULL,
    text BLOB NOT NULL, received REAL NOT NULL);
PRAGMA user_version=1;
"""


def test_a_file_of_the_older_form_keeps_all_it_has(tmp_path: Path) -> None:
    path = tmp_path / "x.messages"
    sealing = Mailbox(None, SECRET)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(_FORM_1)
        for number in (3, 4):
            row = (number, ALICE, sealing._seal(b"%d" % number))
            db.execute("INSERT INTO outgoing VALUES (?, ?, 0, ?)", row)
        db.execute("INSERT INTO incoming VALUES (9, ?, 1, ?, 12.5)", (BOB, sealing._seal(b"in")))
    for _ in range(2):
        box = Mailbox(path, SECRET)
        assert [row.id for row in box.waiting(ALICE, 0, 10)] == [3, 4]
        assert [tuple(row) for row in box.received()] == [(9, BOB, 1, b"in", 12.5)]
        box.close()
    assert box.put(ALICE, 0, b"5") > 1_700_000_000_000


def test_a_disk_that_takes_nothing_is_said_and_nothing_is_half_there(tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "x.messages", SECRET)
    box.put(ALICE, 0, b"1")
    pages = box._run("PRAGMA page_count").fetchone()[0]
    box._run(f"PRAGMA max_page_count={pages}")  # as a full disk


    def flood() -> None:
        with box.together():
            for number in range(1_000):
                box.receive(ALICE, 0, bytes(1_000), float(number))

    with pytest.raises(MailboxError, match="look whether its disk is full"):
        flood()
    assert box.counts() == (1, 0)
    box._run(f"PRAGMA max_page_count={pages + 1_000}")
    box.receive(ALICE, 0, b"again", 1.0)
    assert box.counts() == (1, 1)
