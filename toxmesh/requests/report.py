"""What a report to those who help has besides what other requests tell: settings and machine."""

import os
import platform
import resource
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toxmesh import __version__, status
from toxmesh.control import Request
from toxmesh.settings import Settings

if TYPE_CHECKING:
    from toxmesh.supervisor import Supervisor

_LIBRARIES = ("pyzmq", "PyNaCl", "msgpack", "orjson", "psutil", "h11", "click", "pydantic")
_LIMITS = {
    "open files": resource.RLIMIT_NOFILE,
    "locked memory": resource.RLIMIT_MEMLOCK,
    "address space": resource.RLIMIT_AS,
    "core file": resource.RLIMIT_CORE,
    "processes": resource.RLIMIT_NPROC,
}
_KERNEL = (
    "net/core/rmem_max",
    "net/core/rmem_default",
    "net/core/wmem_max",
    "net/core/netdev_max_backlog",
    "net/core/somaxconn",
    "net/core/optmem_max",
    "net/ipv4/udp_mem",
    "net/ipv4/tcp_mem",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv6/bindv6only",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_count",
    "fs/file-nr",
    "vm/overcommit_memory",
)
_SECRET = ("secret", "password", "token")
LEFT_OUT = "(left out)"


def requests(node: "Supervisor") -> dict[str, Request]:
    """Returns the requests of this group."""
    return {"facts": Request(lambda args: facts(node))}


def facts(node: "Supervisor") -> dict[str, Any]:
    """Tells with what the node runs, and on what. Nothing in it is a secret."""
    from toxmesh.web.metrics import Metrics

    beats = {row.name: row.beat for row in node.children}
    return {
        "versions": _versions(),
        "settings": plain_settings(node.settings),
        "system": _system(),
        "metrics": Metrics().render(status.report(node), beats).decode(),
    }


def plain_settings(settings: Settings) -> dict[str, Any]:
    """Returns the settings as plain data; one whose name says that it is a secret is left out."""
    values: dict[str, Any] = {}
    for name in sorted(type(settings).__dataclass_fields__):
        if any(word in name for word in _SECRET):
            values[name] = LEFT_OUT
        else:
            values[name] = _plain(getattr(settings, name))
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return [_plain(part) for part in value]
    if hasattr(value, "items"):
        return {str(name): _plain(part) for name, part in value.items()}
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _versions() -> dict[str, str]:
    found = {"toxmesh": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "-"
    return found


def _read(path: str) -> str:
    """Returns the text of a file of the system, or nothing where there is none."""
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _system() -> dict[str, Any]:
    name = os.uname()  # its nodename stays out: who runs the node is nobody's business
    release = dict(
        line.split("=", 1) for line in _read("/etc/os-release").splitlines() if "=" in line
    )
    memory = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    return {
        "kernel": f"{name.sysname} {name.release} {name.version} {name.machine}",
        "system": release.get("PRETTY_NAME", "").strip('"'),
        "at": round(time.time(), 3),
        "up_s": round(time.clock_gettime(time.CLOCK_BOOTTIME), 1),
        "time_zone": time.tzname[0],
        "cpus": os.cpu_count(),
        "cpus_of_this_process": len(os.sched_getaffinity(0)),
        "cpu_limit": _read("/sys/fs/cgroup/cpu.max"),
        "memory_limit": _read("/sys/fs/cgroup/memory.max"),
        "load": [round(part, 2) for part in os.getloadavg()],
        "memory": {part: memory.get(part, "").strip() for part in ("MemTotal", "MemAvailable")},
        "limits": {
            name: [_limit(part) for part in resource.getrlimit(number)]
            for name, number in _LIMITS.items()
        },
        "kernel_settings": {path.replace("/", "."): _read(f"/proc/sys/{path}") for path in _KERNEL},
        "user": os.geteuid(),
        "service": "INVOCATION_ID" in os.environ,  # systemd.exec(5)
        "arguments": sys.argv[1:],
    }


def _limit(value: int) -> int | None:
    """Returns a limit; None: there is none."""
    return None if value == resource.RLIM_INFINITY else value
