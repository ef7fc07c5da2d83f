"""The only writer of files: the state directory, its lock, and the nodes known when we stopped.

A file is written beside its place, brought to the disk and renamed, so that a crash leaves the old
one or the new one. What cannot be read again is set aside with a warning and never stops a node.
"""

import errno
import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from core import endpoint
from core.endpoint import Endpoint
from core.wire import WireError
from ops.paths import LOCK_FILE, NODES_FILE

NODES_MAGIC = b"toxmesh nodes 1\n"
MAX_SAVED_NODES = 4096
KEY_SIZE = 32  # bytes of a node's public key
CHECKSUM_SIZE = 32  # SHA-256 over all that stands before it
_LARGEST_ROW = KEY_SIZE + 19  # key and an IPv6 endpoint
_LARGEST_FILE = len(NODES_MAGIC) + MAX_SAVED_NODES * _LARGEST_ROW + CHECKSUM_SIZE

log = logging.getLogger("toxmesh.storage")


class StorageError(Exception):
    """The state directory cannot be used: why, and the next step; `code` is the exit code."""

    def __init__(self, text: str, code: int = 3) -> None:
        super().__init__(text)
        self.code = code


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


class StateDirectory:
    """The directory that one node at a time owns; made with mode 0700 where it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def make(self) -> None:
        """Makes the directory where it is missing. Raises StorageError where that fails."""
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                pass
            else:
                path.chmod(0o700)  # whatever the umask took away
            found = path.stat()
        except PermissionError:
            raise StorageError(
                f"the state directory {path} cannot be made or entered by this user; give "
                "--state-dir a directory of your own, or run as its owner",
                code=5,
            ) from None
        except OSError as error:
            raise StorageError(
                f"the state directory {path} cannot be used: {_reason(error)}; choose another "
                "with --state-dir"
            ) from None
        if not stat.S_ISDIR(found.st_mode):
            raise StorageError(
                f"the state directory {path} is not a directory; choose another with --state-dir"
            )
        if found.st_mode & stat.S_IWOTH:
            raise StorageError(
                f"anybody may write into the state directory {path}; run: chmod o-w '{path}'"
            )

    def lock(self) -> None:
        """Takes the directory for this process. Raises StorageError if another node has it."""
        path = self.path / LOCK_FILE
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            handle = os.open(path, flags, 0o600)
        except PermissionError:
            raise StorageError(
                f"this user may not write into the state directory {self.path}; give --state-dir "
                "a directory of your own, or run as its owner",
                code=5,
            ) from None
        except OSError as error:
            raise StorageError(f"{path} cannot be opened: {_reason(error)}; remove it") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise StorageError(
                f"another node (process {owner}) uses the state directory {self.path}; stop it, or "
                "give this one its own with --state-dir"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, b"%d\n" % os.getpid(), 0)
        self._lock = handle

    @property
    def lock_descriptor(self) -> int:
        """The open file that holds the lock; -1 without."""
        return -1 if self._lock is None else self._lock

    def keep_lock(self, descriptor: int) -> None:
        """Goes on with the lock that the version before has left in this process."""
        os.set_inheritable(descriptor, False)
        self._lock = descriptor

    def unlock(self) -> None:
        """Lets another node have the directory; the file stays, for its name is what is locked."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _sync_directory(path: Path) -> None:
    """Brings a rename to the disk, where the file system can."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    """Writes a whole file with a fresh name next to `path` and returns that name."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)  # left by a process of this number that was killed
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(beside, flags, mode)
    try:
        os.fchmod(handle, mode)
        _write_all(handle, data)
        os.fsync(handle)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return beside


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Puts a file at `path`, whole or not at all, in place of what was there."""
    beside = _write_beside(path, data, mode)
    try:
        beside.rename(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def create(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Puts a new file at `path`, whole or not at all. Raises FileExistsError, never overwrites."""
    beside = _write_beside(path, data, mode)
    try:
        os.link(beside, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: exclusive still, only not whole in a crash
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(path, flags, mode)
        try:
            _write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
    finally:
        beside.unlink(missing_ok=True)
    _sync_directory(path.parent)


def encode_nodes(nodes: Sequence[tuple[Endpoint, bytes]]) -> bytes:
    """Returns the bytes of a nodes file: magic, rows of key and endpoint, SHA-256 of all of it."""
    rows = [key + endpoint.pack_compact(place) for place, key in nodes[:MAX_SAVED_NODES]]
    body = NODES_MAGIC + b"".join(rows)
    return body + hashlib.sha256(body).digest()


def decode_nodes(data: bytes) -> tuple[tuple[Endpoint, bytes], ...]:
    """Reads the bytes of a nodes file. Raises WireError for anything that was not written whole."""
    body, checksum = data[:-CHECKSUM_SIZE], data[-CHECKSUM_SIZE:]
    if not body.startswith(NODES_MAGIC):
        raise WireError("nodes.db", "does not begin like a file of known nodes")
    if hashlib.sha256(body).digest() != checksum:
        raise WireError("nodes.db", "checksum does not match")
    nodes: list[tuple[Endpoint, bytes]] = []
    at = len(NODES_MAGIC)
    while at < len(body):
        key = body[at : at + KEY_SIZE]
        place, at = endpoint.unpack_compact(body, at + KEY_SIZE)
        nodes.append((place, key))
    if len(nodes) > MAX_SAVED_NODES:
        raise WireError("nodes.db", f"{len(nodes)} nodes are more than {MAX_SAVED_NODES}")
    return tuple(nodes)


def save_nodes(directory: Path, nodes: Sequence[tuple[Endpoint, bytes]]) -> bool:
    """Keeps the known nodes, best first, for the next start; a full disk is a warning."""
    path = directory / NODES_FILE
    try:
        replace(path, encode_nodes(nodes))
    except OSError as error:
        log.warning("the known nodes were not saved in %s: %s", path, _reason(error))
        return False
    return True


def load_nodes(directory: Path) -> tuple[tuple[Endpoint, bytes], ...]:
    """Returns the nodes known when the node last stopped; empty if there is nothing to read."""
    path = directory / NODES_FILE
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        return ()
    except OSError as error:
        log.warning("the known nodes in %s are left out: %s", path, _reason(error))
        return ()
    try:
        with os.fdopen(handle, "rb") as stream:
            return decode_nodes(stream.read(_LARGEST_FILE + 1))
    except (OSError, WireError) as error:
        aside = path.with_name(path.name + ".damaged")
        try:
            path.rename(aside)
        except OSError as failure:
            log.warning("%s is damaged and cannot be set aside: %s", path, _reason(failure))
        else:
            log.warning("%s is damaged (%s): set aside as %s", path, error, aside.name)
        return ()
