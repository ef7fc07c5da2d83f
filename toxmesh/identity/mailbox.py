"""Messages on disk: those to send until their receipt, those received until they were taken.

SQLite beside the profile, in memory for an identity without a file. Texts are encrypted with a key
that is derived from the identity's own, so that they are as safe as the profile is. A message is
written before it is sent, and before anybody is told of it.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from core.crypto import NONCE_SIZE, SecretKey, derive_key, open_sealed, seal

MOST_OUTGOING = 100_000
"""Messages that wait for their receipts, of all friends."""
MOST_INCOMING = 100_000
"""Messages that wait to be taken, of all friends."""
_FORM = 2  # of the tables
_OLDER_FORMS = (0, 1)  # a new file; one that knows no sessions

_TABLES = (
    "CREATE TABLE IF NOT EXISTS outgoing (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " friend BLOB NOT NULL, kind INTEGER NOT NULL, text BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS outgoing_friend ON outgoing (friend, id)",
    "CREATE TABLE IF NOT EXISTS incoming (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " friend BLOB NOT NULL, kind INTEGER NOT NULL, text BLOB NOT NULL, received REAL NOT NULL)",
    "CREATE TABLE IF NOT EXISTS heard (friend BLOB PRIMARY KEY, serial BLOB NOT NULL,"
    " upto INTEGER NOT NULL) WITHOUT ROWID",
)


class MailboxError(Exception):
    """The file of messages cannot be used: what is wrong and what to do next."""


class MailboxFull(MailboxError):
    """So many messages wait that no more is taken."""


class Outgoing(NamedTuple):
    """A message that has no receipt yet."""

    id: int
    kind: int
    text: bytes


class Received(NamedTuple):
    """A message that nobody has taken yet."""

    id: int
    friend: bytes
    kind: int
    text: bytes
    received: float
    """Unix seconds."""


class Heard(NamedTuple):
    """How far the messages of a session are here."""

    serial: bytes
    """Which session."""
    upto: int
    """The number of its last packet of which all messages are stored."""


class Mailbox:
    """The messages of one identity. What fails on disk raises MailboxError, in every method."""

    def __init__(self, path: Path | None, secret: SecretKey) -> None:
        """Opens or makes the file; `secret` is the identity's. Raises MailboxError."""
        self._key = derive_key(secret.reveal(), "toxmesh messages")
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._outgoing = self._incoming = 0
        self._heard: dict[bytes, Heard] = {}
        self._together = False
        self._began = False  # the transaction, of those that are together
        self._afterwards: list[Callable[[], None]] = []
        if path is not None:
            self._open_file()
            self._count()
            if not self._outgoing and not self._incoming:
                self.close()

    def _open_file(self) -> sqlite3.Connection:
        """Opens the file when there is something to read or write: an open one costs 100 KB of
        memory, and most of many identities have nothing that waits. Raises MailboxError."""
        if self._db is not None:
            return self._db
        path = self._path
        db: sqlite3.Connection | None = None
        try:
            if path is not None:
                path.touch(mode=0o600)
            db = sqlite3.connect(path or ":memory:", isolation_level=None)
            db.execute("PRAGMA journal_mode=WAL")
            # A process that dies loses nothing so; power that fails may take the last messages.
            db.execute("PRAGMA synchronous=NORMAL")
            (form,) = db.execute("PRAGMA user_version").fetchone()
            if form in _OLDER_FORMS:
                _make_tables(db)
            elif form != _FORM:
                raise MailboxError(
                    f"{path} was written by another version of toxmesh (form {form}, not {_FORM}); "
                    "run that version, or move the file away"
                )
            self._db, db = db, None
        except (OSError, sqlite3.Error) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise MailboxError(f"there is no room for {path}; make some on the disk") from None
            raise MailboxError(
                f"the messages in {path} cannot be opened: {error}; move the file away, or bring "
                "back a copy of it"
            ) from None
        finally:
            if db is not None:
                db.close()
        return self._db

    def _count(self) -> None:
        """Reads what is kept in memory of the tables: sizes, and how far sessions are heard."""
        (self._outgoing,) = self._run("SELECT count(*) FROM outgoing").fetchone()
        (self._incoming,) = self._run("SELECT count(*) FROM incoming").fetchone()
        rows = self._run("SELECT friend, serial, upto FROM heard")
        self._heard = {friend: Heard(serial, upto) for friend, serial, upto in rows}

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        db = self._open_file()
        try:
            if self._together and not self._began:
                db.execute("BEGIN IMMEDIATE")
                self._began = True
            return db.execute(statement, values)
        except sqlite3.Error as error:
            raise MailboxError(
                f"the messages in {self._path} cannot be used: {error}; look whether its disk is "
                "full or ill"
            ) from None

    def close(self) -> None:
        """Closes the file; it is opened again when it is needed."""
        if self._db is not None:
            self._db.close()
            self._db = None

    # One transaction

    @contextmanager
    def together(self) -> Iterator[None]:
        """What the block keeps and forgets stands on disk as a whole or, if it raises, not at all.

        Nothing may be awaited within, or others' messages would share its fate. A block within a
        block is part of it.
        """
        if self._together:
            yield
            return
        self._together = True
        kept = False
        try:
            yield
            if self._began:
                self._run("COMMIT")
            kept = True
        finally:
            began, self._together, self._began = self._began, False, False
            if not kept:
                self._afterwards.clear()
                if began:
                    self._roll_back()
        afterwards, self._afterwards = self._afterwards, []
        for action in afterwards:
            action()

    def _roll_back(self) -> None:
        db = self._open_file()
        if db.in_transaction:  # SQLite has not done it by itself, as for a full disk
            self._run("ROLLBACK")
        self._count()

    @property
    def is_writing(self) -> bool:
        """Whether a block has kept or forgotten something so far."""
        return self._began

    def then(self, action: Callable[[], None]) -> None:
        """Does something when what was kept before stands on disk; never if it comes to nothing."""
        if self._together:
            self._afterwards.append(action)
        else:
            action()

    # Texts

    def _seal(self, text: bytes) -> bytes:
        nonce = os.urandom(NONCE_SIZE)
        return nonce + seal(self._key, nonce, text)

    def _open(self, sealed: bytes) -> bytes:
        text = open_sealed(self._key, sealed[:NONCE_SIZE], sealed[NONCE_SIZE:])
        if text is None:
            raise MailboxError(
                "a message was written by another identity, or is damaged; move the file of "
                "messages away"
            )
        return text

    def check(self) -> None:
        """Raises MailboxError if the messages here are another identity's."""
        for table in ("outgoing", "incoming"):
            row = self._run(f"SELECT text FROM {table} LIMIT 1").fetchone()
            if row is not None:
                self._open(row[0])

    # To send

    def put(self, friend: bytes, kind: int, text: bytes) -> int:
        """Keeps a message until its receipt; returns its number, greater than all before it, also
        than those of a file that was moved away. Raises MailboxFull."""
        if self._outgoing >= MOST_OUTGOING:
            raise MailboxFull(f"{MOST_OUTGOING:,} messages wait for their receipts")
        number = self._run(
            "INSERT INTO outgoing (friend, kind, text) VALUES (?, ?, ?)",
            (friend, kind, self._seal(text)),
        ).lastrowid
        assert number is not None
        self._outgoing += 1
        return number

    def waiting(self, friend: bytes, after: int, most: int) -> list[Outgoing]:
        """Returns the next messages for a friend behind the one with number `after`, in order."""
        if not self._outgoing:
            return []
        rows = self._run(
            "SELECT id, kind, text FROM outgoing WHERE friend = ? AND id > ? ORDER BY id LIMIT ?",
            (friend, after, most),
        )
        return [Outgoing(number, kind, self._open(text)) for number, kind, text in rows]

    def delivered(self, friend: bytes, upto: int) -> None:
        """Forgets the messages for a friend that it has: all up to the one with this number."""
        if self._outgoing:
            self._outgoing -= self._run(
                "DELETE FROM outgoing WHERE friend = ? AND id <= ?", (friend, upto)
            ).rowcount

    def forget(self, friend: bytes) -> list[int]:
        """Forgets all that was to be sent to somebody who is no friend any more, and its session;
        returns the numbers of those messages."""
        numbers: list[int] = []
        with self.together():
            if self._outgoing:
                rows = self._run("SELECT id FROM outgoing WHERE friend = ?", (friend,))
                numbers = [number for (number,) in rows]
                self._run("DELETE FROM outgoing WHERE friend = ?", (friend,))
                self._outgoing -= len(numbers)
            if self._heard.pop(friend, None) is not None:
                self._run("DELETE FROM heard WHERE friend = ?", (friend,))
        return numbers

    def has(self, number: int) -> bool:
        """Tells whether a message is still to be delivered."""
        if not self._outgoing:
            return False
        found = self._run("SELECT 1 FROM outgoing WHERE id = ?", (number,)).fetchone()
        return found is not None

    def count_for(self, friend: bytes) -> int:
        """Returns how many messages to a friend have no receipt yet."""
        if not self._outgoing:
            return 0
        wanted = "SELECT count(*) FROM outgoing WHERE friend = ?"
        return int(self._run(wanted, (friend,)).fetchone()[0])

    def counts(self) -> tuple[int, int]:
        """Returns how many messages have no receipt yet, and how many nobody has taken."""
        return self._outgoing, self._incoming

    # Received

    def receive(self, friend: bytes, kind: int, text: bytes, received: float) -> int:
        """Keeps a message until it was taken; returns its number. Raises MailboxFull."""
        if self._incoming >= MOST_INCOMING:
            raise MailboxFull(f"{MOST_INCOMING:,} messages wait to be taken")
        number = self._run(
            "INSERT INTO incoming (friend, kind, text, received) VALUES (?, ?, ?, ?)",
            (friend, kind, self._seal(text), received),
        ).lastrowid
        assert number is not None
        self._incoming += 1
        return number

    def received(self) -> list[Received]:
        """Returns what nobody has taken, in order."""
        if not self._incoming:
            return []
        rows = self._run("SELECT id, friend, kind, text, received FROM incoming ORDER BY id")
        return [
            Received(number, friend, kind, self._open(text), when)
            for number, friend, kind, text, when in rows
        ]

    def taken(self, number: int) -> None:
        """Forgets a message that was taken."""
        self._incoming -= self._run("DELETE FROM incoming WHERE id = ?", (number,)).rowcount

    def hear(self, friend: bytes, serial: bytes, upto: int) -> None:
        """Notes how far a session's messages are stored: together with these, so that a process
        that takes over knows which of them come again."""
        self._run("INSERT OR REPLACE INTO heard VALUES (?, ?, ?)", (friend, serial, upto))
        self._heard[friend] = Heard(serial, upto)

    def heard(self) -> Mapping[bytes, Heard]:
        """Returns, by friend, how far the last session with messages is stored."""
        return self._heard


def _make_tables(db: sqlite3.Connection) -> None:
    """Brings a new file, or one of an older form, to the form of today. Numbers of messages begin
    at the Unix milliseconds: a session that goes on while its file was moved away must not take
    new messages for old ones that it has delivered."""
    first = int(time.time() * 1000)
    db.execute("BEGIN IMMEDIATE")
    for table in _TABLES:
        db.execute(table)
    db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'outgoing'", (first,))
    db.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'outgoing', ? WHERE NOT EXISTS "
        "(SELECT 1 FROM sqlite_sequence WHERE name = 'outgoing')",
        (first,),
    )
    db.execute(f"PRAGMA user_version={_FORM}")
    db.execute("COMMIT")


def move_unreadable(path: Path, secret: SecretKey) -> Path | None:
    """Moves a file of messages away that an identity, whose this `secret` is, cannot read, since
    it is another's or damaged; returns where it is now, or None: it may stay, or there is none.

    Raises MailboxError where that cannot be done.
    """
    if not path.exists():
        return None
    try:
        box = Mailbox(path, secret)
        try:
            box.check()
            return None
        finally:
            box.close()  # which also puts SQLite's log into the file
    except MailboxError:
        pass
    number = 1
    while (there := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    try:
        for suffix in ("-wal", "-shm"):
            beside = path.with_name(path.name + suffix)
            if beside.exists():  # of a file that is damaged
                beside.rename(there.with_name(there.name + suffix))
        path.rename(there)
    except OSError as error:
        raise MailboxError(f"{path} is not this identity's, and cannot be moved: {error}") from None
    return there
