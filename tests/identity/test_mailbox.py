"""Messages on disk: kept until their receipt, kept until taken, and readable by nobody else."""

import stat
from pathlib import Path

import pytest

from core.crypto import KeyPair, SecretKey
from toxmesh.identity import mailbox
from toxmesh.identity.mailbox import Mailbox, MailboxError, MailboxFull, Outgoing

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
    box.delivered(numbers[0])
    box.delivered(numbers[0])
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
    box.delivered(first)
    box.put(ALICE, 0, b"3")
    taken = box.receive(BOB, 0, b"1", 0.0)
    box.receive(BOB, 0, b"2", 0.0)
    with pytest.raises(MailboxFull, match="2 messages wait to be taken"):
        box.receive(BOB, 0, b"3", 0.0)
    box.taken(taken)
    box.receive(BOB, 0, b"3", 0.0)


def test_files_that_are_no_mailbox_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.messages"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(MailboxError, match=r"cannot be opened: .* move the file away"):
        Mailbox(path, SECRET)
    newer = tmp_path / "newer"
    box = Mailbox(newer, SECRET)
    box._open_file().execute("PRAGMA user_version=2")
    box.close()
    with pytest.raises(MailboxError, match="another version of toxmesh"):
        Mailbox(newer, SECRET)
    with pytest.raises(MailboxError, match="cannot be opened"):
        Mailbox(tmp_path / "no" / "where", SECRET)
