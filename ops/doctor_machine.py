"""What `toxmesh ops doctor` looks at, and what it finds: the machine as plain parameters.

Every place is below `root`, and what only the kernel knows is a function, so that tests can make
each finding happen.
"""

import ctypes
import errno
import os
import resource
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

OK, WARN, DENY, FAIL = "ok", "warn", "deny", "fail"
_STA_UNSYNC = 0x0040  # linux/timex.h
_TIME_ERROR = 5  # linux/timex.h: the clock is not synchronised
_TIMEX_SIZE = 1024  # bytes; more than struct timex has anywhere
_TIMEX_STATUS = 40  # where `status` stands in it: modes, offset, freq, maxerror, esterror before


class Finding(NamedTuple):
    """One thing that was looked at; `mend` is the line that mends it, empty where all is well."""

    area: str
    verdict: str
    text: str
    mend: str = ""


def ok(area: str, text: str) -> Finding:
    """All is well."""
    return Finding(area, OK, text)


def warn(area: str, text: str, mend: str) -> Finding:
    """The node works, but worse than it could."""
    return Finding(area, WARN, text, mend)


def deny(area: str, text: str, mend: str) -> Finding:
    """This user may not look at it: `mend` is who may."""
    return Finding(area, DENY, text, mend)


def fail(area: str, text: str, mend: str) -> Finding:
    """The node cannot start, or does not do its work."""
    return Finding(area, FAIL, text, mend)


def clock_is_synchronised() -> bool | None:
    """Tells whether the kernel's clock is kept by somebody; None: the kernel does not say."""
    library = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(_TIMEX_SIZE)  # modes 0: only read
    state = library.adjtimex(timex)
    if state < 0:
        return None
    status = ctypes.c_int.from_buffer(timex, _TIMEX_STATUS).value
    return state != _TIME_ERROR and not status & _STA_UNSYNC


def _own_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free


def _sodium_is_direct() -> bool:
    from core import crypto

    return crypto.BACKEND == "direct"


def _owner(path: Path) -> int:
    return path.lstat().st_uid


@dataclass(frozen=True)
class Plan:
    """What the settings want of the machine."""

    listen: tuple[str, ...] = ("0.0.0.0", "::")
    udp_port: int | None = None  # None: the first free one of the range; 0: off
    tcp_ports: tuple[int, ...] | None = None
    relay_connections: int = 20_000
    processes: int = 4  # broker and workers
    default_workers: str = "dht=1,onion=1,relay=1"  # for as many cores as there are


@dataclass(frozen=True)
class Machine:
    """The machine, as one look at it."""

    state_dir: Path
    plan: Plan = field(default_factory=Plan)
    status: Mapping[str, Any] | None = None
    """The node's own answer; None where no node answers."""
    no_answer: str = ""
    """Why it did not, if that is not simply because none runs."""
    config: Path | None = None
    problems: tuple[str, ...] = ()
    """Mistakes in the settings file."""
    may_ask: bool = True
    may_read: bool = True
    """Whether this user may open the control door, and read the settings file."""
    root: Path = Path("/")
    packages: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    prefix: str = sys.prefix
    """Of the Python environment that toxmesh runs in."""
    uid: int = field(default_factory=os.getuid)
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    owner: Callable[[Path], int] = _owner
    free_bytes: Callable[[Path], int] = _free_bytes
    synchronised: Callable[[], bool | None] = clock_is_synchronised
    descriptors: Callable[[], int] = _own_limit
    """The hard limit of this process; negative: none."""
    sodium_is_direct: Callable[[], bool] = _sodium_is_direct

    def read(self, path: str) -> str | None:
        """Returns a file of the system, None where there is none."""
        try:
            return (self.root / path).read_text("utf-8", "replace")
        except OSError:
            return None

    def whole_number(self, path: str) -> int | None:
        """Returns the number that a file of the system has."""
        try:
            return int((self.read(path) or "").split()[0])
        except (ValueError, IndexError):
            return None

    def sizes(self, path: str) -> dict[str, int]:
        """Returns rows such as `MemTotal: 12 kB` of a file, in bytes."""
        found = {}
        for line in (self.read(path) or "").splitlines():
            name, _, rest = line.partition(":")
            words = rest.split()
            if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
                found[name] = int(words[0]) << 10
        return found

    def pids(self) -> list[int]:
        """Returns the running node's processes, the supervisor first."""
        status = self.status or {}
        rows = [status.get("node"), status.get("broker"), *(status.get("workers") or [])]
        pids = [row.get("pid") for row in rows if isinstance(row, dict)]
        return [pid for pid in pids if isinstance(pid, int) and pid]

    def service(self) -> str:
        """Returns the systemd unit in which the node runs; empty where it is none."""
        pids = self.pids()
        for line in (self.read(f"proc/{pids[0]}/cgroup") or "").splitlines() if pids else ():
            last = line.rpartition("/")[2]
            if last.endswith(".service") and "/system.slice/" in line:
                return last
        return ""

    def unit_file(self) -> str | None:
        """Returns the installed systemd unit, the operator's own before the package's."""
        for place in ("etc/systemd/system", "lib/systemd/system", "usr/lib/systemd/system"):
            text = self.read(f"{place}/toxmesh.service")
            if text is not None:
                return text
        return None

    def set_in_unit(self, line: str) -> str:
        """Returns the command that sets one line in the unit's [Service]."""
        unit = self.service() or "toxmesh.service"
        folder = f"/etc/systemd/system/{unit}.d"
        name = line.partition("=")[0]
        return (
            f"sudo mkdir -p {folder} && printf '[Service]\\n{line}\\n' | sudo tee "
            f"{folder}/{name}.conf && sudo systemctl daemon-reload && "
            f"sudo systemctl restart {unit}"
        )


def exists(path: Path) -> bool:
    """Tells whether something is there, even if it may not be looked at."""
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.EACCES
    return True
