"""The files of identities: each a save file that any Tox client opens, plain or with passphrase.

Identities that have a name here live in `identities/` of the state directory, as `NAME.tox` with
mode 0600. A file is replaced whole or not at all, and belongs to one process at a time.
"""

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from core.entropy import SystemEntropy
from core.savedata.encrypted import FileKey, PassphraseError, is_encrypted, salt_of
from core.savedata.file import MAX_FILE_SIZE, SaveError, read, write
from core.savedata.profile import Profile
from toxmesh import storage
from toxmesh.identity.names import is_name

FOLDER = "identities"
SUFFIX = ".tox"
MESSAGES = ".messages"
"""The suffix of the mailbox beside a profile."""

_MOST_PASSPHRASE = 4096  # characters

AskPassphrase = Callable[[], str | bytes]
"""Gives the passphrase of an encrypted file, when there is one."""


class ProfileError(Exception):
    """A profile cannot be used: what is wrong, what to do next, and the exit code."""

    def __init__(self, text: str, code: int = 3) -> None:
        super().__init__(text)
        self.code = code


def passphrase_in(source: Path | str) -> str:
    """Returns the first line of a file (`-`: of standard input). Raises ProfileError."""
    try:
        stdin = str(source) == "-"
        with nullcontext(sys.stdin) if stdin else open(source, encoding="utf-8") as stream:
            line = stream.readline(_MOST_PASSPHRASE).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ProfileError(f"{source} cannot be read: {reason.lower()}") from None
    if not line:
        raise ProfileError(f"the first line of {source} is empty: no passphrase")
    return line


def _nobody_knows() -> str:
    raise ProfileError("it is encrypted, and no passphrase was given; add --passphrase-file FILE")


@dataclass(slots=True)
class ProfileFile:
    """A profile's place on disk, and the key it is encrypted with, if it is."""

    path: Path
    key: FileKey | None = None
    _lock: int | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        profile: Profile,
        passphrase: str | bytes = "",
        replace: bool = False,
        otherwise: str = "load it (Identity.load, Identity.open), or choose another name",
    ) -> "ProfileFile":
        """Writes a new file. Raises ProfileError where there is one, unless `replace`; that says
        what to do `otherwise`."""
        made = cls(path, FileKey.new(passphrase, SystemEntropy()) if passphrase else None)
        put = storage.replace if replace else storage.create
        try:
            put(path, made._sealed(profile), 0o600)
        except FileExistsError:
            raise ProfileError(f"there is a file {path} already; {otherwise}") from None
        except OSError as error:
            raise _cannot("written", path, error) from None
        return made

    @classmethod
    def open(
        cls,
        path: Path,
        passphrase: AskPassphrase = _nobody_knows,
        known: FileKey | None = None,
    ) -> tuple["ProfileFile", Profile]:
        """Reads a file; `passphrase` is asked if it is encrypted, unless `known` is its key (to
        make that takes 0.1 s). Raises ProfileError."""
        data = _bytes_of(path)
        key = None
        try:
            if is_encrypted(data):
                salt = salt_of(data)
                if known is not None and known.salt == salt:
                    key = known
                else:
                    key = FileKey.derive(passphrase(), salt)
                data = key.decrypt(data)
            return cls(path, key), read(data)
        except PassphraseError as error:
            raise ProfileError(f"{path} cannot be opened: {error}") from None
        except SaveError as error:
            raise ProfileError(
                f"{path} is no Tox profile, or damaged: {error}; bring back a copy of it"
            ) from None

    @classmethod
    @contextmanager
    def taken(
        cls,
        path: Path,
        passphrase: AskPassphrase = _nobody_knows,
        known: FileKey | None = None,
    ) -> Iterator[tuple["ProfileFile", Profile]]:
        """Reads a file, as `open` does, that belongs to this process until the block ends."""
        with cls(path).locked() as file:
            opened, profile = cls.open(path, passphrase, known)
            file.key = opened.key
            yield file, profile

    @contextmanager
    def locked(self) -> Iterator["ProfileFile"]:
        """Lets no other process have it while the block runs. Raises ProfileError."""
        self.lock()
        try:
            yield self
        finally:
            self.unlock()

    def save(self, profile: Profile) -> None:
        """Replaces the file, whole or not at all. Raises ProfileError."""
        try:
            storage.replace(self.path, self._sealed(profile), 0o600)
        except OSError as error:
            raise _cannot("written", self.path, error) from None

    def change_passphrase(self, profile: Profile, passphrase: str | bytes) -> None:
        """Saves under another passphrase; an empty one leaves the file plain."""
        before = self.key
        self.key = FileKey.new(passphrase, SystemEntropy()) if passphrase else None
        try:
            self.save(profile)
        except ProfileError:
            self.key = before
            raise

    def _sealed(self, profile: Profile) -> bytes:
        data = write(profile)
        return data if self.key is None else self.key.encrypt(data, SystemEntropy())

    def lock(self) -> None:
        """Takes the profile for this process. Raises ProfileError if another one has it.

        Two processes with one identity would take each other's messages.
        """
        beside = self.path.with_name(f".{self.path.name}.lock")
        try:
            handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _cannot("locked", self.path, error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise ProfileError(
                f"another process uses {self.path}; stop it first", code=2
            ) from None
        self._lock = handle

    def unlock(self) -> None:
        """Lets another process have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _cannot(done: str, path: Path, error: OSError) -> ProfileError:
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.EACCES, errno.EPERM):
        return ProfileError(f"{path} cannot be {done} by this user; run as its owner", code=5)
    return ProfileError(f"{path} cannot be {done}: {reason}")


def _bytes_of(path: Path) -> bytes:
    """Reads a regular file of at most 64 MiB."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProfileError(f"there is no file {path}", code=1) from None
    except OSError as error:
        raise _cannot("read", path, error) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ProfileError(f"{path} is not a regular file; name the profile itself")
    with os.fdopen(handle, "rb") as stream:
        try:
            return stream.read(MAX_FILE_SIZE + 1)
        except OSError as error:
            raise _cannot("read", path, error) from None


class Profiles:
    """The identities with names, in one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / FOLDER

    def make(self) -> None:
        """Makes the folder where it is missing, for this user alone. Raises ProfileError."""
        try:
            storage.StateDirectory(self.folder.parent).make()
            storage.StateDirectory(self.folder).make()
        except storage.StorageError as error:
            raise ProfileError(str(error), error.code) from None

    def path(self, name: str) -> Path:
        """Returns where an identity of this name is, or would be. Raises ProfileError."""
        if not is_name(name):
            raise ProfileError(
                f"{name!r} is no name for an identity: 1-64 letters, digits, '_', '-' and '.', "
                "beginning with a letter or digit"
            )
        return self.folder / (name + SUFFIX)

    def existing(self, name: str) -> Path:
        """Returns the file of an identity that is there. Raises ProfileError."""
        path = self.path(name)
        if not path.exists():
            known = ", ".join(self.names()) or "none"
            raise ProfileError(
                f"there is no identity {name!r}; there are: {known}. Make one with: "
                f"toxmesh identity create {name}",
                code=1,
            )
        return path

    def names(self) -> list[str]:
        """Returns the names of all identities, sorted."""
        try:
            found = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _cannot("read", self.folder, error) from None
        names = (name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX))
        return sorted(name for name in names if is_name(name))

    def remove(self, name: str) -> None:
        """Deletes an identity that no process uses. Raises ProfileError."""
        with ProfileFile(self.existing(name)).locked() as file:
            try:
                file.path.unlink()
                messages = file.path.with_suffix(MESSAGES)
                beside = [f".{file.path.name}.{what}" for what in ("lock", "sock", "gate")]
                rest = (messages.name, f"{messages.name}-wal", f"{messages.name}-shm")
                for name_beside in (*beside, *rest):
                    file.path.with_name(name_beside).unlink(missing_ok=True)
            except OSError as error:
                raise _cannot("removed", file.path, error) from None
