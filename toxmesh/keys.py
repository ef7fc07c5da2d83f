"""The keys file: 64 bytes, public key then secret key, as tox-bootstrapd's and tox-node's are.

It is made with mode 0600 in one exclusive step and refused if anybody else could have read or
placed it. Each refusal is one sentence that ends with the command that mends it.
"""

import errno
import os
import stat
from pathlib import Path

from core.crypto import KEY_SIZE, KeyPair, equal
from core.entropy import SystemEntropy
from toxmesh import storage

FILE_SIZE = 2 * KEY_SIZE  # c-toxcore other/bootstrap_daemon: manage_keys writes public, then secret


class KeysError(Exception):
    """A keys file cannot be used or made: what is wrong, what to do next, and the exit code."""

    def __init__(self, text: str, code: int = 3) -> None:
        super().__init__(text)
        self.code = code


_OR_NEW = "bring back a copy of it, or make new keys with: toxmesh keys generate --force"
_OR_OTHER = "name the keys file of a node, or a whole copy of it"


def _key_pair(data: bytes, path: Path, mend: str = _OR_NEW) -> KeyPair:
    """Makes a key pair of a file's bytes, if its halves belong together."""
    if len(data) != FILE_SIZE:
        size = f"{len(data)} bytes" if len(data) < FILE_SIZE else f"more than {FILE_SIZE} bytes"
        raise KeysError(
            f"the keys file {path} has {size}, not {FILE_SIZE}: it is damaged or something else; "
            + mend
        )
    pair = KeyPair.from_secret(data[KEY_SIZE:])
    if not equal(pair.public, data[:KEY_SIZE]):
        raise KeysError(
            f"the two halves of the keys file {path} do not belong together: it is damaged; {mend}"
        )
    return pair


def _open(path: Path, flags: int = 0, make: bool = True) -> int:
    """Opens a file for reading without waiting for whatever it is.

    `make`: one that is missing can be made, for it is the node's own.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    except FileNotFoundError:
        step = f"make one with: toxmesh keys generate --state-dir '{path.parent}'"
        if not make:
            step = "name the file to import, such as /var/lib/tox-bootstrapd/keys"
        raise KeysError(f"there is no keys file {path}; {step}") from None
    except PermissionError:
        raise KeysError(
            f"the keys file {path} cannot be read by this user; run as its owner, with: sudo -u "
            "OWNER (`toxmesh ops status` tells a running node's public key)",
            code=5,
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise KeysError(
                f"the keys file {path} is a symbolic link, and whoever owns the link could change "
                f"the keys; put the file itself there: cp --remove-destination "
                f"\"$(readlink -f '{path}')\" '{path}'"
            ) from None
        reason = (error.strerror or str(error)).lower()
        raise KeysError(
            f"the keys file {path} cannot be read: {reason}; look at it with: ls -l '{path}'"
        ) from None


def _read(handle: int, path: Path) -> bytes:
    """Reads one byte more than a keys file has, from a regular file."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise KeysError(
            f"the keys file {path} is not a regular file; move it away and run: toxmesh keys "
            f"generate --state-dir '{path.parent}'"
        )
    return os.read(handle, FILE_SIZE + 1)


def load(path: Path) -> KeyPair:
    """Reads the node's keys. Raises KeysError for a file that is not ours alone."""
    handle = _open(path, os.O_NOFOLLOW)
    try:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid():
            raise KeysError(
                f"the keys file {path} belongs to user {found.st_uid}, not to {os.geteuid()} who "
                f"runs the node; run as its owner, or: sudo chown {os.geteuid()} '{path}'"
            )
        data = _read(handle, path)
        if found.st_mode & 0o077:
            raise KeysError(
                f"other users can open the keys file {path} (mode {found.st_mode & 0o777:04o}); "
                f"run: chmod 600 '{path}'"
            )
    finally:
        os.close(handle)
    return _key_pair(data, path)


def _store(pair: KeyPair, path: Path, force: bool) -> None:
    """Writes a keys file; one that stands there already is replaced with `force` alone."""
    data = bytes(pair.public) + pair.secret.reveal()
    try:
        if force:
            storage.replace(path, data, 0o600)
        else:
            storage.create(path, data, 0o600)
    except FileExistsError:
        raise KeysError(
            f"there are keys in {path} already; add --force to lose them and the address other "
            "people know this node by, or use another --state-dir"
        ) from None
    except PermissionError:
        raise KeysError(
            f"this user may not write the keys file {path}; use a --state-dir of your own, or run "
            "as the owner of this one",
            code=5,
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise KeysError(
            f"the keys file {path} cannot be written: {reason}; free some room, or use another "
            "--state-dir"
        ) from None


def generate(path: Path, force: bool = False) -> KeyPair:
    """Makes new keys and their file. Raises KeysError if there is one and `force` is not set."""
    pair = KeyPair.generate(SystemEntropy())
    _store(pair, path, force)
    return pair


def read_other(source: Path) -> KeyPair:
    """Reads the keys of tox-bootstrapd, tox-node or another node of ours, whoever owns the file."""
    handle = _open(source, make=False)
    try:
        data = _read(handle, source)
    finally:
        os.close(handle)
    return _key_pair(data, source, _OR_OTHER)


def bring(source: Path, path: Path, force: bool = False) -> KeyPair:
    """Copies the keys of tox-bootstrapd or of another node from `source` to `path`."""
    pair = read_other(source)
    _store(pair, path, force)
    return pair


def load_or_generate(path: Path) -> tuple[KeyPair, bool]:
    """Reads the node's keys, or makes them at the first start; the flag tells that they are new."""
    if not os.path.lexists(path):
        return generate(path), True
    return load(path), False
