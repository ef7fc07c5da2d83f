"""Messages on disk: those to send until their receipt, those received until they were taken.

SQLite beside the profile, in memory for an identity without a file. Texts are encrypted with a key
that is derived from the identity's own, so that they are as safe as the profile is. A message is
written before it is sent, and before anybody is told of it.
"""

import sqlite3
from pathlib import Path
from typing import NamedTuple

from core.crypto import NONCE_SIZE, SecretKey, derive_key, open_sealed, seal
from core.entropy import SystemEntropy

MOST_OUTGOING = 100_000
"""Messages that wait for their receipts, of all friends."""
MOST_INCOMING = 100_000
"""Messages that wait to be taken, of all friends."""
_FORM = 1  # of the tables

_TABLES = """
CREATE TABLE IF NOT EXISTS outgoing (
    id INTEGER PRIMARY KEY AUTOINCREMENT, friend BLOB NOT NULL, kind INTEGER NOT NULL,
    text BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS outgoing_friend ON outgoing (friend, id);
CREATE TABLE IF NOT EXISTS incoming (
    id INTEGER PRIMARY KEY AUTOINCREMENT, friend BLOB NOT NULL, kind INTEGER NOT NULL,
    text BLOB NOT NULL, received REAL NOT NULL);
"""


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


def _count(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


class Mailbox:
    """The messages of one identity."""

    def __init__(self, path: Path | None, secret: SecretKey) -> None:
        """Opens or makes the file; `secret` is the identity's. Raises MailboxError."""
        self._key = derive_key(secret.reveal(), "toxmesh messages")
        self._entropy = SystemEntropy()
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._outgoing = self._incoming = 0
        if path is not None:
            db = self._open_file()
            self._outgoing, self._incoming = _count(db, "outgoing"), _count(db, "incoming")
            if not self._outgoing and not self._incoming:
                self.close()

    def _open_file(self) -> sqlite3.Connection:
        """Opens the file when there is something to read or write: an open one costs 100 KB of
        memory, and most of many identities have nothing that waits. Raises MailboxError."""
        if self._db is not None:
            return self._db
        path = self._path
        try:
            if path is not None:
                path.touch(mode=0o600)
            self._db = db = sqlite3.connect(path or ":memory:", isolation_level=None)
            db.execute("PRAGMA journal_mode=WAL")
            # A process that dies loses nothing so; power that fails may take the last messages.
            db.execute("PRAGMA synchronous=NORMAL")
            (form,) = db.execute("PRAGMA user_version").fetchone()
            if form not in (0, _FORM):
                raise MailboxError(
                    f"{path} was written by another version of toxmesh (form {form}, not {_FORM}); "
                    "run that version, or move the file away"
                )
            db.executescript(_TABLES)
            db.execute(f"PRAGMA user_version={_FORM}")
        except (OSError, sqlite3.Error) as error:
            raise MailboxError(
                f"the messages in {path} cannot be opened: {error}; move the file away, or bring "
                "back a copy of it"
            ) from None
        return db

    def close(self) -> None:
        """Closes the file; it is opened again when it is needed."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _seal(self, text: bytes) -> bytes:
        nonce = self._entropy.bytes(NONCE_SIZE)
        return nonce + seal(self._key, nonce, text)

    def _open(self, sealed: bytes) -> bytes:
        text = open_sealed(self._key, sealed[:NONCE_SIZE], sealed[NONCE_SIZE:])
        if text is None:
            raise MailboxError(
                "a message was written by another identity, or is damaged; move the file of "
                "messages away"
            )
        return text

    # To send

    def put(self, friend: bytes, kind: int, text: bytes) -> int:
        """Keeps a message until its receipt; returns its number. Raises MailboxFull."""
        if self._outgoing >= MOST_OUTGOING:
            raise MailboxFull(f"{MOST_OUTGOING:,} messages wait for their receipts")
        number = (
            self._open_file()
            .execute(
                "INSERT INTO outgoing (friend, kind, text) VALUES (?, ?, ?)",
                (friend, kind, self._seal(text)),
            )
            .lastrowid
        )
        assert number is not None
        self._outgoing += 1
        return number

    def waiting(self, friend: bytes, after: int, most: int) -> list[Outgoing]:
        """Returns the next messages for a friend behind the one with number `after`, in order."""
        if not self._outgoing:
            return []
        rows = self._open_file().execute(
            "SELECT id, kind, text FROM outgoing WHERE friend = ? AND id > ? ORDER BY id LIMIT ?",
            (friend, after, most),
        )
        return [Outgoing(number, kind, self._open(text)) for number, kind, text in rows]

    def delivered(self, number: int) -> None:
        """Forgets a message that has its receipt."""
        self._outgoing -= (
            self._open_file().execute("DELETE FROM outgoing WHERE id = ?", (number,)).rowcount
        )

    def forget(self, friend: bytes) -> None:
        """Forgets all that was to be sent to somebody who is no friend any more."""
        if not self._outgoing:
            return
        self._outgoing -= (
            self._open_file().execute("DELETE FROM outgoing WHERE friend = ?", (friend,)).rowcount
        )

    def count_for(self, friend: bytes) -> int:
        """Returns how many messages to a friend have no receipt yet."""
        if not self._outgoing:
            return 0
        wanted = "SELECT count(*) FROM outgoing WHERE friend = ?"
        return int(self._open_file().execute(wanted, (friend,)).fetchone()[0])

    def counts(self) -> tuple[int, int]:
        """Returns how many messages have no receipt yet, and how many nobody has taken."""
        return self._outgoing, self._incoming

    # Received

    def receive(self, friend: bytes, kind: int, text: bytes, received: float) -> int:
        """Keeps a message until it was taken; returns its number. Raises MailboxFull."""
        if self._incoming >= MOST_INCOMING:
            raise MailboxFull(f"{MOST_INCOMING:,} messages wait to be taken")
        number = (
            self._open_file()
            .execute(
                "INSERT INTO incoming (friend, kind, text, received) VALUES (?, ?, ?, ?)",
                (friend, kind, self._seal(text), received),
            )
            .lastrowid
        )
        assert number is not None
        self._incoming += 1
        return number

    def received(self) -> list[Received]:
        """Returns what nobody has taken, in order."""
        if not self._incoming:
            return []
        rows = self._open_file().execute(
            "SELECT id, friend, kind, text, received FROM incoming ORDER BY id"
        )
        return [
            Received(number, friend, kind, self._open(text), when)
            for number, friend, kind, text, when in rows
        ]

    def taken(self, number: int) -> None:
        """Forgets a message that was taken."""
        self._incoming -= (
            self._open_file().execute("DELETE FROM incoming WHERE id = ?", (number,)).rowcount
        )
