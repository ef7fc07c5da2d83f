"""Files: the state directory, its keys, who owns them, room on the disk, the settings file."""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from ops.doctor_machine import Finding, Machine, deny, exists, fail, ok, warn
from ops.paths import CONTROL_SOCKET, KEYS_FILE, NODES_FILE

_KEYS_SIZE = 64  # bytes: public key, secret key
_LOW_DISK = 64 << 20  # bytes; the node itself writes some 200 KiB
_MAX_ENTRIES = 1000  # of the state directory that are looked at


def name_of(uid: int) -> str:
    """Returns the user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def files(machine: Machine) -> Iterator[Finding]:
    """Looks at all files of a node."""
    yield from _settings(machine)
    path = machine.state_dir
    if not exists(path):
        yield _missing(machine, path)
        return
    try:
        found = path.stat()
        names = sorted(os.listdir(path))[:_MAX_ENTRIES]
    except PermissionError:
        owner = name_of(machine.owner(path)) if _can_stat(path) else "root"
        yield deny(
            "state",
            f"this user may not look into {path}, so its files are not checked",
            f"sudo -u {owner} toxmesh ops doctor --state-dir '{path}'",
        )
        return
    except NotADirectoryError:
        yield fail("state", f"{path} is not a directory", f"mv '{path}' '{path}.old'")
        return
    if found.st_mode & stat.S_IWOTH:
        yield fail("state", f"anybody may write into {path}: no node starts", f"chmod 700 '{path}'")
    elif found.st_mode & (stat.S_IROTH | stat.S_IXOTH):
        yield warn("state", f"anybody may look into {path}", f"chmod o-rwx '{path}'")
    else:
        yield ok("state", f"{path}: mode {stat.S_IMODE(found.st_mode):04o}")
    yield from _owners(machine, names)
    yield _keys(machine, path / KEYS_FILE)
    yield _nodes(path / NODES_FILE)
    yield _disk(machine, path)


def _can_stat(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _missing(machine: Machine, path: Path) -> Finding:
    parent = next(row for row in path.parents if exists(row))
    if os.access(parent, os.W_OK | os.X_OK):
        return ok("state", f"{path} is not there yet: the first start makes it")
    user = name_of(machine.uid)
    return fail(
        "state",
        f"{path} is not there, and this user may not make it in {parent}",
        f"sudo install -d -m 700 -o {user} '{path}'",
    )


def _owners(machine: Machine, names: list[str]) -> Iterator[Finding]:
    path = machine.state_dir
    owner = machine.owner(path)
    if machine.uid not in (0, owner):
        yield warn(
            "owner",
            f"{path} belongs to {name_of(owner)}, and this is {name_of(machine.uid)}",
            f"sudo -u {name_of(owner)} toxmesh ops doctor --state-dir '{path}'",
        )
    others = [name for name in names if _can_stat(path / name)]
    others = [name for name in others if machine.owner(path / name) != owner]
    if others:
        yield fail(
            "owner",
            f"{', '.join(others[:5])} in {path} belong to another user than the directory, as "
            "happens when a node was started once as root: a start may fail",
            f"sudo chown -R {name_of(owner)}: '{path}'",
        )
    elif machine.uid in (0, owner):
        yield ok("owner", f"all of {path} belongs to {name_of(owner)}")


def _keys(machine: Machine, path: Path) -> Finding:
    """Looks at the keys file without ever telling what is in it."""
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return fail(
                "keys",
                f"{path} is a symbolic link, which no node follows",
                f"cp --remove-destination \"$(readlink -f '{path}')\" '{path}'",
            )
        if not stat.S_ISREG(found.st_mode):
            return fail("keys", f"{path} is no file", f"mv '{path}' '{path}.old'")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            return fail(
                "keys", f"others may use {path}: mode {mode:04o}", f"chmod 600 '{path}'"
            )
        data = path.read_bytes() if found.st_size == _KEYS_SIZE else b""
    except FileNotFoundError:
        return ok("keys", f"{path} is not there yet: the first start makes it")
    except PermissionError:
        owner = name_of(machine.owner(path)) if _can_stat(path) else "root"
        return deny(
            "keys",
            f"this user may not read {path}",
            f"sudo -u {owner} toxmesh ops doctor --state-dir '{path.parent}'",
        )
    again = f"toxmesh keys generate --force --state-dir '{path.parent}'"
    if len(data) != _KEYS_SIZE:
        return fail(
            "keys",
            f"{path} has {found.st_size} bytes, not {_KEYS_SIZE}: bring back a copy, or make new "
            "keys, under which nobody knows the node",
            again,
        )
    from core.crypto import KeyPair

    if KeyPair.from_secret(data[32:]).public != data[:32]:
        return fail(
            "keys",
            f"the halves of {path} do not belong together: bring back a copy, or make new keys, "
            "under which nobody knows the node",
            again,
        )
    return ok("keys", f"{path}: {_KEYS_SIZE} bytes, mode 0600, its halves belong together")


def _nodes(path: Path) -> Finding:
    try:
        size = path.lstat().st_size
    except OSError:
        return ok("nodes", f"{path} is not there yet: the first stop writes it")
    if size == 0:
        return warn("nodes", f"{path} is empty", f"rm '{path}'")
    return ok("nodes", f"{path}: {size:,} bytes")


def _disk(machine: Machine, path: Path) -> Finding:
    free = machine.free_bytes(path)
    text = f"{free >> 20:,} MiB are free on the disk of {path}"
    if free < _LOW_DISK:
        return fail("disk", text, "sudo journalctl --vacuum-size=100M")
    return ok("disk", text)


def _settings(machine: Machine) -> Iterator[Finding]:
    path = machine.config
    named = "" if path is None else f" '{path}'"
    for problem in machine.problems:
        if machine.may_read:
            yield fail("settings", problem, f"toxmesh config check{named}")
        else:
            yield deny("settings", problem, f"sudo toxmesh ops doctor --config{named}")
    if path is None:
        return
    try:
        found = path.stat()
    except OSError:
        return
    if found.st_mode & stat.S_IWOTH:
        yield fail("settings", f"anybody may write to {path}", f"chmod o-w '{path}'")
    elif not machine.problems:
        yield ok("settings", f"{path} can be used")


def node(machine: Machine) -> Finding:
    """Tells whether a node runs here."""
    path = machine.state_dir / CONTROL_SOCKET
    status = machine.status
    if status is None:
        if not machine.may_ask:
            where = f"--state-dir '{machine.state_dir}'"
            return deny("node", machine.no_answer, f"sudo toxmesh ops doctor {where}")
        if machine.no_answer:
            return fail("node", machine.no_answer, "sudo journalctl -u toxmesh -n 50")
        if exists(path):
            return warn(
                "node",
                f"nobody answers at {path}: the node did not end by itself",
                f"toxmesh run --state-dir '{machine.state_dir}'",
            )
        return ok("node", f"none runs here; toxmesh run --state-dir '{machine.state_dir}'")
    row = status.get("node") or {}
    rows = [status.get("broker") or {}, *(status.get("workers") or [])]
    bad = [str(one.get("name")) for one in rows if one.get("state") != "good"]
    text = f"toxmesh {row.get('version')}, process {row.get('pid')}, {len(rows)} processes"
    if bad:
        where = f"--state-dir '{machine.state_dir}'"
        return warn(
            "node", f"{text}; not at work: {', '.join(bad)}", f"toxmesh ops status {where}"
        )
    return ok("node", f"{text}, all at work")
