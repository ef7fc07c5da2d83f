"""The system: buffers of the kernel, descriptors, cores, memory, clock, limits of the service."""

from collections.abc import Iterator

from ops.doctor_files import name_of
from ops.doctor_machine import Finding, Machine, fail, ok, warn

BUFFER = 4 << 20  # bytes; what toxmesh/sockets.py asks for each UDP socket
DESCRIPTORS = 1 << 20  # what the service file asks for
_RESERVED = 64  # descriptors beside those of connections
_PER_PROCESS = 100 << 20  # bytes of memory that a process has under load
_LOW_MEMORY = 128 << 20
_FULL = 0.8  # of a table of the kernel
_LEAST_TASKS = 64


def buffers(machine: Machine) -> Iterator[Finding]:
    """The kernel gives a socket no more than net.core.rmem_max, unless root asks."""
    for name in ("rmem_max", "wmem_max"):
        found = machine.whole_number(f"proc/sys/net/core/{name}")
        if found is None:
            yield ok("buffers", f"net.core.{name} cannot be read here (a container)")
        elif found < BUFFER:
            yield warn(
                "buffers",
                f"net.core.{name} is {found:,}: UDP sockets get this instead of {BUFFER:,} bytes, "
                "and bursts are dropped",
                f"echo 'net.core.{name} = {BUFFER}' | sudo tee /etc/sysctl.d/60-toxmesh-{name}.conf"
                f" && sudo sysctl -w net.core.{name}={BUFFER}",
            )
        else:
            yield ok("buffers", f"net.core.{name} is {found:,}")


def descriptors(machine: Machine) -> Iterator[Finding]:
    """Each relay client takes a descriptor of the broker."""
    wanted = machine.plan.relay_connections + _RESERVED + 4 * machine.plan.processes
    found, whose = machine.descriptors(), "this user's"
    for pid in machine.pids()[1:2]:  # the broker
        for line in (machine.read(f"proc/{pid}/limits") or "").splitlines():
            if line.startswith("Max open files"):
                hard = line.split()[4]
                found, whose = -1 if hard == "unlimited" else int(hard), "the broker's"
    if machine.status is None:
        for line in (machine.unit_file() or "").splitlines():
            name, _, value = line.partition("=")
            if name == "LimitNOFILE" and value.split(":")[-1].isdigit():
                found, whose = int(value.split(":")[-1]), "the service's"
    if found < 0 or found >= wanted:
        limit = "none" if found < 0 else f"{found:,}"
        yield ok("descriptors", f"{whose} limit is {limit}, and {wanted:,} may be needed")
    else:
        lines = machine.set_in_unit(f"LimitNOFILE={DESCRIPTORS}")
        if not machine.service() and whose != "the service's":
            lines = (
                f"echo '{name_of(machine.uid)} hard nofile {DESCRIPTORS}' | sudo tee "
                "/etc/security/limits.d/toxmesh.conf   # then log in again"
            )
        make = fail if found < 1024 else warn
        yield make(
            "descriptors",
            f"{whose} limit is {found:,}: {wanted:,} are needed for "
            f"{machine.plan.relay_connections:,} TCP clients",
            lines,
        )
    used = (machine.read("proc/sys/fs/file-nr") or "").split()
    if len(used) == 3 and int(used[0]) > _FULL * int(used[2]):
        yield warn(
            "descriptors",
            f"the whole system has {int(used[0]):,} of {int(used[2]):,} open files",
            f"sudo sysctl -w fs.file-max={2 * int(used[2])}",
        )


def cores(machine: Machine) -> Iterator[Finding]:
    """A process that shares its core waits for it."""
    processes = len(machine.pids()) - 1 if machine.status else machine.plan.processes
    text = f"{processes} processes on {machine.cores} cores"
    if processes > max(4, machine.cores):  # the default never has fewer than four
        yield warn(
            "cores",
            f"{text}: they wait for each other",
            f"toxmesh run --workers {machine.plan.default_workers}   # or [workers] in the file",
        )
    else:
        yield ok("cores", text)
    quota = _quota(machine)
    if quota is not None and quota < min(processes, machine.cores):
        yield warn(
            "cores",
            f"the service may use {quota:g} cores' time, fewer than it has",
            machine.set_in_unit("CPUQuota="),
        )


def _group(machine: Machine, name: str) -> str | None:
    """Returns a file of the node's control group (version 2)."""
    for line in (machine.read(f"proc/{machine.pids()[0]}/cgroup") or "").splitlines():
        number, _, path = line.split(":", 2)
        if number == "0":
            return machine.read(f"sys/fs/cgroup/{path.lstrip('/')}/{name}")
    return None


def _quota(machine: Machine) -> float | None:
    words = (_group(machine, "cpu.max") or "").split() if machine.pids() else []
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else None


def memory(machine: Machine) -> Iterator[Finding]:
    """Memory for all processes, and none of them in the swap."""
    sizes = machine.sizes("proc/meminfo")
    available, total = sizes.get("MemAvailable"), sizes.get("MemTotal")
    if available is None or total is None:
        yield ok("memory", "cannot be read here (a container)")
        return
    wanted = 0 if machine.status else _PER_PROCESS * machine.plan.processes
    text = f"{available >> 20:,} of {total >> 20:,} MiB are available"
    who = "ps -eo rss,pid,comm --sort=-rss | head"
    if available < _LOW_MEMORY:
        yield fail("memory", text, who)
    elif available < wanted:
        mend = f"toxmesh run --workers {machine.plan.default_workers}"
        yield warn("memory", f"{text}, and a busy node wants {wanted >> 20:,}", mend)
    else:
        yield ok("memory", text)
    swapped = sum(machine.sizes(f"proc/{pid}/status").get("VmSwap", 0) for pid in machine.pids())
    swap = sizes.get("SwapTotal", 0)
    if swapped:
        yield warn(
            "swap",
            f"{swapped >> 20:,} MiB of the node are in the swap: answers wait for the disk",
            machine.set_in_unit("MemorySwapMax=0"),
        )
    else:
        yield ok("swap", f"{swap >> 20:,} MiB, nothing of the node in it")


def clock(machine: Machine) -> Iterator[Finding]:
    """Logs, restarts and certificates of others go by it; the protocol does not."""
    found = machine.synchronised()
    if found is None:
        yield ok("clock", "whether it is kept by somebody cannot be asked here (a container)")
    elif found:
        yield ok("clock", "is synchronised")
    else:
        yield warn(
            "clock", "is not synchronised: times in logs may be wrong",
            "sudo timedatectl set-ntp true",
        )  # fmt: skip


def service(machine: Machine) -> Iterator[Finding]:
    """Limits of the systemd unit, and whether it starts with the machine."""
    unit = machine.service()
    if not unit:
        yield from _not_a_service(machine)
        return
    tasks = (_group(machine, "pids.max") or "max").strip()
    if tasks != "max" and int(tasks) < _LEAST_TASKS:
        yield warn(
            "service",
            f"{unit} may have {tasks} tasks, which an upgrade may need more of",
            machine.set_in_unit(f"TasksMax={4 * _LEAST_TASKS}"),
        )
    most = (_group(machine, "memory.max") or "max").strip()
    wanted = _PER_PROCESS * machine.plan.processes
    if most != "max" and int(most) < wanted:
        yield warn(
            "service",
            f"{unit} may have {int(most) >> 20:,} MiB of memory, and a busy node wants "
            f"{wanted >> 20:,}",
            machine.set_in_unit(f"MemoryMax={wanted >> 20}M"),
        )
    if not _is_enabled(machine, unit):
        yield warn(
            "service", f"{unit} does not start with the machine", f"sudo systemctl enable {unit}"
        )
    else:
        yield ok("service", f"{unit} starts with the machine")


def _is_enabled(machine: Machine, unit: str) -> bool:
    wants = machine.root / "etc/systemd/system/multi-user.target.wants" / unit
    return wants.is_symlink() or wants.exists()


def _not_a_service(machine: Machine) -> Iterator[Finding]:
    unit = "toxmesh.service"
    if machine.unit_file() is None:
        yield ok("service", "not run by systemd")
    elif not _is_enabled(machine, unit):
        yield warn(
            "service",
            f"{unit} is installed and does not start with the machine",
            f"sudo systemctl enable --now {unit}",
        )
    else:
        yield ok("service", f"{unit} is installed and starts with the machine")
